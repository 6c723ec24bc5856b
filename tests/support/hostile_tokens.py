"""Requests that must be refused: every known attack on JWTs, and what is merely broken.

They fit the same gateway as `support.signed_tokens`. All header values are such that HTTP can carry them.
"""

import base64
import json
import math
from collections.abc import Mapping

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from support.signed_tokens import (
    ALGORITHMS,
    AUDIENCES,
    CLOCK_SKEW,
    ISSUER,
    SECRET,
    Case,
    b64,
    claims,
    json_text,
    keys,
    public_jwk,
    sign,
)


def hostile(now: float) -> list[Case]:
    """Requests that must be refused, with the status and the reason."""
    return [*_headers(now), *_forms(now), *_heads(now), *_keys(now), *_signatures(now), *_claims(now), *_forbidden(now)]


def _headers(now: float) -> list[Case]:
    token = sign("ES256", "p256", claims(now))
    big = sign("ES256", "p256", claims(now, groups="g" * 16384))
    return [
        Case("no header", (), 401, "missing"),
        Case("empty header", ("",), 401, "wrong_scheme"),
        Case("Basic", ("Basic YWxpY2U6c2VjcmV0",), 401, "wrong_scheme"),
        Case("DPoP", (f"DPoP {token}",), 401, "wrong_scheme"),
        Case("token without scheme", (token,), 401, "wrong_scheme"),
        Case("scheme glued to token", (f"Bearer{token}",), 401, "wrong_scheme"),
        Case("scheme and tab", (f"Bearer\t{token}",), 401, "wrong_scheme"),
        Case("scheme alone", ("Bearer",), 401, "malformed"),
        Case("something after the token", (f"Bearer {token} x",), 401, "malformed"),
        Case("two tokens in one header", (f"Bearer {token}, Bearer {token}",), 401, "malformed"),
        Case("token in quotes", (f'Bearer "{token}"',), 401, "malformed"),
        Case("two headers, both good", (f"Bearer {token}", f"Bearer {token}"), 401, "repeated_header"),
        Case("two headers, Basic first", ("Basic YTpi", f"Bearer {token}"), 401, "repeated_header"),
        Case("a good token that is too large", (f"Bearer {big}",), 431, "too_large"),
        Case("rubbish that is too large", ("Bearer " + "A" * 17000,), 431, "too_large"),
        Case("dots that are too many", ("Bearer " + "." * 8192,), 401, "malformed"),
    ]


