import pytest
from support.fixed_keys import FixedKeys
from support.signed_tokens import AUDIENCES, ISSUER, claims, jwks, sign

from extproc.auth.apikeys import ApiKeys, hashed, read_api_keys
from extproc.auth.base import AuthPolicy, Identity, Issuer
from extproc.auth.credentials import Credentials
from extproc.auth.jwt import Authenticator
from extproc.auth.keys import read_jwks
from extproc.errors import Refusal
from extproc.protocol.headers import Headers

NOW = 1_800_000_000.0
KEYS = read_api_keys(
    f"keys: [{{name: a, hash: {hashed('one')}}}, {{name: b, hash: {hashed('x.y.z')}, expires: 2027-01-14}}]".encode()
)


class Ring:
    def __init__(self, keys: ApiKeys | None) -> None:
        self.keys = keys


def credentials(ring: Ring | None = None, *, issuers: bool = True) -> Credentials:
    policy = AuthPolicy(
        issuers=(Issuer(ISSUER, AUDIENCES, "https://i.test/k"),) if issuers else (), api_keys_file="/keys"
    )
    tokens = Authenticator(policy, [FixedKeys(read_jwks(jwks()))] if issuers else [])
    return Credentials(tokens, api_keys=ring, token_headers=("x-api-key", "api-key"), jwts=issuers)


def subject(one: Credentials, *headers: tuple[str, str]) -> str:
    verdict = one.check(Headers([(name, value.encode()) for name, value in headers]), now=NOW)
    assert isinstance(verdict, Identity)
    return verdict.subject


def refused(one: Credentials, *headers: tuple[str, str]) -> tuple[int, str]:
    with pytest.raises(Refusal) as caught:
        subject(one, *headers)
    return caught.value.status, caught.value.detail


TOKEN = sign("ES256", "p256", claims(NOW))


def test_a_token_may_be_in_any_of_the_headers() -> None:
    one = credentials()
    expected = str(claims(NOW)["sub"])
    for header in (("authorization", f"Bearer {TOKEN}"), ("x-api-key", TOKEN), ("api-key", TOKEN)):
        assert subject(one, header) == expected
    # The Authorization header counts, whatever the others say; then they count in their order.
    assert subject(one, ("x-api-key", "rubbish"), ("authorization", f"Bearer {TOKEN}")) == expected
    assert refused(one, ("x-api-key", TOKEN), ("authorization", "Bearer rubbish")) == (401, "malformed")
    assert refused(one, ("api-key", TOKEN), ("x-api-key", "rubbish")) == (401, "malformed")
    assert refused(one, ("x-api-key", TOKEN), ("x-api-key", TOKEN)) == (401, "repeated_header")
    assert refused(one, ("x-other-key", TOKEN)) == (401, "missing")
    assert refused(one, ("x-api-key", f"Bearer {TOKEN}")) == (401, "malformed")


def test_api_keys_beside_tokens() -> None:
    one = credentials(Ring(KEYS))
    for header in (("authorization", "Bearer one"), ("authorization", "bearer one"), ("x-api-key", "one")):
        assert subject(one, header) == "a"
    assert subject(one, ("x-api-key", TOKEN)) == str(claims(NOW)["sub"])
    assert refused(one, ("x-api-key", "two")) == (401, "unknown_api_key")
    assert refused(one, ("x-api-key", "")) == (401, "unknown_api_key")
    assert refused(one, ("authorization", "Basic one")) == (401, "wrong_scheme")
    assert refused(one, ("authorization", "Bearer one"), ("authorization", "Bearer one")) == (401, "repeated_header")
    # With two dots it is a JWT, or nothing.
    assert refused(one, ("x-api-key", "x.y.z"))[0] == 401


def test_api_keys_in_place_of_tokens() -> None:
    one = credentials(Ring(KEYS), issuers=False)
    assert subject(one, ("x-api-key", "one")) == "a"
    assert refused(one, ("x-api-key", "x.y.z")) == (401, "expired")
    assert refused(one, ("authorization", f"Bearer {TOKEN}")) == (401, "unknown_api_key")
    assert refused(one) == (401, "missing")


def test_without_the_file_nobody_is_let_in() -> None:
    assert refused(credentials(Ring(None)), ("x-api-key", "one")) == (503, "keys_unavailable")


def test_a_key_that_was_taken_back_is_refused_at_once() -> None:
    ring = Ring(KEYS)
    one = credentials(ring)
    assert subject(one, ("x-api-key", "one")) == "a"
    ring.keys = ApiKeys([])
    assert refused(one, ("x-api-key", "one")) == (401, "unknown_api_key")
