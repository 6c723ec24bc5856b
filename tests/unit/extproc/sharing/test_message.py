import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.sharing import message as module
from extproc.sharing.message import decode, decode_event, encode

ORIGIN = (b"8 bytes!", "0")


def test_a_message_is_read_as_it_was_made() -> None:
    data = encode(
        ORIGIN, 3, 7, b"seal", {"pool a": [("+", 1, "127.0.0.1:8000", 5)]}, whole=True, last=True, wanted=(ORIGIN,)
    )
    found = decode(data)
    assert (found.origin, found.epoch, found.number, found.seal) == (ORIGIN, 3, 7, b"seal")
    assert (found.whole, found.last, found.wanted) == (True, True, (ORIGIN,))
    assert decode_event(found.events["pool a"][0]) == ("+", 1, "127.0.0.1:8000", 5)


def test_fields_of_a_later_version_are_not_looked_at() -> None:
    fields = msgspec.msgpack.decode(encode(ORIGIN, 0, 0, b"", {}))
    assert decode(msgspec.msgpack.encode([*fields, {"new": [1, 2]}, "more"])).origin == ORIGIN


def test_fields_that_an_earlier_version_did_not_have_have_their_defaults() -> None:
    fields = msgspec.msgpack.decode(encode(ORIGIN, 0, 0, b"", {}))
    assert decode(msgspec.msgpack.encode(fields[:6])).wanted == ()


@pytest.mark.parametrize(
    "change",
    [(0, b"short"), (0, 5), (1, "x" * 33), (2, -1), (3, 1 << 63), (4, b"x" * 17), (5, []), (5, {"a": 1}), (6, 1), (8, [1])],
)  # fmt: skip
def test_what_is_no_message(change: tuple[int, object]) -> None:
    fields = msgspec.msgpack.decode(encode(ORIGIN, 0, 0, b"", {}))
    fields[change[0]] = change[1]
    with pytest.raises(ValueError, match="."):
        decode(msgspec.msgpack.encode(fields))


def test_one_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(ORIGIN, 0, 0, b"", {})
    monkeypatch.setattr(module, "MAX_MESSAGE", len(data) - 1)
    with pytest.raises(ValueError, match="too long"):
        decode(data)


@given(st.binary(max_size=60))
def test_garbage_gives_one_error(data: bytes) -> None:
    for read in (decode, lambda raw: decode_event(msgspec.Raw(raw))):
        try:
            read(data)
        except ValueError:
            continue