def _forms(now: float) -> list[Case]:
    good = claims(now)
    token = sign("ES256", "p256", good)
    head, body, tail = token.split(".")
    text = json.dumps(good)

    def payload(data: bytes) -> str:
        return sign("ES256", "p256", data)

    def header(data: bytes) -> str:
        return sign("ES256", "p256", good, header=data)

    pairs = text[1:-1]
    tokens = {
        "one part": head,
        "two parts": f"{head}.{body}",
        "four parts": f"{token}.{tail}",
        "five parts, as a JWE": f"{token}.{tail}.{tail}",
        "empty first part": f".{body}.{tail}",
        "empty second part": f"{head}..{tail}",
        "padded base64url": f"{head}.{body}.{tail}==",
        "standard base64 alphabet": f"{head}.{body}+/.{tail}",
        "percent-encoded dot": token.replace(".", "%2e"),
        "NUL escaped in the token": token[:40] + "\\0" + token[40:],
        "non-ASCII in the token": token[:40] + "é" + token[40:],
        "non-canonical signature": f"{head}.{body}.{_uncanonical(tail)}",
        "a character too many": f"{head}.{body}.{tail}AAA",
        "header is no JSON": header(b"alg=ES256"),
        "header is a list": header(b'["ES256"]'),
        "header is a string": header(b'"ES256"'),
        "header is null": header(b"null"),
        "alg twice": header(b'{"alg":"none","kid":"p256","alg":"ES256"}'),
        "kid twice": header(b'{"alg":"ES256","kid":"rsa","kid":"p256"}'),
        "header in UTF-16": header('{"alg":"ES256","kid":"p256"}'.encode("utf-16")),
        "payload is no JSON": payload(b"sub=alice"),
        "payload is a list": payload(f"[{text}]".encode()),
        "payload is a token": payload(token.encode()),
        "payload is a number": payload(b"1e3"),
        "payload is cut": payload(text[:-1].encode()),
        "payload with a tail": payload(f"{text}{text}".encode()),
        "payload with a BOM": payload(b"\xef\xbb\xbf" + text.encode()),
        "payload in UTF-16": payload(text.encode("utf-16")),
        "payload is not UTF-8": payload(text.replace("alice", "al\udcffce").encode("utf-8", "surrogateescape")),
        "lone surrogate": payload(text.replace("alice", "\\ud800").encode()),
        "control character in a string": payload(text.replace("alice", "al\nice").encode()),
        "exp twice": payload(f'{{{pairs},"exp":9999999999}}'.encode()),
        "iss twice": payload(f'{{"iss":"https://attacker.test",{pairs}}}'.encode()),
        "name twice, deep inside": payload(f'{{{pairs},"a":[{{"b":1,"b":2}}]}}'.encode()),
        "name twice, one escaped": payload(f'{{{pairs},"\\u0073ub":"root"}}'.encode()),
        "NaN somewhere": payload(f'{{{pairs},"a":NaN}}'.encode()),
        "deep nesting": payload(f'{{{pairs},"a":{"[" * 2500}{"]" * 2500}}}'.encode()),
        "nesting that every parser could follow": payload(f'{{{pairs},"a":{"[" * 40}{"]" * 40}}}'.encode()),
        "comment in the JSON": payload(f"{{/**/{pairs}}}".encode()),
        "single quotes": payload(text.replace('"', "'").encode()),
        "an integer of 5000 digits": payload(f'{{{pairs},"a":{"9" * 5000}}}'.encode()),
    }
    return [Case(name, (f"Bearer {token}",), 401, "malformed") for name, token in tokens.items()]


def _heads(now: float) -> list[Case]:
    good = claims(now)

    def headed(**more: object) -> tuple[str, ...]:
        return (f"Bearer {sign('ES256', 'p256', good, header={'alg': 'ES256', 'kid': 'p256', **more})}",)

    body = b64(json.dumps(good).encode())
    none = [(alg, "unsupported_algorithm") for alg in ("none", "None", "NONE", "nOnE", "none ", "\x00none", "")]
    rows = [
        Case(f"alg {alg!r}, no signature", _bearer(f"{b64(json_text({'alg': alg}))}.{body}."), 401, reason)
        for alg, reason in [*none, (None, "malformed"), (0, "malformed"), (["none"], "malformed")]
    ]
    rows += [
        Case("alg none with a good signature", headed(alg="none"), 401, "unsupported_algorithm"),
        Case("alg in lower case", headed(alg="es256"), 401, "unsupported_algorithm"),
        Case("alg ES256K", headed(alg="ES256K"), 401, "unsupported_algorithm"),
        Case("alg of an encryption", headed(alg="RSA-OAEP"), 401, "unsupported_algorithm"),
        Case("alg is a list", headed(alg=["ES256"]), 401, "malformed"),
        Case("alg is an object", headed(alg={"ES256": 1}), 401, "malformed"),
        Case("no alg", _bearer(sign("ES256", "p256", good, header={"kid": "p256"})), 401, "malformed"),
        Case("crit unknown", headed(crit=["x"], x=1), 401, "critical_header"),
        Case("crit empty", headed(crit=[]), 401, "critical_header"),
        Case("crit null", headed(crit=None), 401, "critical_header"),
        Case("crit b64", headed(crit=["b64"], b64=False), 401, "critical_header"),
        Case("b64 without crit", headed(b64=False), 401, "critical_header"),
        Case("typ logout+jwt", headed(typ="logout+jwt"), 401, "wrong_type"),
        Case("typ DPoP+JWT", headed(typ="DPoP+JWT"), 401, "wrong_type"),
        Case("typ application/secevent+jwt", headed(typ="application/secevent+jwt"), 401, "wrong_type"),
        Case("typ is a number", headed(typ=1), 401, "malformed"),
        Case("kid is a number", headed(kid=1), 401, "malformed"),
        Case("kid is null", headed(kid=None), 401, "malformed"),
        Case("kid is a list", headed(kid=["p256"]), 401, "malformed"),
        Case("kid is an object", headed(kid={"p256": 1}), 401, "malformed"),
        Case("kid is very long", headed(kid="p256" * 100), 401, "malformed"),
    ]
    rows += [
        Case(f"kid {kid!r}", headed(kid=kid), 401, "unknown_key")
        for kid in (
            "",
            "P256",
            "p256 ",
            "p256\x00",
            "../../../dev/null",
            "' OR '1'='1",
            "|sleep 9",
            "https://attacker.test",
        )
    ]
    return rows


