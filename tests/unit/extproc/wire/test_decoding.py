from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.envoy_messages import (
    HeaderMap,
    ProcessingRequest,
)

from extproc import wire
from extproc.errors import RemoteProtocolError
from extproc.protocol.events import (
    NO_ATTRIBUTES,
    BodyMode,
    Event,
    ProtocolConfig,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)

SUBSET = "x-gateway-destination-endpoint-subset"
SERVED = "x-gateway-destination-endpoint-served"
DESTINATION = "x-gateway-destination-endpoint"


def decode(message: ProcessingRequest) -> Event:
    return wire.decode(message.SerializeToString())


def fill(part: HeaderMap, *headers: tuple[str, bytes]) -> None:
    for name, value in headers:
        header = part.headers.add()
        header.key = name
        header.raw_value = value


def request(kind: str) -> ProcessingRequest:
    message = ProcessingRequest()
    getattr(message, kind).SetInParent()
    return message


def metadata(message: ProcessingRequest, namespace: str) -> Any:
    """A Struct, with the helpers that protobuf adds to it."""
    return message.metadata_context.filter_metadata[namespace]


def test_request_headers():
    message = ProcessingRequest()
    fill(
        message.request_headers.headers,
        (":method", b"POST"),
        ("x-raw", b"\xff\x00"),
        ("x-twice", b"1"),
        ("x-twice", b"2"),
    )
    message.request_headers.end_of_stream = True
    event = decode(message)
    assert isinstance(event, RequestHeaders)
    assert list(event.headers) == [(":method", b"POST"), ("x-raw", b"\xff\x00"), ("x-twice", b"1"), ("x-twice", b"2")]
    assert event.end_of_stream
    assert (event.subset, event.config) == (None, None)


def test_request_headers_with_nothing_in_them():
    event = decode(request("request_headers"))
    assert isinstance(event, RequestHeaders)
    assert list(event.headers) == []
    assert not event.end_of_stream


def test_header_in_the_older_field():
    message = ProcessingRequest()
    header = message.request_headers.headers.headers.add()
    header.key, header.value = "x-user", "zoë"
    both = message.request_headers.headers.headers.add()
    both.key, both.value, both.raw_value = "x-both", "old", b"new"
    neither = message.request_headers.headers.headers.add()
    neither.key = "x-empty"
    event = decode(message)
    assert isinstance(event, RequestHeaders)
    assert list(event.headers) == [("x-user", "zoë".encode()), ("x-both", b"new"), ("x-empty", b"")]


@pytest.mark.parametrize("mode", BodyMode)
def test_protocol_config(mode):
    message = request("request_headers")
    message.protocol_config.request_body_mode = mode
    message.protocol_config.response_body_mode = BodyMode.STREAMED
    message.protocol_config.send_body_without_waiting_for_header_response = True
    event = decode(message)
    assert isinstance(event, RequestHeaders)
    assert event.config == ProtocolConfig(mode, BodyMode.STREAMED, True)
    assert event.config.request_body_mode is mode


def test_protocol_config_that_says_nothing_is_one():
    message = request("request_headers")
    message.protocol_config.SetInParent()
    event = decode(message)
    assert isinstance(event, RequestHeaders)
    assert event.config == ProtocolConfig()


@pytest.mark.parametrize("field", ["request_body_mode", "response_body_mode"])
@pytest.mark.parametrize("value", [6, -1, 2**31 - 1])
def test_body_mode_that_is_not_known(field, value):
    message = request("request_headers")
    setattr(message.protocol_config, field, value)
    with pytest.raises(RemoteProtocolError, match="unknown body mode"):
        decode(message)


