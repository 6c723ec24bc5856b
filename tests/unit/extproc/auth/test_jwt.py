import random
from pathlib import Path
from typing import Any

import jwt as pyjwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fixed_keys import FixedKeys
from support.hostile_tokens import hostile
from support.signed_tokens import (
    AUDIENCES,
    ISSUER,
    REQUIRED_CLAIMS,
    Case,
    b64,
    claims,
    json_text,
    jwk_set,
    jwks,
    public_jwk,
    sign,
    valid,
)

from extproc.auth import jwt as jwt_module
from extproc.auth.base import MAX_TOKEN, AuthPolicy, Identity, Issuer, Pending, Reason
from extproc.auth.cache import REFUSED_FOR, VerdictCache
from extproc.auth.jwt import Authenticator, refusal
from extproc.auth.keys import KeySet, read_jwks, verify
from extproc.errors import Refusal

NOW = 1_800_000_000.0
KEYS = read_jwks(jwks())
DATA = Path(__file__).parents[3] / "data" / "jwt"


def authenticator(
    source: FixedKeys | None = None, *, audiences: tuple[str, ...] = AUDIENCES, **policy: Any
) -> Authenticator:
    issuer = Issuer(policy.pop("issuer", ISSUER), audiences, "https://issuer.test/jwks")
    return Authenticator(AuthPolicy((issuer,), **policy), [source or FixedKeys(KEYS)])


def bearer(more: dict[str, object] | None = None, *, algorithm: str = "ES256", kid: str = "p256") -> bytes:
    return f"Bearer {sign(algorithm, kid, claims(NOW, **(more or {})))}".encode()


def accepted(auth: Authenticator, authorization: bytes, now: float = NOW) -> Identity:
    found = auth.check(authorization, 1, now=now)
    assert isinstance(found, Identity)
    return found


def refused(auth: Authenticator, authorization: bytes | None, now: float = NOW, *, count: int = 1) -> Refusal:
    with pytest.raises(Refusal) as caught:
        auth.check(authorization, count, now=now)
    return caught.value


VALID = valid(NOW)
HOSTILE = hostile(NOW)


@pytest.mark.parametrize("case", VALID, ids=lambda case: case.name)
def test_valid_tokens_pass(case: Case) -> None:
    auth = authenticator(required_claims=REQUIRED_CLAIMS)
    first = accepted(auth, case.authorization[0].encode("latin-1"))
    assert first.issuer == ISSUER
    assert accepted(auth, case.authorization[0].encode("latin-1")) is first


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
def test_hostile_tokens_are_refused_whenever_they_come(case: Case, final: bool) -> None:
    auth = authenticator(required_claims=REQUIRED_CLAIMS)
    authorization = case.authorization[0].encode("latin-1") if case.authorization else None
    for _ in range(3):
        with pytest.raises(Refusal) as caught:
            auth.check(authorization, len(case.authorization), now=NOW, final=final)
        assert (caught.value.status, caught.value.detail) == (case.status, case.reason)
        assert str(caught.value) == case.reason


def test_the_corpus_is_large_and_has_every_reason() -> None:
    names = [case.name for case in HOSTILE]
    assert len(names) == len(set(names)) >= 60
    assert {case.reason for case in HOSTILE} == set(Reason) - {Reason.KEYS_UNAVAILABLE, Reason.UNKNOWN_API_KEY}


def test_nothing_of_a_token_is_in_a_refusal() -> None:
    auth = authenticator(required_claims=REQUIRED_CLAIMS)
    for case in HOSTILE:
        for value in case.authorization[:1]:
            caught = refused(auth, value.encode("latin-1"), count=len(case.authorization))
            said = f"{caught!r} {caught.body()!r} {caught.headers}"
            assert not any(part and part in said for part in value.split(".") if len(part) > 12)


def test_answers_are_those_of_rfc_6750() -> None:
    missing, invalid = refusal(Reason.MISSING), refusal(Reason.EXPIRED)
    assert (missing.status, missing.code, missing.headers) == (401, "missing_token", {"www-authenticate": "Bearer"})
    assert (invalid.status, invalid.code) == (401, "invalid_token")
    assert invalid.headers == {"www-authenticate": 'Bearer error="invalid_token"'}
    assert refusal(Reason.WRONG_SCHEME).code == "missing_token"
    scope = refusal(Reason.MISSING_CLAIM)
    assert (scope.status, scope.code) == (403, "insufficient_scope")
    assert scope.headers == {"www-authenticate": 'Bearer error="insufficient_scope"'}
    assert refusal(Reason.KEYS_UNAVAILABLE).status == 503
    assert all(refusal(reason).detail == reason.value for reason in Reason)


# The configuration page's example: its tokens have no `aud`.