def _keys(now: float) -> list[Case]:
    good = claims(now)
    mine = public_jwk("attacker-p256")

    def ecdsa(**header: object) -> str:
        return sign("ES256", "attacker-p256", good, header={"alg": "ES256", **header})

    def rsa(**header: object) -> str:
        return sign("RS256", "attacker-rsa", good, header={"alg": "RS256", **header})

    def ours(signed_as: str, by: str, **header: object) -> str:
        return sign(signed_as, by, good, header=header)

    published = base64.urlsafe_b64decode(SECRET + "==")
    rows = [
        ("embedded jwk", "embedded_key", ecdsa(jwk=mine)),
        ("embedded jwk and a known kid", "embedded_key", ecdsa(jwk=mine, kid="p256")),
        ("embedded x5c", "embedded_key", rsa(x5c=["MIIB"], kid="rsa")),
        ("x5u", "embedded_key", rsa(x5u="https://attacker.test/x", kid="rsa")),
        ("jku and a known kid", "bad_signature", ecdsa(jku="http://attacker.test/", kid="p256")),
        ("jku and a kid of its own", "unknown_key", ecdsa(jku="http://attacker.test/", kid="mine")),
        ("another's key, known kid", "bad_signature", rsa(kid="rsa")),
        ("another's key, no kid", "bad_signature", rsa()),
        ("a key for encryption", "unknown_key", sign("RS256", "enc", good)),
        ("a key for encryption, no kid", "bad_signature", ours("RS256", "enc", alg="RS256")),
        ("a weak key", "unknown_key", sign("RS256", "weak", good)),
        ("secp256k1 as ES256", "unknown_key", ours("ES256K", "k256", alg="ES256", kid="k256")),
        ("the wrong one of our keys", "bad_signature", ours("PS256", "rsa", alg="PS256", kid="rsa-ps")),
        ("RS256 with a key for PS256", "unsupported_algorithm", sign("RS256", "rsa-ps", good)),
        ("RS256 with a key for PS256, no kid", "bad_signature", ours("RS256", "rsa-ps", alg="RS256")),
        ("ES256 with an RSA key's kid", "unsupported_algorithm", ours("ES256", "p256", alg="ES256", kid="rsa")),
        ("ES384 with a P-256 key's kid", "unsupported_algorithm", ours("ES384", "p384", alg="ES384", kid="p256")),
        ("EdDSA with a P-256 key's kid", "unsupported_algorithm", ours("EdDSA", "ed25519", alg="EdDSA", kid="p256")),
        ("HS256 with the published secret", "unsupported_algorithm", _hmac("HS256", published, "oct", good)),
    ]
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    for kid in ("rsa", "p256"):
        public = keys()[kid].public_key()
        pem = public.public_bytes(serialization.Encoding.PEM, spki)
        secrets = {
            "PEM": pem,
            "PEM without the last newline": pem.rstrip(),
            "DER": public.public_bytes(serialization.Encoding.DER, spki),
            "JWK": json.dumps(public_jwk(kid)).encode(),
        }
        rows += [
            (f"{alg}, secret: {form} of key {kid}", "unsupported_algorithm", _hmac(alg, secret, kid, good))
            for form, secret in secrets.items()
            for alg in ("HS256", "HS512")
        ]
    return [Case(name, _bearer(token), 401, reason) for name, reason, token in rows]