SUBSETS = [
    (["10.0.0.1:80", "10.0.0.2:80"], ("10.0.0.1:80", "10.0.0.2:80")),
    (["10.0.0.1:80", 3, None, True, "", " 10.0.0.2:80 ", ["10.0.0.3:80"]], ("10.0.0.1:80", "10.0.0.2:80")),
    ([], ()),
    ("10.0.0.1:80,10.0.0.2:80", ("10.0.0.1:80", "10.0.0.2:80")),
    (" 10.0.0.1:80 ,, 10.0.0.2:80,", ("10.0.0.1:80", "10.0.0.2:80")),
    ("10.0.0.1:80", ("10.0.0.1:80",)),
    ("", ()),
    # Somebody meant to restrict the endpoints and failed: none rather than all.
    (7, ()),
    (None, ()),
    ({"a": "10.0.0.1:80"}, ()),
]


@pytest.mark.parametrize("kind", ["request_headers", "request_body"])
@pytest.mark.parametrize(("given", "expected"), SUBSETS)
def test_subset(kind, given, expected):
    message = request(kind)
    metadata(message, "envoy.lb.subset_hint").update({SUBSET: given})
    event = decode(message)
    assert isinstance(event, RequestHeaders | RequestBody)
    assert event.subset == expected


@pytest.mark.parametrize("kind", ["request_headers", "request_body"])
def test_no_subset(kind):
    message = request(kind)
    event = decode(message)
    assert event.subset is None
    message.metadata_context.SetInParent()
    assert decode(message).subset is None
    metadata(message, "envoy.lb.subset_hint").fields["another"].string_value = "x"
    assert decode(message).subset is None


def test_attributes():
    message = request("response_headers")
    attributes = message.attributes["envoy.filters.http.ext_proc"]
    attributes.fields["request.path"].string_value = "/v1"
    attributes.fields["request.size"].number_value = 12
    attributes.fields["connection.mtls"].bool_value = False
    attributes.fields["nothing"].null_value = 0
    attributes.fields["unset"].SetInParent()
    attributes.fields["map"].struct_value.fields["a"].number_value = 1.5
    attributes.fields["list"].list_value.values.add().string_value = "x"
    attributes.fields["list"].list_value.values.add().bool_value = True
    event = decode(message)
    assert isinstance(event, ResponseHeaders)
    assert event.attributes == {
        "request.path": "/v1", "request.size": 12.0, "connection.mtls": False, "nothing": None, "unset": None,
        "map": {"a": 1.5}, "list": ["x", True],
    }  # fmt: skip


def test_attributes_of_another_filter_are_not_ours():
    message = request("response_headers")
    message.attributes["another"].fields["a"].string_value = "b"
    assert decode(message).attributes is NO_ATTRIBUTES


@pytest.mark.parametrize("last", [False, True])
def test_bodies(last):
    message = ProcessingRequest()
    message.request_body.body = b"\x00\xffbody"
    message.request_body.end_of_stream = last
    assert decode(message) == RequestBody(b"\x00\xffbody", last)
    message.response_body.body = b"answer"
    message.response_body.end_of_stream = last
    serialized = message.response_body.SerializeToString()
    assert decode(message) == ResponseBody(b"answer", last, serialized=serialized)


@pytest.mark.parametrize("last", [False, True])
def test_response_body_that_comes_first_and_so_has_the_config(last):
    message = ProcessingRequest()
    message.response_body.body = b"answer"
    message.response_body.end_of_stream = last
    message.protocol_config.response_body_mode = BodyMode.FULL_DUPLEX_STREAMED
    config = ProtocolConfig(BodyMode.NONE, BodyMode.FULL_DUPLEX_STREAMED, False)
    assert decode(message) == ResponseBody(b"answer", last, config)


def test_response_body_with_a_field_of_a_newer_envoy():
    message = ProcessingRequest()
    message.response_body.body = b"answer"
    assert wire.decode(message.SerializeToString() + b"\x9a\x06\x01x") == ResponseBody(b"answer", False)


def test_request_trailers():
    message = ProcessingRequest()
    fill(message.request_trailers.trailers, ("x-checksum", b"1"))
    event = decode(message)
    assert isinstance(event, RequestTrailers)
    assert list(event.headers) == [("x-checksum", b"1")]


