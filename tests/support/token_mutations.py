"""Authorization headers and key sets spoilt at random, and what must hold of each.

`input_of(seed)` gives the same kind of change for the same seed; keys and signatures are new in each process, so a failing
input is to be kept as bytes, not as a seed.
"""

import json
from random import Random
from typing import Any, NamedTuple

import jwt as pyjwt
from support.fixed_keys import FixedKeys
from support.hostile_tokens import hostile
from support.signed_tokens import AUDIENCES, CLOCK_SKEW, ISSUER, REQUIRED_CLAIMS, claims, jwks, sign, valid

from extproc.auth.base import AuthPolicy, Identity, Issuer, Reason
from extproc.auth.jwt import Authenticator
from extproc.auth.keys import JwksError, KeySet, read_jwks
from extproc.errors import Refusal
from extproc.protocol.events import RequestHeaders
from extproc.protocol.headers import AUTHORIZATION, Headers

NOW = 1_800_000_000.0
KEYS = read_jwks(jwks())
KEY_SET = jwks()
_CASES = [*valid(NOW), *hostile(NOW)]
#: Header values to start from: every valid and every hostile one.
SEEDS = [value.encode("latin-1") for case in _CASES for value in case.authorization]
#: What a status may be said with.
STATUSES = {"missing_claim": 403, "keys_unavailable": 503, "too_large": 431}

#: JSON values, as text, that have fooled somebody before.
_NASTY = (
    "null", "true", "false", "0", "-0", "-1", "1e3", "1e999", "-1e999", "NaN", "Infinity", "1.5", "9007199254740993",
    "1" + "0" * 300, '""', '"0"', '" "', '"\\u0000"', '"\\ud800"', '"\\ud83d\\ude00"', "[]", "[[]]", "{}", '["none"]',
    '{"a":{"a":{}}}', "[" * 50 + "]" * 50, "'x'", "//", "1 2", "\xa0", '"none"', '"HS256"', '"ES256"', '"EdDSA"',
    '"p256"', '"ed25519"', '"rsa"', '["exp"]', '"at+jwt"', '"logout+jwt"', json.dumps(ISSUER), json.dumps(AUDIENCES[0]),
    json.dumps([*AUDIENCES]), '"inference"', '"openid inference"', str(int(NOW) - 1), str(int(NOW) + 60),
    str(int(NOW) + 61), str(int(NOW) + 9999), f"{NOW + 0.5}",
)  # fmt: skip
_HEADER_NAMES = ("alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x5c", "x5u", "x5t", "cty", "zip", "a", "\\u0061lg")
_CLAIM_NAMES = ("iss", "sub", "aud", "exp", "nbf", "iat", "scope", "jti", "models", "a", "\\u0065xp")


class Input(NamedTuple):
    """One input: a request's Authorization headers, or a key set."""

    authorization: tuple[bytes, ...] = ()
    key_set: bytes | None = None


def input_of(seed: int) -> Input:
    rng = Random(seed)
    kind = rng.randrange(100)
    if kind < 3:
        return Input(key_set=_spoilt(rng, KEY_SET))
    if kind < 18:
        return Input((_signed_again(rng),))
    count = rng.choice((1, 1, 1, 1, 1, 1, 1, 1, 0, 2))
    return Input(tuple(_spoilt(rng, rng.choice(SEEDS)) for _ in range(count)))


def authenticator() -> Authenticator:
    issuer = Issuer(ISSUER, AUDIENCES, "https://issuer.test/jwks")
    return Authenticator(AuthPolicy((issuer,), required_claims=REQUIRED_CLAIMS), [FixedKeys(KEYS)])


def check(auth: Authenticator, given: Input) -> str:
    """Runs an input, and says what came out. AssertionError, or whatever was raised, where that may not be."""
    if given.key_set is not None:
        try:
            keys = read_jwks(given.key_set)
        except JwksError:
            return "key set: no key set"
        assert isinstance(keys, KeySet)
        return "key set: read"
    items = [("x-other", b"Bearer x"), *((AUTHORIZATION, value) for value in given.authorization)]
    head = RequestHeaders(Headers(items), end_of_stream=True)
    said = _verdict(auth, head)
    # A verdict that was kept is the same as the one that was found.
    again = _verdict(auth, head)
    assert (said, type(said)) == (again, type(again))
    if isinstance(said, Reason):
        return said.value
    assert len(given.authorization) == 1
    _assert_genuine(given.authorization[0], said)
    return "accepted"


def _verdict(auth: Authenticator, head: RequestHeaders) -> Identity | Reason:
    headers = head.headers
    try:
        found = auth.check(headers.raw(AUTHORIZATION), headers.count(AUTHORIZATION), now=NOW, final=True)
    except Refusal as refusal:
        reason = Reason(refusal.detail)
        assert refusal.status == STATUSES.get(reason.value, 401)
        assert ("www-authenticate" in refusal.headers) == (refusal.status != 431)
        return reason
    assert isinstance(found, Identity)
    return found