def _signatures(now: float) -> list[Case]:
    good, root = claims(now), claims(now, sub="root")

    def swapped(algorithm: str, named: str, kid: str) -> str:
        return sign(algorithm, kid, good, header={"alg": named, "kid": kid})

    def rejoined(algorithm: str, kid: str, signature: bytes) -> str:
        return f"{sign(algorithm, kid, good).rpartition('.')[0]}.{b64(signature)}"

    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    tokens: dict[str, str] = {}
    for algorithm, kid in (
        ("RS256", "rsa"),
        ("PS256", "rsa"),
        ("ES256", "p256"),
        ("ES512", "p521"),
        ("EdDSA", "ed25519"),
    ):
        token = sign(algorithm, kid, good)
        head, body, tail = token.split(".")
        raw = base64.urlsafe_b64decode(tail + "==")
        plainer = b64(json_text({"alg": algorithm, "kid": kid}))
        tokens |= {
            f"{algorithm}: no signature": f"{head}.{body}.",
            f"{algorithm}: signature cut by a byte": f"{head}.{body}.{b64(raw[:-1])}",
            f"{algorithm}: signature cut in half": f"{head}.{body}.{b64(raw[: len(raw) // 2])}",
            f"{algorithm}: signature with a byte more": f"{head}.{body}.{b64(raw + b'x')}",
            f"{algorithm}: first bit flipped": f"{head}.{body}.{b64(bytes([raw[0] ^ 0x80]) + raw[1:])}",
            f"{algorithm}: last bit flipped": f"{head}.{body}.{b64(raw[:-1] + bytes([raw[-1] ^ 1]))}",
            f"{algorithm}: all zero": f"{head}.{body}.{b64(bytes(len(raw)))}",
            f"{algorithm}: all ones": f"{head}.{body}.{b64(bytes([255]) * len(raw))}",
            f"{algorithm}: signature of another payload": f"{head}.{b64(json_text(root))}.{tail}",
            f"{algorithm}: signature of another header": f"{plainer}.{body}.{tail}",
        }
    signed = sign("ES256", "p256", good).rpartition(".")[0]
    der = keys()["p256"].sign(signed.encode(), ec.ECDSA(hashes.SHA256()))
    tokens |= {
        "ES256: DER instead of r and s": f"{signed}.{b64(der)}",
        "ES256: r and s are the order": rejoined("ES256", "p256", order.to_bytes(32, "big") * 2),
        "ES256: r is 1, s is 0": rejoined("ES256", "p256", bytes(31) + b"\x01" + bytes(32)),
        "ES256: r is 0, s is 1": rejoined("ES256", "p256", bytes(63) + b"\x01"),
        "PS256 named RS256": swapped("PS256", "RS256", "rsa"),
        "RS256 named PS256": swapped("RS256", "PS256", "rsa"),
        "RS256 named RS512": swapped("RS256", "RS512", "rsa"),
        "PS512 named PS256": swapped("PS512", "PS256", "rsa"),
    }  # fmt: skip
    return [Case(name, _bearer(token), 401, "bad_signature") for name, token in tokens.items()]


