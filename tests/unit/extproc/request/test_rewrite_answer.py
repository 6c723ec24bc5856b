"""The model's name in answers, cut anywhere."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.request.rewrite_answer import DocumentNames, StreamNames, answer_names

DOCUMENT = b'{"id":"1", "model" : "org/m", "choices":[{"message":{"content":"\\"model\\":\\"org/m\\" \\u00e9"},"model":"kept"}]}'
STREAM = (
    b': comment "model"\n\nevent: x\r\ndata: {"model":"org/m","d":"\\u00e9 \\"model\\""}\r\n\r\n'
    b'data:{"type":"message_start","message":{"id":1,"model":"org/m"}}\n\n'
    b'data: {"type":"response.created", "response": {"model":"org/m","tools":[{"model":"kept"}]}}\r\r'
    b'data: [DONE]\n\ndata: model\n\ndata: {"model"\n\n'
)


def fed(names: StreamNames | DocumentNames, pieces: list[bytes]) -> bytes:
    return b"".join([names.feed(piece) for piece in pieces]) + names.end()


@st.composite
def cut(draw: st.DrawFn, text: bytes) -> list[bytes]:
    """`text` in pieces, some of them empty."""
    marks = [0, *sorted(draw(st.lists(st.integers(0, len(text)), max_size=12))), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(marks)]


@given(cut(STREAM))
def test_streams(pieces: list[bytes]) -> None:
    assert fed(StreamNames("m"), pieces) == STREAM.replace(b'"org/m"', b'"m"')


@given(cut(DOCUMENT))
def test_documents(pieces: list[bytes]) -> None:
    assert fed(DocumentNames("m"), pieces) == DOCUMENT.replace(b'"org/m", ', b'"m", ')


@given(st.data(), st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_what_is_no_answer_is_not_touched(data: st.DataObject, text: bytes) -> None:
    for names in (StreamNames("m"), DocumentNames("m")):
        pieces = data.draw(cut(text))
        try:
            found = json.loads(text)
            named = isinstance(found, dict) and "model" in found
        except ValueError:
            named = False
        if not named:
            assert fed(names, pieces) == text


def test_a_line_goes_on_as_soon_as_it_is_whole() -> None:
    names = StreamNames("m")
    assert names.feed(b'data: {"model":"x"') == b""
    assert names.feed(b'}\ndata: {"mo') == b'data: {"model":"m"}\n'
    assert names.feed(b"") == b""
    assert names.feed(b'del":"x"}') == b""
    assert names.end() == b'data: {"model":"m"}'
    assert names.end() == b""


def test_what_is_too_long_to_be_held_goes_on() -> None:
    document = DocumentNames("m", max_held=10)
    assert document.feed(b'{"model":"x",') == b'{"model":"x",'
    assert document.feed(b'"y":1}') == b'"y":1}'
    assert document.end() == b""
    stream = StreamNames("m", max_held=10)
    assert stream.feed(b'data: {"model":"x",') == b'data: {"model":"x",'
    assert stream.feed(b'"y":1') == b'"y":1'
    # The next line is read again.
    assert stream.feed(b'}\ndata: {"model":"x"}\n') == b'}\ndata: {"model":"m"}\n'
    # As is the one after a line that begins too long.
    assert stream.feed(b': x\ndata: {"model":"x",') == b': x\ndata: {"model":"x",'
    assert stream.feed(b'"y":1}\ndata: {') == b'"y":1}\n'
    assert stream.end() == b"data: {"


def test_too_many_names_are_left_as_they_are() -> None:
    text = b'{"model":"x"' + b',"model":"x"' * 20 + b"}"
    assert fed(DocumentNames("m"), [text]) == text


@pytest.mark.parametrize(
    ("content_type", "encoding", "expected"),
    [
        ("application/json", "", DocumentNames),
        ("Application/JSON; charset=utf-8", "identity", DocumentNames),
        ("text/event-stream; charset=utf-8", "", StreamNames),
        ("text/event-stream", "gzip", None),
        ("application/json", "br", None),
        ("text/plain", "", None),
        ("", "", None),
    ],
)
def test_which_answers_are_read(content_type: str, encoding: str, expected: type | None) -> None:
    names = answer_names("m", content_type, encoding)
    assert (type(names) if names is not None else None) is expected