@pytest.mark.parametrize("name", ["demo.jwt", "groups-scope.jwt"])
def test_the_sample_tokens_pass_without_audiences(name: str) -> None:
    source = FixedKeys(read_jwks((DATA / "jwks.json").read_bytes()))
    auth = authenticator(source, issuer="testing@secure.istio.io", audiences=())
    token = b"Bearer " + (DATA / name).read_bytes().strip()
    assert accepted(auth, token).subject == "testing@secure.istio.io"
    auth = authenticator(source, issuer="testing@secure.istio.io", audiences=("matrixinfer.io",))
    assert refused(auth, token).detail == "wrong_audience"


def test_the_sample_scopes_can_be_demanded() -> None:
    source = FixedKeys(read_jwks((DATA / "jwks.json").read_bytes()))
    policy = {"issuer": "testing@secure.istio.io", "audiences": ()}
    token = b"Bearer " + (DATA / "groups-scope.jwt").read_bytes().strip()
    accepted(authenticator(source, **policy, required_claims={"groups": "group2", "scope": "scope1"}), token)  # type: ignore[arg-type]  # values of several types
    assert refused(authenticator(source, **policy, required_claims={"groups": "group3"}), token).status == 403  # type: ignore[arg-type]  # likewise


# Who it is.


def test_an_identity_is_what_the_token_says() -> None:
    found = accepted(authenticator(), bearer({"team": ["a"]}))
    assert (found.subject, found.issuer, found.models) == ("alice", ISSUER, None)
    assert found.claims["team"] == ["a"]
    with pytest.raises(TypeError):
        found.claims["sub"] = "root"  # type: ignore[index]  # it is what is tested
    assert accepted(authenticator(), bearer({"sub": None})).subject == ""


def test_models() -> None:
    auth = authenticator(models_claim="models")
    assert accepted(auth, bearer({"models": ["llama", "qwen"]})).may_use("qwen")
    assert not accepted(auth, bearer({"models": "llama qwen"})).may_use("mistral")
    assert not accepted(auth, bearer()).may_use("llama")


# Policy.


def test_algorithms_can_be_narrowed() -> None:
    auth = authenticator(algorithms=("RS256",))
    accepted(auth, bearer(algorithm="RS256", kid="rsa"))
    assert refused(auth, bearer(algorithm="PS256", kid="rsa")).detail == "unsupported_algorithm"
    assert refused(auth, bearer()).detail == "unsupported_algorithm"


def test_clock_skew() -> None:
    token = bearer({"nbf": NOW + 5})
    assert refused(authenticator(clock_skew=0.0), token).detail == "not_yet_valid"
    accepted(authenticator(clock_skew=5.0), token)


def test_each_issuer_has_its_own_keys_and_audiences() -> None:
    issuers = (Issuer("a", ("x",), "https://a/"), Issuer("b", (), "https://b/"))
    sources = [FixedKeys(read_jwks(jwk_set(public_jwk("p256")))), FixedKeys(read_jwks(jwk_set(public_jwk("p384"))))]
    auth = Authenticator(AuthPolicy(issuers), sources)

    def token(algorithm: str, kid: str, **more: object) -> bytes:
        return f"Bearer {sign(algorithm, kid, claims(NOW, **more))}".encode()

    assert accepted(auth, token("ES256", "p256", iss="a", aud="x")).issuer == "a"
    assert accepted(auth, token("ES384", "p384", iss="b")).issuer == "b"
    assert refused(auth, token("ES256", "p256", iss="a", aud="y")).detail == "wrong_audience"
    # Signed by an issuer that is trusted, in the name of another.
    assert refused(auth, token("ES256", "p256", iss="b")).detail == "unknown_key"
    assert refused(auth, token("ES384", "p384", iss="a", aud="x")).detail == "unknown_key"
    assert refused(auth, token("ES256", "p256", iss="c")).detail == "wrong_issuer"


def test_sources_are_one_for_each_issuer() -> None:
    with pytest.raises(ValueError, match="zip"):
        Authenticator(AuthPolicy((Issuer("a", (), "https://a/"),)), [])


def test_without_an_issuer_configured_any_will_do() -> None:
    auth = authenticator(issuer="")
    assert accepted(auth, bearer({"iss": "https://whoever.test"})).issuer == "https://whoever.test"
    assert accepted(auth, bearer({"iss": None})).issuer == ""
    assert refused(auth, bearer({"iss": 1})).detail == "malformed"


# Keys that come and go.


async def test_an_unknown_key_waits_for_newer_keys_once() -> None:
    source = FixedKeys(read_jwks(jwk_set(public_jwk("rsa"))), newer=KEYS)
    auth = authenticator(source)
    found = auth.check(bearer(), 1, now=NOW)
    assert isinstance(found, Pending)
    await found.wait()
    assert isinstance(auth.check(bearer(), 1, now=NOW, final=True), Identity)
    assert source.asked == 1