def _assert_genuine(authorization: bytes, identity: Identity) -> None:
    """PyJWT, which shares no parser with us, finds the same: signed by a published key, and claims that suffice.

    A change to a hostile token may make it good again, so "hostile before" is no proof against it.
    """
    scheme, _, token = authorization.decode("ascii").partition(" ")
    assert scheme.lower() == "bearer"
    token = token.lstrip(" ")  # RFC 6750: one space or more
    header = pyjwt.get_unverified_header(token)
    assert not {"crit", "b64", "jwk", "x5c", "x5u"} & set(header)
    claims_ = _decoded(token, header)
    assert dict(identity.claims) == claims_
    assert type(claims_["exp"]) in (int, float)
    assert claims_["exp"] > NOW
    assert all(claims_.get(name, 0) <= NOW + CLOCK_SKEW for name in ("nbf", "iat"))
    scope = claims_["scope"]
    assert "inference" in (scope.split() if isinstance(scope, str) else scope)


def _decoded(token: str, header: dict[str, Any]) -> dict[str, Any]:
    # Time is judged above: the fuzzer's clock stands still. `jti` is nobody's business here.
    options: Any = {f"verify_{name}": False for name in ("exp", "nbf", "iat", "jti")}
    options["require"] = ["exp", "iss", "aud"]
    for key in KEYS.fitting(header.get("kid"), header["alg"]):
        try:
            return pyjwt.decode(
                token, key, algorithms=[header["alg"]], audience=AUDIENCES, issuer=ISSUER, options=options
            )
        except pyjwt.InvalidSignatureError:
            continue
    raise AssertionError("no published key has signed it")


def _spoilt(rng: Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(8):
            case 0:
                out[at:at] = rng.randbytes(rng.randint(1, 3))
            case 1:
                del out[at : at + rng.randint(1, 40)]
            case 2:
                out[at : at + 1] = bytes([rng.choice(b"AZaz09-_.= ,\t\"'{}[]:\\")])
            case 3:
                # The head of one, the tail of another.
                other = rng.choice(SEEDS)
                out[at:] = other[min(at, len(other)) :]
            case 4:
                # A part of another in the place of its own.
                mine, theirs = bytes(out).split(b"."), rng.choice(SEEDS).split(b".")
                index = rng.randrange(len(mine))
                mine[index] = theirs[min(index, len(theirs) - 1)]
                out[:] = b".".join(mine)
            case 5:
                out[at:at] = out[at : at + rng.randint(1, 60)]
            case 6:
                out[at:at] = rng.choice((b".", b"..", b"=", b" ", b", Bearer ", b"\x00", b"\xff", b"%2e"))
            case _:
                if at < len(out):
                    out[at] ^= 1 << rng.randrange(8)
    return bytes(out)


def _signed_again(rng: Random) -> bytes:
    """A token whose header or claims are spoilt and then signed, so that what is behind the signature is reached."""
    algorithm, kid = rng.choice((("EdDSA", "ed25519"), ("ES256", "p256")))
    head = {"alg": algorithm, "kid": kid, "typ": "JWT"}
    header, payload = json.dumps(head), json.dumps(claims(NOW))
    which = rng.randrange(4)
    if which != 0:
        payload = _spoilt_json(rng, claims(NOW), _CLAIM_NAMES)
    if which == 0 or rng.randrange(8) == 0:
        header = _spoilt_json(rng, head, _HEADER_NAMES)
    token = sign(algorithm, kid, payload.encode("latin-1"), header=header.encode("latin-1"))
    return f"Bearer {token}".encode()


def _spoilt_json(rng: Random, value: dict[str, Any], names: tuple[str, ...]) -> str:
    pairs = [(name, json.dumps(item)) for name, item in value.items()]
    for _ in range(rng.randint(1, 3)):
        match rng.randrange(4):
            case 0 if pairs:
                pairs.pop(rng.randrange(len(pairs)))
            case 1:
                pairs.insert(rng.randrange(len(pairs) + 1), (rng.choice(names), rng.choice(_NASTY)))
            case _:
                name = rng.choice(names)
                pairs = [one for one in pairs if one[0] != name]
                pairs.append((name, rng.choice(_NASTY)))
    text = "{" + ", ".join(f'"{name}": {item}' for name, item in pairs) + "}"
    if rng.randrange(10) == 0:
        at = rng.randrange(len(text))
        text = (
            text[:at] + rng.choice(("", "}", '"', "\\", "\n", "\x00", "\xff", "/**/")) + text[at + rng.randrange(3) :]
        )
    return text
