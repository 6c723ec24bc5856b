import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.signed_tokens import b64, claims, json_text, sign

from extproc.auth.base import Reason
from extproc.auth.encoding import ALPHABET
from extproc.auth.token import MAX_KID, TokenError, bearer, parse

NOW = 1_800_000_000.0


def reason_of(token: bytes) -> Reason:
    with pytest.raises(TokenError) as caught:
        parse(token)
    return caught.value.reason


def test_a_token_is_taken_apart() -> None:
    text = sign("ES256", "p256", claims(NOW))
    token = parse(text.encode())
    assert (token.algorithm, token.kid) == ("ES256", "p256")
    assert token.claims == claims(NOW)
    assert token.signed.decode() == text.rpartition(".")[0]
    assert b64(token.signature) == text.rpartition(".")[2]


def test_a_token_without_kid_is_told_from_one_with_an_empty_one() -> None:
    assert parse(sign("ES256", "p256", {}, header={"alg": "ES256"}).encode()).kid is None
    assert parse(sign("ES256", "p256", {}, header={"alg": "ES256", "kid": ""}).encode()).kid == ""


def test_the_signature_may_be_empty_here_and_signs_all_before_it() -> None:
    token = parse(f"{b64(json_text({'alg': 'RS256'}))}.{b64(b'{}')}.".encode())
    assert token.signature == b""
    assert token.signed.count(b".") == 1
    assert not token.signed.endswith(b".")


@pytest.mark.parametrize(("length", "good"), [(MAX_KID, True), (MAX_KID + 1, False)])
def test_the_length_of_a_kid_is_limited(length: int, good: bool) -> None:
    token = sign("ES256", "p256", {}, header={"alg": "ES256", "kid": "k" * length}).encode()
    if good:
        assert parse(token).kid == "k" * length
    else:
        assert reason_of(token) is Reason.MALFORMED


def test_errors_do_not_quote_the_token() -> None:
    with pytest.raises(TokenError) as caught:
        parse(f"{b64(b'sesame')}.{b64(b'{}')}.".encode())
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert str(caught.value) == "malformed"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"Bearer a.b.c", b"a.b.c"),
        (b"bEARER a", b"a"),
        (b"Bearer  a", b"a"),
        (b"bearer    a b", b"a b"),
        (b"Bearer   ", b""),
        (b"Bearer ", b""),
        (b"Bearer", Reason.MALFORMED),
        (b"bearer", Reason.MALFORMED),
        (b"Bearers a", Reason.WRONG_SCHEME),
        (b"Basic a", Reason.WRONG_SCHEME),
        (b" Bearer a", Reason.WRONG_SCHEME),
        (b"", Reason.WRONG_SCHEME),
    ],
)
def test_the_scheme_is_bearer_and_a_space_or_more(value: bytes, found: bytes | Reason) -> None:
    if isinstance(found, bytes):
        assert bearer(value) == found
    else:
        with pytest.raises(TokenError) as caught:
            bearer(value)
        assert caught.value.reason is found


_segment = st.binary(max_size=24).map(b64) | st.lists(st.sampled_from(ALPHABET), max_size=24).map(
    lambda x: bytes(x).decode()
)
_header: st.SearchStrategy[dict[str, object]] = st.fixed_dictionaries(
    {},
    optional={
        "alg": st.sampled_from(["ES256", "none", "HS256"]) | st.none() | st.integers(),
        "kid": st.text(max_size=3) | st.none() | st.lists(st.text(max_size=1), max_size=1),
        "typ": st.sampled_from(["JWT", "at+jwt", "x+jwt", "İ+jwt"]) | st.booleans(),
        "crit": st.just(["b64"]),
        "jwk": st.just({}),
    },
)


@given(
    st.binary(max_size=80)
    | st.lists(_segment, min_size=1, max_size=4).map(lambda parts: ".".join(parts).encode())
    | st.builds(lambda head, body: f"{b64(json_text(head))}.{b64(json_text(body))}.".encode(), _header, _header)
)
def test_garbage_is_a_token_error(data: bytes) -> None:
    try:
        token = parse(data)
    except TokenError:
        return
    assert token.algorithm == "ES256"