async def test_a_key_that_stays_unknown_is_refused() -> None:
    old = read_jwks(jwk_set(public_jwk("rsa")))
    auth = authenticator(FixedKeys(old, newer=old))
    found = auth.check(bearer(), 1, now=NOW)
    assert isinstance(found, Pending)
    await found.wait()
    with pytest.raises(Refusal, match="unknown_key"):
        auth.check(bearer(), 1, now=NOW, final=True)


def test_each_of_two_keys_with_one_name_may_have_signed() -> None:
    both = read_jwks(jwk_set(public_jwk("rsa"), public_jwk("enc", kid="rsa")))
    auth = authenticator(FixedKeys(both))
    for signer in ("rsa", "enc"):
        token = sign("RS256", signer, claims(NOW), header={"alg": "RS256", "kid": "rsa"})
        accepted(auth, f"Bearer {token}".encode())


def test_a_token_without_kid_may_be_signed_with_a_newer_key() -> None:
    source = FixedKeys(read_jwks(jwk_set(public_jwk("attacker-p256"))), newer=KEYS)
    token = sign("ES256", "p256", claims(NOW), header={"alg": "ES256"})
    assert isinstance(authenticator(source).check(f"Bearer {token}".encode(), 1, now=NOW), Pending)


def test_newer_keys_are_not_asked_for_where_they_cannot_help() -> None:
    source = FixedKeys(KEYS, newer=KEYS)
    auth = authenticator(source, required_claims=REQUIRED_CLAIMS)
    for case in HOSTILE:
        if case.reason != "unknown_key" and "no kid" not in case.name and case.authorization:
            assert (
                refused(auth, case.authorization[0].encode("latin-1"), count=len(case.authorization)).detail
                == case.reason
            )
    assert source.asked == 0


async def test_before_the_first_keys_requests_wait_and_are_then_refused() -> None:
    source = FixedKeys(None, newer=KEYS)
    auth = authenticator(source)
    found = auth.check(bearer(), 1, now=NOW)
    assert isinstance(found, Pending)
    with pytest.raises(Refusal, match="keys_unavailable") as caught:
        auth.check(bearer(), 1, now=NOW, final=True)
    assert caught.value.status == 503
    await found.wait()
    accepted(auth, bearer())


def test_keys_that_are_too_old_are_no_reason_to_let_a_known_token_pass() -> None:
    source = FixedKeys(KEYS)
    auth = authenticator(source)
    accepted(auth, bearer())
    source.keys = None
    assert refused(auth, bearer()).status == 503


