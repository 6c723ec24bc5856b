from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.auth.apikeys import MAX_FILE, PREFIX, ApiKeysError, entry, hashed, new_key, read_api_keys

KEY = "sk-ig-abc"
HASH = hashed(KEY)


def test_a_key_that_was_made_is_found_and_no_other() -> None:
    key, other = new_key(), new_key()
    assert key.startswith(PREFIX)
    assert len(key) == len(PREFIX) + 43
    keys = read_api_keys(b"keys:\n" + entry("team-a", hashed(key), models=["m"], expires="2030-01-31").encode())
    found = keys.find(key.encode())
    assert found is not None
    assert (found.identity.subject, found.identity.models) == ("team-a", frozenset({"m"}))
    assert found.expires == datetime(2030, 2, 1, tzinfo=UTC).timestamp()
    for text in (other, key[:-1], key + "x", "", hashed(key)):
        assert keys.find(text.encode()) is None
    assert key not in entry("team-a", hashed(key), models=None, expires=None)


@pytest.mark.parametrize(
    ("expires", "at"),
    [
        ("2030-01-31", datetime(2030, 2, 1, tzinfo=UTC)),
        ("2030-01-31T12:00:00Z", datetime(2030, 1, 31, 12, tzinfo=UTC)),
        ("2030-01-31T12:00:00+02:00", datetime(2030, 1, 31, 10, tzinfo=UTC)),
        ('"2030-01-31T12:00:00"', datetime(2030, 1, 31, 12, tzinfo=UTC)),
    ],
)
def test_when_a_key_ends(expires: str, at: datetime) -> None:
    found = read_api_keys(f"keys: [{{name: a, hash: {HASH}, expires: {expires}}}]".encode()).find(KEY.encode())
    assert found is not None
    assert found.expires == at.timestamp()


def test_claims_of_a_key() -> None:
    found = read_api_keys(f"keys: [{{name: a, hash: {HASH}, claims: {{team: t, sub: x}}}}]".encode()).find(KEY.encode())
    assert found is not None
    assert dict(found.identity.claims) == {"team": "t", "sub": "a"}
    assert found.identity.models is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expected"),
        ("keys: 1", "Expected"),
        ("keys: [{name: a}]", "hash"),
        ("keys: [{hash: x}]", "name"),
        (f"keys: [{{name: a, hash: {HASH}, model: m}}]", "model"),
        (f"keys: [{{name: '', hash: {HASH}}}]", "keys[0].name must not be empty"),
        ("keys: [{name: a, hash: sk-ig-secret}]", "keys[0].hash must be"),
        ("keys: [{name: a, hash: 'sha256:00'}]", "keys[0].hash must be"),
        (f"keys: [{{name: a, hash: {HASH}, expires: soon}}]", "keys[0].expires must be"),
        (f"keys: [{{name: a, hash: {HASH}, expires: 5}}]", "keys[0].expires must be"),
        (f"keys: [{{name: a, hash: {HASH}}}, {{name: a, hash: {hashed('x')}}}]", "keys[1].name is the name of another"),
        (f"keys: [{{name: a, hash: {HASH}}}, {{name: b, hash: {HASH}}}]", "keys[1].hash is the hash of another"),
        ("keys: [", "no YAML"),
        ("\0", "no YAML"),
        ("k" * (MAX_FILE + 1), "larger than"),
    ],
)
def test_files_with_a_mistake(text: str, why: str) -> None:
    with pytest.raises(ApiKeysError) as caught:
        read_api_keys(text.encode())
    assert why in str(caught.value)
    assert "secret" not in str(caught.value)


def test_too_many_keys() -> None:
    text = "keys:\n" + "".join(f"- {{name: n{number}, hash: x}}\n" for number in range(10_001))
    with pytest.raises(ApiKeysError, match="more than 10000 keys"):
        read_api_keys(text.encode())


@given(st.binary(max_size=40))
def test_rubbish_is_one_error(data: bytes) -> None:
    with pytest.raises(ApiKeysError):
        read_api_keys(data)


def test_a_name_that_cannot_be_read_again_makes_no_entry() -> None:
    with pytest.raises(ApiKeysError):
        entry("", HASH, models=None, expires=None)
    with pytest.raises(ApiKeysError):
        entry("a", HASH, models=None, expires="tomorrow")
