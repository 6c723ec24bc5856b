from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.outcome.usage.sse import SseParser

MANY = settings(max_examples=150)

LIMIT = 40


def oracle(stream: bytes, limit: int = LIMIT) -> list[bytes]:
    """The standard's own words, over the whole stream."""
    stream = stream.removeprefix(b"\xef\xbb\xbf")
    lines = re.split(rb"\r\n|\r|\n", stream)[:-1]
    events, data, size = [], [], 0
    for line in lines:
        if line:
            size += len(line)
            name, _, value = line.partition(b":")
            if name == b"data":
                data.append(value.removeprefix(b" "))
        else:
            if data and size <= limit:
                events.append(b"\n".join(data))
            data, size = [], 0
    return events


def run(chunks: list[bytes], limit: int = LIMIT) -> list[bytes]:
    parser = SseParser(limit)
    return [event for chunk in chunks for event in parser.feed(chunk)]


pieces = st.sampled_from(
    [
        b"data: {}", b"data:x", b"data", b"data:  y", b"data: " + b"z" * 30, b": comment", b"event: ping", b"id: 1",
        b"database: no", b"dat", b" data: no", b"\n", b"\n", b"\r", b"\r\n", b"\n\n", b"\xef\xbb\xbf", b"\x85", b"\x0b",
        b"\xff",
    ]
)  # fmt: skip
streams = st.lists(pieces, max_size=24).map(b"".join) | st.binary(max_size=60)


@MANY
@given(stream=streams, cuts=st.lists(st.integers(0, 200), max_size=12))
def test_any_chunking_gives_what_the_standard_says(stream: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    chunks = [stream[start:end] for start, end in pairwise(edges)]
    assert run(chunks) == run([stream]) == oracle(stream)


@MANY
@given(stream=streams)
def test_byte_by_byte(stream: bytes) -> None:
    assert run([stream[at : at + 1] for at in range(len(stream))]) == oracle(stream)


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"", []),
        (b"data: a\n\n", [b"a"]),
        (b"data: a\r\n\r\n", [b"a"]),
        (b"data: a\r\rdata: b\r\n\n", [b"a", b"b"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"]),
        (b": hello\nevent: x\ndata: a\nid: 3\n\n", [b"a"]),
        (b"data: a\ndata:b\ndata\n\n", [b"a\nb\n"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\n", []),
        (b"data: a", []),
        (b"event: x\n\n", []),
        (b"data: [DONE]\n\n", [b"[DONE]"]),
        # Other line ends of Unicode are none here.
        ("data: a\u2028b\x0b\x0c\x1c\x85\n\n".encode(), ["a\u2028b\x0b\x0c\x1c\x85".encode()]),
    ],
)
def test_streams(stream: bytes, events: list[bytes]) -> None:
    assert run([stream]) == oracle(stream) == events


@pytest.mark.parametrize("size", [1, 7, 1000, 5000])
def test_large_events_are_skipped_and_not_kept(size: int) -> None:
    stream = b"data: a\n\ndata: " + b"x" * 5000 + b"\ndata: y\n\n" + (b"data: 12345678\n" * 300) + b"\ndata: b\n\n"
    parser = SseParser(limit=100)
    events = []
    for at in range(0, len(stream), size):
        events += parser.feed(stream[at : at + size])
        assert len(parser._line) <= 100
        assert sum(map(len, parser._data)) <= 100
    assert events == [b"a", b"b"]


def test_an_event_of_just_the_limit_is_kept() -> None:
    line = b"data: " + b"x" * (LIMIT - 6)
    assert run([line, b"\n\n"]) == [line[6:]]
    assert run([line, b"x\n\n"]) == []


def test_between_events() -> None:
    parser = SseParser(LIMIT)
    states = []
    for chunk in (
        b"",
        b"\xef",
        b"\xbb\xbf",
        b"data",
        b": a\n",
        b"\n",
        b"event: x\n",
        b"\n",
        b"\r",
        b"\n",
        b":" * 99,
        b"\n",
        b"\n",
    ):
        parser.feed(chunk)
        states.append(parser.between_events)
    assert states == [False, False, True, False, False, True, False, True, False, True, False, False, True]
