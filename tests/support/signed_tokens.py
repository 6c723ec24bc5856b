"""Keys, the key set that publishes them, and tokens that must pass.

They fit a gateway that trusts `ISSUER` with `AUDIENCES` and the keys of `jwks()`, and demands `REQUIRED_CLAIMS`. Keys
are made once per process.
"""

import base64
import json
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

ISSUER = "https://issuer.test"
AUDIENCES = ("infer-gateway", "inference")
REQUIRED_CLAIMS = {"scope": "inference"}

ALGORITHMS = get_default_algorithms()
#: The seconds that a gateway allows `nbf` and `iat` by default.
CLOCK_SKEW = 60


class Case(NamedTuple):
    name: str
    #: Values of the request's Authorization headers, in order.
    authorization: tuple[str, ...]
    status: int = 200
    reason: str = ""


@cache
def keys() -> Mapping[str, Any]:
    """Private keys by the `kid` under which `jwks()` publishes them; `attacker-*` are not published."""
    return {
        "rsa": rsa.generate_private_key(65537, 2048),
        "rsa-ps": rsa.generate_private_key(65537, 2048),
        "p256": ec.generate_private_key(ec.SECP256R1()),
        "p384": ec.generate_private_key(ec.SECP384R1()),
        "p521": ec.generate_private_key(ec.SECP521R1()),
        "ed25519": ed25519.Ed25519PrivateKey.generate(),
        "enc": rsa.generate_private_key(65537, 2048),
        "weak": rsa.generate_private_key(65537, 1024),
        "k256": ec.generate_private_key(ec.SECP256K1()),
        "attacker-rsa": rsa.generate_private_key(65537, 2048),
        "attacker-p256": ec.generate_private_key(ec.SECP256R1()),
    }


def public_jwk(kid: str, /, **more: object) -> dict[str, object]:
    """The JWK of one of `keys()`, with further members."""
    public = keys()[kid].public_key()
    kind = "RS256" if isinstance(public, rsa.RSAPublicKey) else "EdDSA" if kid == "ed25519" else "ES256"
    jwk = ALGORITHMS[kind].to_jwk(public, as_dict=True)
    jwk.pop("key_ops", None)
    return {**jwk, "kid": kid, **more}


SECRET = base64.urlsafe_b64encode(b"a secret that a provider should never publish").rstrip(b"=").decode()


def jwks() -> bytes:
    """A key set of six good keys and of others that must not be used."""
    return jwk_set(
        public_jwk("rsa", use="sig"),
        public_jwk("rsa-ps", alg="PS256"),
        public_jwk("p256", alg="ES256", key_ops=["verify"]),
        public_jwk("p384"),
        public_jwk("p521"),
        public_jwk("ed25519"),
        public_jwk("enc", use="enc"),
        public_jwk("weak"),
        public_jwk("k256"),
        {"kty": "oct", "kid": "oct", "k": SECRET, "alg": "HS256"},
    )


def jwk_set(*entries: Mapping[str, object]) -> bytes:
    return json.dumps({"keys": entries}).encode()


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def json_text(value: Mapping[str, object] | bytes) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def claims(now: float, **more: object) -> dict[str, object]:
    """Claims that pass; None takes one away."""
    found = {
        "iss": ISSUER, "sub": "alice", "aud": AUDIENCES[0], "scope": "openid inference",
        "iat": int(now) - 10, "nbf": int(now) - 10, "exp": int(now) + 3600, **more,
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}


def sign(
    algorithm: str,
    kid: str,
    payload: Mapping[str, object] | bytes,
    *,
    header: Mapping[str, object] | bytes | None = None,
) -> str:
    """A token signed with one of `keys()`. `header` replaces the default one; bytes are taken as they are."""
    head = {"alg": algorithm, "kid": kid, "typ": "JWT"} if header is None else header
    signed = f"{b64(json_text(head))}.{b64(json_text(payload))}"
    return f"{signed}.{b64(ALGORITHMS[algorithm].sign(signed.encode(), keys()[kid]))}"


def valid(now: float) -> list[Case]:
    """Requests that must pass."""
    good = claims(now)

    def es(**more: object) -> str:
        return sign("ES256", "p256", claims(now, **more))

    def headed(**more: object) -> str:
        return sign("ES256", "p256", good, header={"alg": "ES256", "kid": "p256", **more})

    tokens = {
        **{name: sign(name, "rsa", good) for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")},
        "PS256 of a key for PS256": sign("PS256", "rsa-ps", good),
        "ES256": sign("ES256", "p256", good),
        "ES384": sign("ES384", "p384", good),
        "ES512": sign("ES512", "p521", good),
        "EdDSA": sign("EdDSA", "ed25519", good),
        "no kid, RSA": sign("RS256", "rsa", good, header={"alg": "RS256"}),
        "no kid, the second RSA key": sign("PS256", "rsa-ps", good, header={"alg": "PS256"}),
        "no kid, ECDSA": sign("ES256", "p256", good, header={"alg": "ES256"}),
        "no typ": headed(),
        "typ at+jwt": headed(typ="at+jwt"),
        "typ application/at+JWT": headed(typ="application/at+JWT"),
        "jku is not followed": headed(jku="https://attacker.test/jwks.json"),
        "an unknown header parameter": headed(x5t="dGhpcyBpcyBub3QgYSBjZXJ0"),
        "second audience": es(aud=AUDIENCES[1]),
        "list of audiences": es(aud=["other", AUDIENCES[0]]),
        "no sub": es(sub=None),
        "no nbf, no iat": es(nbf=None, iat=None),
        "nbf within the skew": es(nbf=now + CLOCK_SKEW - 5),
        "iat within the skew": es(iat=now + CLOCK_SKEW - 5),
        "dates with fractions": es(exp=now + 3600.5, iat=now - 0.5),
        "exp far away": es(exp=2**53),
        "scope of one word": es(scope="inference"),
        "scope as a list": es(scope=["openid", "inference"]),
        "text beyond ASCII": es(sub="Ålice ☃ 😀"),
        "text as UTF-8": sign("ES256", "p256", json.dumps(claims(now, sub="Ålice 😀"), ensure_ascii=False).encode()),
        "blanks in the JSON": sign("ES256", "p256", json.dumps(good, indent=2).encode()),
        "nested claims": es(realm={"roles": ["a", {"b": [None, True, 1.5]}]}),
        "a big token": es(groups=["g" * 40] * 120),
    }
    cases = [Case(name, (f"Bearer {token}",)) for name, token in tokens.items()]
    cases += [Case(f"scheme {scheme}", (f"{scheme} {es()}",)) for scheme in ("bearer", "BEARER", "bEaReR")]
    cases.append(Case("more spaces than one", (f"Bearer   {es()}",)))
    return cases
