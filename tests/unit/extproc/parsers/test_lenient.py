import json

import pytest

from extproc.errors import Refusal
from extproc.parsers.lenient import MAX_LENIENT, as_utf8, read, strict, write


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-32-le"])
def test_encodings_that_pythons_reader_takes(encoding: str) -> None:
    assert as_utf8('{"a":"é"}'.encode(encoding)) == '{"a":"é"}'.encode()


def test_what_is_utf8_or_nothing_stays_the_same_object() -> None:
    for body in (b'{"a":1}', b"", b"\x00\xd8\x00", b"\x00\xd8\x00\x00\x00"):
        assert as_utf8(body) is body


def test_several_models_are_seen() -> None:
    assert read(b'{"model":"a","x":{"model":1},"model":"b","y":NaN}')[1]
    assert not read(b'{"model":"a","x":[{"model":1,"model":2}]}')[1]


def test_strict_json_of_what_only_python_reads() -> None:
    assert json.loads(strict(b'{"a":NaN,"b":1e999,"c":1.5,"d":"\\ud800"}')) == {
        "a": None,
        "b": None,
        "c": 1.5,
        "d": "?",
    }
    assert strict('{"a":1}'.encode("utf-16")) == b'{"a":1}'


def test_written_anew() -> None:
    assert write({"model": "m", "x": float("nan"), "y": "\ud800"}) == b'{"model": "m", "x": NaN, "y": "\\ud800"}'


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff", b"[" * 100_000, b" " * (MAX_LENIENT + 1)])
def test_what_it_does_not_take_either(body: bytes) -> None:
    with pytest.raises(Refusal):
        read(body)