def _claims(now: float) -> list[Case]:
    rows: list[tuple[str, str, Mapping[str, object]]] = [
        ("exp missing", "no_expiry", {"exp": None}),
        ("expired by 1 s", "expired", {"exp": int(now) - 1}),
        ("expired in this second", "expired", {"exp": int(now)}),
        ("expired long ago", "expired", {"exp": 1}),
        ("exp is 0", "expired", {"exp": 0}),
        ("exp is negative", "expired", {"exp": -(2**40)}),
        ("exp is a string", "malformed", {"exp": str(int(now) + 3600)}),
        ("exp is an empty string", "malformed", {"exp": ""}),
        ("exp is true", "malformed", {"exp": True}),
        ("exp is a list", "malformed", {"exp": [int(now) + 3600]}),
        ("exp is an object", "malformed", {"exp": {"$gt": 0}}),
        ("exp is NaN", "malformed", {"exp": math.nan}),
        ("exp is Infinity", "malformed", {"exp": math.inf}),
        ("exp is 10^300", "malformed", {"exp": 10**300}),
        ("exp is 1e300", "malformed", {"exp": 1e300}),
        ("exp is beyond 2^53", "malformed", {"exp": 2**53 + 1}),
        ("nbf ahead", "not_yet_valid", {"nbf": int(now) + 3600}),
        ("nbf a little beyond the skew", "not_yet_valid", {"nbf": now + CLOCK_SKEW + 20}),
        ("nbf is a string", "malformed", {"nbf": "0"}),
        ("nbf is false", "malformed", {"nbf": False}),
        ("nbf is NaN", "malformed", {"nbf": math.nan}),
        ("iat ahead", "not_yet_valid", {"iat": int(now) + 3600}),
        ("iat is a list", "malformed", {"iat": []}),
        ("iat is minus infinity", "malformed", {"iat": -math.inf}),
        ("iss missing", "wrong_issuer", {"iss": None}),
        ("iss empty", "wrong_issuer", {"iss": ""}),
        ("iss of another", "wrong_issuer", {"iss": "https://attacker.test"}),
        ("iss with a slash", "wrong_issuer", {"iss": ISSUER + "/"}),
        ("iss in capitals", "wrong_issuer", {"iss": ISSUER.upper()}),
        ("iss that begins right", "wrong_issuer", {"iss": ISSUER + ".attacker.test"}),
        ("iss is a list", "malformed", {"iss": [ISSUER]}),
        ("iss is an object", "malformed", {"iss": {ISSUER: 1}}),
        ("aud missing", "wrong_audience", {"aud": None}),
        ("aud empty", "wrong_audience", {"aud": ""}),
        ("aud of another", "wrong_audience", {"aud": "other"}),
        ("aud that holds the word", "wrong_audience", {"aud": f"x {AUDIENCES[0]}"}),
        ("aud in capitals", "wrong_audience", {"aud": AUDIENCES[0].upper()}),
        ("aud is an empty list", "wrong_audience", {"aud": []}),
        ("aud is a list of others", "wrong_audience", {"aud": ["a", "b"]}),
        ("aud is an object", "malformed", {"aud": {AUDIENCES[0]: True}}),
        ("aud is true", "malformed", {"aud": True}),
        ("aud is a nested list", "malformed", {"aud": [[AUDIENCES[0]]]}),
        ("aud is a list with a number", "malformed", {"aud": [AUDIENCES[0], 1]}),
        ("sub is a number", "malformed", {"sub": 0}),
        ("sub is a list", "malformed", {"sub": ["alice"]}),
        ("sub is an object", "malformed", {"sub": {"name": "alice"}}),
    ]  # fmt: skip
    cases = [
        Case(name, _bearer(sign("ES256", "p256", claims(now, **more))), 401, reason) for name, reason, more in rows
    ]
    for name in ("exp", "nbf", "aud", "iss", "sub"):
        text = json.dumps(claims(now, **{name: None}))[:-1] + f', "{name}": null}}'
        cases.append(Case(f"{name} is null", _bearer(sign("ES256", "p256", text.encode())), 401, "malformed"))
    text = json.dumps(claims(now, exp=None))[:-1] + ', "exp": 1e999}'
    cases.append(Case("exp is 1e999", _bearer(sign("ES256", "p256", text.encode())), 401, "malformed"))
    return cases


def _forbidden(now: float) -> list[Case]:
    rows: list[tuple[str, object]] = [
        ("missing", None),
        ("another", "openid"),
        ("a longer word", "inference-admin"),
        ("in capitals", "INFERENCE"),
        ("separated by commas", "openid,inference"),
        ("a list of others", ["openid"]),
        ("a nested list", [["inference"]]),
        ("true", True),
        ("an object", {"inference": True}),
        ("empty", ""),
    ]
    return [
        Case(f"scope {name}", _bearer(sign("ES256", "p256", claims(now, scope=value))), 403, "missing_claim")
        for name, value in rows
    ]


def _bearer(token: str) -> tuple[str, ...]:
    return (f"Bearer {token}",)


def _hmac(algorithm: str, secret: bytes, kid: str, payload: Mapping[str, object]) -> str:
    signed = f"{b64(json_text({'alg': algorithm, 'kid': kid}))}.{b64(json_text(payload))}"
    # Not through prepare_key: PyJWT refuses to misuse a public key so, and an attacker's library does not.
    return f"{signed}.{b64(ALGORITHMS[algorithm].sign(signed.encode(), secret))}"


def _uncanonical(text: str) -> str:
    """Another text that a lenient decoder turns into the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) + 1]