def test_response_headers():
    message = ProcessingRequest()
    fill(message.response_headers.headers, (":status", b"200"))
    message.response_headers.end_of_stream = True
    metadata(message, "envoy.lb").fields[SERVED].string_value = "10.0.0.1:80"
    message.attributes["envoy.filters.http.ext_proc"].fields["upstream.request_attempt_count"].number_value = 2
    event = decode(message)
    assert isinstance(event, ResponseHeaders)
    assert list(event.headers) == [(":status", b"200")]
    assert event.end_of_stream
    assert event.served == "10.0.0.1:80"
    assert event.attributes == {"upstream.request_attempt_count": 2}


@pytest.mark.parametrize("kind", ["response_headers", "response_trailers"])
def test_nobody_says_who_served(kind):
    message = request(kind)
    event = decode(message)
    assert event.served == ""
    assert event.attributes is NO_ATTRIBUTES
    metadata(message, "envoy.lb").fields[DESTINATION].string_value = "10.0.0.1:80"
    assert decode(message).served == ""
    metadata(message, "envoy.lb").fields[SERVED].number_value = 1
    assert decode(message).served == ""


def test_response_trailers():
    message = ProcessingRequest()
    fill(message.response_trailers.trailers, ("x-checksum", b"51030"))
    metadata(message, "envoy.lb").fields[SERVED].string_value = "10.0.0.1:80"
    message.attributes["envoy.filters.http.ext_proc"].fields["response.code"].number_value = 200
    event = decode(message)
    assert isinstance(event, ResponseTrailers)
    assert list(event.headers) == [("x-checksum", b"51030")]
    assert event.served == "10.0.0.1:80"
    assert event.attributes == {"response.code": 200}


@pytest.mark.parametrize("data", [b"\xff", b"\x12\x7f", b"\x12\x06\x0a\x04\x0a\x02\x0a\x7f"])
def test_bytes_that_are_no_message(data):
    with pytest.raises(RemoteProtocolError, match="not a ProcessingRequest"):
        wire.decode(data)


def test_name_that_is_not_utf8():
    event = wire.decode(b"\x12\x07\x0a\x05\x0a\x03\x0a\x01\xff")
    assert isinstance(event, RequestHeaders)
    assert list(event.headers) == [("\xff", b"")]


@pytest.mark.parametrize("flow_control", [False, True])
def test_message_without_an_event(flow_control):
    message = ProcessingRequest()
    message.observability_mode = True
    if flow_control:
        message.client_window_update.window_increment_sidestream_to_upstream = 1
    for data in (b"", message.SerializeToString()):
        with pytest.raises(RemoteProtocolError, match="without a request or response part"):
            wire.decode(data)


def test_fields_of_a_newer_envoy_are_skipped():
    message = request("request_body")
    assert wire.decode(message.SerializeToString() + b"\x9a\x06\x01x") == RequestBody(b"")


@given(st.binary(max_size=200))
def test_any_bytes_give_an_event_or_the_one_error(data):
    try:
        event = wire.decode(data)
    except RemoteProtocolError:
        return
    assert isinstance(event, Event)


def rich_messages() -> list[bytes]:
    head, end = ProcessingRequest(), ProcessingRequest()
    fill(head.request_headers.headers, (":method", b"POST"), ("authorization", b"Bearer x"))
    head.protocol_config.request_body_mode = BodyMode.BUFFERED
    metadata(head, "envoy.lb.subset_hint").fields[SUBSET].list_value.values.add().string_value = "10.0.0.1:80"
    head.attributes["envoy.filters.http.ext_proc"].fields["a"].struct_value.fields["b"].number_value = 1
    fill(end.response_trailers.trailers, ("x-t", b"1"))
    metadata(end, "envoy.lb").fields[SERVED].string_value = "10.0.0.1:80"
    return [head.SerializeToString(), end.SerializeToString()]


@given(st.sampled_from(rich_messages()), st.data())
def test_damaged_messages_give_an_event_or_the_one_error(seed, data):
    damaged = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    for candidate in (bytes(damaged), bytes(damaged[:cut])):
        try:
            event = wire.decode(candidate)
        except RemoteProtocolError:
            continue
        assert isinstance(event, Event)
