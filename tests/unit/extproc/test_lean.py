"""The lean reader against protobuf: what it reads, protobuf reads as well, and what it leaves is protobuf's."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc import lean, wire
from extproc._pb import ProcessingRequest
from extproc.errors import RemoteProtocolError
from extproc.events import Event, RequestBody, RequestHeaders
from extproc.headers import Headers
from extproc.lean import MAX_KEPT, MAX_KEPT_FIELD, MAX_KEPT_FIELDS, MAX_KEPT_SIZE
from extproc.wire import decoding

FILTER = "envoy.filters.http.ext_proc"

NAMES = st.sampled_from([":path", "authorization", "x-request-id", "accept", "x-é", ""])
FIELDS = st.lists(st.tuples(NAMES, st.binary(max_size=300)), max_size=6)


def fill(target: Any, fields: list[tuple[str, bytes]]) -> None:
    for name, value in fields:
        header = target.headers.add()
        header.key, header.raw_value = name, value


@st.composite
def request_headers(draw: st.DrawFn) -> ProcessingRequest:
    message = ProcessingRequest()
    fill(message.request_headers.headers, draw(FIELDS))
    message.request_headers.end_of_stream = draw(st.booleans())
    return with_rest(draw, message)


@st.composite
def request_body(draw: st.DrawFn) -> ProcessingRequest:
    message = ProcessingRequest()
    message.request_body.body = draw(st.binary(max_size=20) | st.integers(100, 70_000).map(bytes))
    message.request_body.end_of_stream = draw(st.booleans())
    return with_rest(draw, message)


def with_rest(draw: st.DrawFn, message: ProcessingRequest) -> ProcessingRequest:
    if draw(st.booleans()):
        message.metadata_context.SetInParent()
    if draw(st.booleans()):
        fields = message.metadata_context.filter_metadata["envoy.lb.subset_hint"].fields
        fields["x-gateway-destination-endpoint-subset"].string_value = "10.0.0.1:80," * draw(st.integers(1, 60))
    if draw(st.booleans()):
        message.protocol_config.request_body_mode = draw(st.integers(0, 6))  # 6 is none
    if draw(st.booleans()):
        message.attributes[FILTER].fields["source.address"].string_value = "10.0.0.9:1"
    return message


MESSAGES = (request_headers() | request_body()).map(lambda message: message.SerializeToString())


def told(event: Event) -> tuple[type, list[Any]]:
    values = [getattr(event, name) for name in event.__struct_fields__]
    return type(event), [list(value) if isinstance(value, Headers) else value for value in values]


def outcome(decode: Callable[[bytes], Event], data: bytes) -> object:
    try:
        return told(decode(data))
    except RemoteProtocolError:
        return None


@settings(max_examples=500, deadline=None)
@given(MESSAGES)
def test_whole_messages(data: bytes) -> None:
    assert outcome(wire.decode, data) == outcome(decoding._decode_any, data)


@settings(max_examples=1500, deadline=None)
@given(MESSAGES, st.data())
def test_damaged_messages(data: bytes, draws: st.DataObject) -> None:
    damaged = bytearray(data)
    for _ in range(draws.draw(st.integers(1, 3))):
        # The first bytes and the last: what is between is mostly text.
        near = st.integers(0, min(len(damaged) - 1, 40)) | st.integers(max(len(damaged) - 120, 0), len(damaged) - 1)
        at = draws.draw(near)
        kind = draws.draw(st.sampled_from(["set", "cut", "insert", "double"]))
        if kind == "set":
            damaged[at] = draws.draw(st.integers(0, 255))
        elif kind == "cut":
            del damaged[at : at + draws.draw(st.integers(1, 9))]
        elif kind == "insert":
            damaged[at:at] = draws.draw(st.binary(min_size=1, max_size=4))
        else:
            damaged += damaged[at:]
        if not damaged:
            return
    assert outcome(wire.decode, bytes(damaged)) == outcome(decoding._decode_any, bytes(damaged))


def usual_headers(*fields: tuple[str, bytes]) -> bytes:
    message = ProcessingRequest()
    fill(message.request_headers.headers, list(fields))
    message.metadata_context.SetInParent()
    message.protocol_config.request_body_mode = 2
    return message.SerializeToString()


def usual_body(body: bytes = b"{}") -> bytes:
    message = ProcessingRequest()
    message.request_body.body = body
    message.request_body.end_of_stream = True
    message.metadata_context.SetInParent()
    return message.SerializeToString()


def reader() -> lean.Reader:
    return lean.Reader(decoding._rest)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (usual_headers((":path", b"/v1/chat/completions"), ("authorization", b"x" * 500)), RequestHeaders),
        (usual_body(), RequestBody),
        (usual_body(bytes(3 << 20)), RequestBody),
    ],
)
def test_the_usual_messages_are_not_left_to_protobuf(data: bytes, kind: type) -> None:
    event = reader().read(data)
    assert event is not None
    assert type(event) is kind
    assert told(event) == told(decoding._decode_any(data))


def test_other_messages_are() -> None:
    message = ProcessingRequest()
    message.response_headers.end_of_stream = True
    assert reader().read(message.SerializeToString()) is None
    assert reader().read(b"") is None


def test_a_mode_that_is_not_known_counts_where_protobuf_reads_it() -> None:
    """It ends a stream that begins with it; behind a body nobody looks at it."""
    unknown = ProcessingRequest()
    unknown.protocol_config.request_body_mode = 6
    data = usual_body() + unknown.SerializeToString()
    assert outcome(wire.decode, data) == outcome(decoding._decode_any, data) is not None
    with pytest.raises(RemoteProtocolError):
        wire.decode(usual_headers() + unknown.SerializeToString())


def test_a_header_of_16_kib_is() -> None:
    data = usual_headers(("cookie", b"x" * (16 << 10)))
    assert reader().read(data) is None
    assert outcome(wire.decode, data) == outcome(decoding._decode_any, data)


def test_a_length_of_six_bytes_is_left_to_protobuf() -> None:
    assert reader().read(b"\x22\x84\x80\x80\x80\x80\x00\x0a\x02{}") is None
    assert reader().read(b"\x22\x84\x80\x80\x80\x00\x0a\x02{}") is not None


def test_what_is_kept_is_bounded_and_stays_right() -> None:
    lean_reader = reader()
    for number in range(MAX_KEPT_FIELDS + 10):
        data = usual_headers(
            ("accept", b"%d" % number), ("x-request-id", b"%d" % number), ("long", b"a" * MAX_KEPT_FIELD)
        )
        event = lean_reader.read(data)
        assert event is not None
        assert told(event) == told(decoding._decode_any(data))
    assert 0 < len(lean_reader._fields) < 20
    assert {name for name, _ in lean_reader._fields.values()} == {"accept"}
    message = ProcessingRequest.FromString(usual_body())
    for number in range(MAX_KEPT + 10):
        message.attributes[FILTER].fields["source.port"].number_value = number
        data = message.SerializeToString()
        event = lean_reader.read(data)
        assert event is not None
        assert told(event) == told(decoding._decode_any(data))
    assert 0 < len(lean_reader._rests) < 20


def test_long_parts_are_not_kept() -> None:
    message = ProcessingRequest.FromString(usual_body())
    fields = message.metadata_context.filter_metadata["envoy.lb.subset_hint"].fields
    fields["x-gateway-destination-endpoint-subset"].string_value = "10.0.0.1:80," * MAX_KEPT_SIZE
    lean_reader = reader()
    event = lean_reader.read(message.SerializeToString())
    assert isinstance(event, RequestBody)
    assert event.subset == ("10.0.0.1:80",) * MAX_KEPT_SIZE
    assert not lean_reader._rests