# Verdicts that are kept.


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The algorithms of the signatures that are verified from here on."""
    calls: list[str] = []

    def counting(algorithm: str, *rest: Any) -> bool:
        calls.append(algorithm)
        return verify(algorithm, *rest)

    monkeypatch.setattr(jwt_module, "verify", counting)
    return calls


def test_a_token_is_verified_once(verified: list[str]) -> None:
    auth, token = authenticator(), bearer()
    for _ in range(5):
        accepted(auth, token)
    assert verified == ["ES256"]


def test_a_kept_verdict_ends_with_the_token(verified: list[str]) -> None:
    auth, token = authenticator(), bearer({"exp": NOW + 10})
    accepted(auth, token, NOW)
    accepted(auth, token, NOW + 9.9)
    assert refused(auth, token, NOW + 10).detail == "expired"
    assert len(verified) == 1


def test_a_kept_verdict_ends_with_its_keys(verified: list[str]) -> None:
    source = FixedKeys(KEYS)
    auth, token = authenticator(source), bearer()
    accepted(auth, token)
    source.keys = read_jwks(jwks())
    accepted(auth, token)
    assert len(verified) == 2
    source.keys = read_jwks(jwk_set(public_jwk("rsa")))
    assert refused(auth, token).detail == "unknown_key"


def test_a_bad_signature_is_verified_once_in_a_while(verified: list[str]) -> None:
    auth, token = authenticator(), bearer()[:-8] + b"AAAAAAAA"
    for _ in range(5):
        assert refused(auth, token).detail == "bad_signature"
    assert len(verified) == 1
    assert refused(auth, token, NOW + REFUSED_FOR).detail == "bad_signature"
    assert len(verified) == 2


def test_a_refusal_ends_with_its_keys() -> None:
    source = FixedKeys(read_jwks(jwk_set(public_jwk("attacker-p256", kid="p256"))))
    auth, token = authenticator(source), bearer()
    assert refused(auth, token).detail == "bad_signature"
    source.keys = KEYS
    accepted(auth, token)


def test_a_refusal_that_time_or_keys_may_lift_is_not_kept() -> None:
    source = FixedKeys(read_jwks(jwk_set(public_jwk("rsa"))))
    auth, early = authenticator(source, clock_skew=0.0), bearer({"nbf": NOW + 1})
    assert refused(auth, early).detail == "not_yet_valid"
    assert refused(auth, early, NOW + 1).detail == "unknown_key"
    source.keys = KEYS
    accepted(auth, early, NOW + 1)


def test_only_digests_are_kept() -> None:
    cache = VerdictCache()
    issuer = Issuer(ISSUER, AUDIENCES, "https://issuer.test/jwks")
    auth = Authenticator(AuthPolicy((issuer,)), [FixedKeys(KEYS)], cache=cache)
    good, bad = bearer(), bearer()[:-8] + b"AAAAAAAA"
    accepted(auth, good)
    refused(auth, bad)
    assert [len(digest) for digest in (*cache._accepted, *cache._refused)] == [32, 32]
    assert good.decode()[-20:] not in repr(list(cache._accepted.values()))


def test_the_size_is_looked_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    auth = authenticator()
    assert refused(auth, b"Bearer " + b"a" * MAX_TOKEN).detail == "malformed"
    monkeypatch.delattr(jwt_module, "blake2b")
    assert refused(auth, b"Bearer " + b"a" * (MAX_TOKEN + 1)).detail == "too_large"
    assert refused(auth, None, count=0).detail == "missing"
    assert refused(auth, b"", count=2).detail == "repeated_header"


# Fuzzing: nothing but documented errors comes out, and nothing passes that was not signed.

_AUTH = authenticator(required_claims=REQUIRED_CLAIMS)
_SEEDS = [case.authorization[0].encode("latin-1") for case in (*VALID, *HOSTILE) if case.authorization]


def genuine(token: str) -> bool:
    """Whether PyJWT, which shares no parser with us, finds it signed with a key that we publish.

    A change to a hostile token may make it good again, so "hostile before" is no proof against it.
    """
    header = pyjwt.get_unverified_header(token)
    checks = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}
    for key in KEYS.fitting(header.get("kid"), header["alg"]):
        try:
            pyjwt.decode(token, key, algorithms=[header["alg"]], options=checks)  # type: ignore[arg-type]  # a TypedDict
        except pyjwt.InvalidSignatureError:
            continue
        return True
    return False


def mutated(seed: int) -> bytes:
    """One of the corpus's header values with a few changes, the same for the same seed."""
    rng = random.Random(seed)
    data = bytearray(rng.choice(_SEEDS))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0:
                data[at:at] = rng.randbytes(rng.randint(1, 3))
            case 1:
                del data[at : at + rng.randint(1, 40)]
            case 2:
                data[at : at + 1] = bytes([rng.choice(b"AZaz09-_.= ,")])
            case 3:
                other = rng.choice(_SEEDS)
                data[at:] = other[min(at, len(other)) :]
            case _:
                if at < len(data):
                    data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


def documented(authorization: bytes) -> None:
    try:
        found: Identity | Pending | str = _AUTH.check(authorization, 1, now=NOW, final=True)
    except Refusal as error:
        found = error.detail
    if isinstance(found, str):
        assert found in set(Reason)
    else:
        assert isinstance(found, Identity)
        assert genuine(authorization.decode().partition(" ")[2])


def test_mutated_tokens_are_refused_or_are_what_was_signed() -> None:
    for seed in range(4000):
        documented(mutated(seed))


_text = st.text(max_size=6) | st.sampled_from([ISSUER, *AUDIENCES, "p256", "rsa", "ES256", "RS256", "none", "JWT"])
_scalar = st.none() | st.booleans() | st.integers() | st.floats() | _text
_claim = _scalar | st.lists(_scalar, max_size=3) | st.dictionaries(st.text(max_size=2), _scalar, max_size=2)
_names = ["iss", "sub", "aud", "exp", "nbf", "iat", "scope", "alg", "kid", "typ", "crit", "jwk"]
_object = st.dictionaries(st.sampled_from(_names), _claim)


@settings(max_examples=300)
@given(_object, _object, st.booleans())
def test_any_claims_in_a_signed_token_give_an_identity_or_a_refusal(
    header: dict[str, object], payload: dict[str, object], near: bool
) -> None:
    """Signed for real, so that what is behind the signature is reached too."""
    head = {"alg": "ES256", "kid": "p256", **({} if near else header)}
    token = sign("ES256", "p256", json_text({**claims(NOW), **payload}), header=json_text(head))
    documented(f"Bearer {token}".encode())


@settings(max_examples=300)
@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_in_the_parts_of_a_token_are_refused(head: bytes, body: bytes, tail: bytes) -> None:
    documented(f"Bearer {b64(head)}.{b64(body)}.{b64(tail)}".encode())
    documented(head)


def test_key_sets_of_the_same_text_are_not_the_same_generation() -> None:
    assert isinstance(KEYS, KeySet)
    assert read_jwks(jwks()) is not KEYS
