from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc import wire
from extproc._pb import (
    HeaderMap,
    HTTPAccessLogEntry,
    ProcessingRequest,
    ProcessingResponse,
    StreamAccessLogsMessage,
    TokenUsage,
)
from extproc.errors import LocalProtocolError, RemoteProtocolError
from extproc.events import (
    NO_ATTRIBUTES,
    BodyMode,
    Event,
    LogEntry,
    ProtocolConfig,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from extproc.events import TokenUsage as Usage
from extproc.mutation import admission
from extproc.replies import (
    ImmediateReply,
    ModeOverride,
    Mutation,
    RequestBodyChunk,
    RequestBodyReply,
    RequestHeadersReply,
    RequestTrailersReply,
    ResponseBodyChunk,
    ResponseBodyReply,
    ResponseHeadersReply,
    ResponseTrailersReply,
    Tag,
)
from extproc.wire import encoding

SUBSET = "x-gateway-destination-endpoint-subset"
SERVED = "x-gateway-destination-endpoint-served"
DESTINATION = "x-gateway-destination-endpoint"
PODS = "10.0.0.1:8000,10.0.0.2:8000"

#: Every field of a message that sends a request somewhere.
EVERYTHING = Mutation(
    set_headers=(("x-user", "zoë"),),
    remove_headers=("authorization", "x-secret"),
    destination=PODS,
    clear_route_cache=True,
)


def decode(message: ProcessingRequest) -> Event:
    return wire.decode(message.SerializeToString())


def encoded(reply) -> ProcessingResponse:
    return ProcessingResponse.FromString(wire.encode(reply))


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


# From Envoy


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
    assert event.attributes is NO_ATTRIBUTES


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
    message = request("request_headers")
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
    assert isinstance(event, RequestHeaders)
    assert event.attributes == {
        "request.path": "/v1", "request.size": 12.0, "connection.mtls": False, "nothing": None, "unset": None,
        "map": {"a": 1.5}, "list": ["x", True],
    }  # fmt: skip


def test_attributes_of_another_filter_are_not_ours():
    message = request("request_headers")
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
    assert decode(message) == ResponseBody(b"answer", last)


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
    with pytest.raises(RemoteProtocolError):
        wire.decode(b"\x12\x07\x0a\x05\x0a\x03\x0a\x01\xff")


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


# To Envoy


def headers_of(mutation) -> list[tuple[str, bytes, int, str]]:
    return [(o.header.key, o.header.raw_value, o.append_action, o.header.value) for o in mutation.set_headers]


OVERWRITE_IF_EXISTS_OR_ADD = 2

MUTATING = [
    (RequestHeadersReply, "request_headers"),
    (RequestBodyReply, "request_body"),
    (ResponseHeadersReply, "response_headers"),
]


@pytest.mark.parametrize(("kind", "field"), MUTATING)
def test_everything_that_a_mutation_can_say(kind, field):
    message = encoded(kind(EVERYTHING))
    assert message.WhichOneof("response") == field
    common = getattr(message, field).response
    assert common.status == 0
    assert common.clear_route_cache
    assert headers_of(common.header_mutation) == [
        (DESTINATION, PODS.encode(), OVERWRITE_IF_EXISTS_OR_ADD, ""),
        ("x-user", "zoë".encode(), OVERWRITE_IF_EXISTS_OR_ADD, ""),
    ]
    assert list(common.header_mutation.remove_headers) == ["authorization", "x-secret"]
    assert not common.HasField("body_mutation")
    assert list(message.dynamic_metadata.fields) == ["envoy.lb"]
    namespace = message.dynamic_metadata.fields["envoy.lb"].struct_value
    assert {key: value.string_value for key, value in namespace.fields.items()} == {DESTINATION: PODS}
    # The same again, now kept.
    assert encoded(kind(EVERYTHING)) == message


@pytest.mark.parametrize(("kind", "field"), MUTATING)
def test_nothing_to_say(kind, field):
    message = encoded(kind())
    assert message.WhichOneof("response") == field
    assert wire.encode(kind(Mutation())) == wire.encode(kind())
    assert len(wire.encode(kind())) == 2  # the field's tag and length 0


def test_who_is_let_in_is_marked() -> None:
    message = ProcessingResponse.FromString(wire.encode(RequestHeadersReply(admission((), ("authorization",)))))
    assert message.request_headers.response.header_mutation.remove_headers == ["authorization"]
    assert message.dynamic_metadata["infer-gateway"]["admitted"] is True
    assert "infer-gateway" not in ProcessingResponse.FromString(wire.encode(RequestHeadersReply())).dynamic_metadata


@pytest.mark.parametrize(("kind", "field"), MUTATING)
def test_each_part_of_a_mutation_alone(kind, field):
    message = encoded(kind(Mutation(destination=PODS)))
    said = headers_of(getattr(message, field).response.header_mutation)
    assert said == [(DESTINATION, PODS.encode(), OVERWRITE_IF_EXISTS_OR_ADD, "")]
    assert message.HasField("dynamic_metadata")

    message = encoded(kind(Mutation(destination=PODS, pool="large")))
    namespace = message.dynamic_metadata.fields["envoy.lb"].struct_value
    assert {key: value.string_value for key, value in namespace.fields.items()} == {
        DESTINATION: PODS,
        "x-gateway-pool": "large",
    }

    message = encoded(kind(Mutation(clear_route_cache=True)))
    assert getattr(message, field).response.clear_route_cache
    assert not message.HasField("dynamic_metadata")

    message = encoded(kind(Mutation(remove_headers=("x",))))
    assert list(getattr(message, field).response.header_mutation.remove_headers) == ["x"]
    assert not message.HasField("dynamic_metadata")

    message = encoded(kind(Mutation(set_headers=(("x", ""),))))
    assert headers_of(getattr(message, field).response.header_mutation) == [("x", b"", OVERWRITE_IF_EXISTS_OR_ADD, "")]


def test_kept_replies_are_bounded(monkeypatch):
    monkeypatch.setattr(encoding, "MAX_CACHED_REPLIES", 3)
    kept = encoding._Replies(lambda message: message.request_body)
    for number in range(10):
        mutation = Mutation((("x-user", str(number)),), destination=PODS)
        assert kept.reply(mutation) == wire.encode(RequestBodyReply(mutation))
        assert 1 <= len(kept) <= 3
        size = len(kept)
        assert kept.reply(mutation) == wire.encode(RequestBodyReply(mutation))
        assert len(kept) == size


@given(
    st.lists(st.text("0123456789.:[],é\0\1", max_size=200), min_size=2, max_size=6),
    st.sampled_from([(), (("x-user", "\0\1"),)]),
    st.sampled_from(["", "large"]),
    st.booleans(),
)
def test_lists_of_pods_in_replies_that_are_kept(values, headers, pool, flag):
    kept = encoding._Replies(lambda message: message.request_body)
    for value in values:
        message = ProcessingResponse.FromString(
            kept.reply(Mutation(headers, ("x",), value, pool, admitted=flag, clear_route_cache=flag))
        )
        said = dict.fromkeys([DESTINATION] if value else [], value.encode())
        mutation = message.request_body.response.header_mutation
        assert {option.header.key: option.header.raw_value for option in mutation.set_headers} == {
            **said, **{name: text.encode() for name, text in headers}
        }  # fmt: skip
        fields = message.dynamic_metadata["envoy.lb"] if value else {}
        assert dict(fields) == ({DESTINATION: value} | ({"x-gateway-pool": pool} if pool else {}) if value else {})
        assert message.request_body.response.clear_route_cache is flag
    assert len(kept) == len({len(value.encode()) for value in values})


def test_large_replies_are_not_kept():
    kept = encoding._Replies(lambda message: message.request_body)
    mutation = Mutation(set_headers=(("x", "y" * encoding.MAX_CACHED_REPLY),))
    assert kept.reply(mutation) == kept.reply(mutation) == wire.encode(RequestBodyReply(mutation))
    assert len(kept) == 0


def test_request_body_replaced():
    message = encoded(RequestBodyReply(EVERYTHING, b"\x00new"))
    common = message.request_body.response
    assert common.body_mutation.WhichOneof("mutation") == "body"
    assert common.body_mutation.body == b"\x00new"
    assert len(common.header_mutation.set_headers) == 2
    assert message.HasField("dynamic_metadata")


@pytest.mark.parametrize(("kind", "field"), [(RequestBodyReply, "request_body"), (ResponseBodyReply, "response_body")])
def test_body_taken_away(kind, field):
    message = encoded(kind(body=b""))
    mutation = getattr(message, field).response.body_mutation
    assert mutation.WhichOneof("mutation") == "clear_body"
    assert mutation.clear_body


def test_response_body():
    message = encoded(ResponseBodyReply())
    assert message.WhichOneof("response") == "response_body"
    assert not message.response_body.HasField("response")
    message = encoded(ResponseBodyReply(b"new"))
    assert message.response_body.response.body_mutation.body == b"new"


@pytest.mark.parametrize(("kind", "field"), [(RequestBodyChunk, "request_body"), (ResponseBodyChunk, "response_body")])
@pytest.mark.parametrize("body", [b"", b"\x00piece"])
@pytest.mark.parametrize("last", [False, True])
def test_chunk(kind, field, body, last):
    message = encoded(kind(body, last))
    assert message.WhichOneof("response") == field
    mutation = getattr(message, field).response.body_mutation
    assert mutation.WhichOneof("mutation") == "streamed_response"
    assert (mutation.streamed_response.body, mutation.streamed_response.end_of_stream) == (body, last)


def test_request_trailers_reply():
    message = encoded(RequestTrailersReply())
    assert message.WhichOneof("response") == "request_trailers"
    assert not message.HasField("dynamic_metadata")
    message = encoded(RequestTrailersReply(PODS))
    assert message.WhichOneof("response") == "request_trailers"
    assert message.dynamic_metadata.fields["envoy.lb"].struct_value.fields[DESTINATION].string_value == PODS


def test_response_trailers_reply():
    message = encoded(ResponseTrailersReply())
    assert message.WhichOneof("response") == "response_trailers"
    assert not message.response_trailers.HasField("header_mutation")
    assert not message.HasField("dynamic_metadata")


def test_immediate_reply():
    reply = ImmediateReply(401, (("www-authenticate", "Bearer"), ("x-user", "zoë")), b'{"error":{}}', "missing_token")
    message = encoded(reply)
    assert message.WhichOneof("response") == "immediate_response"
    answer = message.immediate_response
    assert answer.status.code == 401
    assert headers_of(answer.headers) == [
        ("www-authenticate", b"Bearer", OVERWRITE_IF_EXISTS_OR_ADD, ""),
        ("x-user", "zoë".encode(), OVERWRITE_IF_EXISTS_OR_ADD, ""),
    ]
    assert (answer.body, answer.details) == (b'{"error":{}}', "missing_token")
    assert not answer.HasField("grpc_status")


@pytest.mark.parametrize(
    "reply",
    [
        ImmediateReply(2**40, (), b""),
        ImmediateReply(400, (("x", "\ud800"),), b""),
        ImmediateReply(400, (("\ud800", "x"),), b""),
        ImmediateReply(400, (), b"", "\ud800"),
        RequestHeadersReply(Mutation(destination="\ud800")),
        RequestBodyReply(Mutation(remove_headers=("\ud800",))),
    ],
)
def test_reply_that_no_message_can_hold(reply):
    with pytest.raises(LocalProtocolError, match=f"{type(reply).__name__} cannot be sent"):
        wire.encode(reply)


class TestAccessLog:
    def entry(self, message: StreamAccessLogsMessage) -> HTTPAccessLogEntry:
        return message.http_logs.log_entry.add()

    def test_everything_that_is_told(self) -> None:
        message = StreamAccessLogsMessage()
        entry = self.entry(message)
        common = entry.common_properties
        common.metadata.filter_metadata["infer-gateway"].fields["key"].string_value = "00000000000000ff"
        common.metadata.filter_metadata["envoy.lb"].fields[SERVED].string_value = "10.0.0.2:80"
        common.upstream_request_attempt_count = 2
        common.custom_tags["ttft-us"] = "51030"
        entry.response.response_code.value = 503
        entry.response.response_code_details = "via_upstream"
        assert wire.decode_log(message.SerializeToString()) == [
            LogEntry(
                key="00000000000000ff",
                status=503,
                served="10.0.0.2:80",
                attempts=2,
                details="via_upstream",
                tags={"ttft-us": "51030"},
            )
        ]

    def test_nothing_that_is_told(self) -> None:
        message = StreamAccessLogsMessage()
        self.entry(message)
        assert wire.decode_log(message.SerializeToString()) == [LogEntry(key="")]
        assert wire.decode_log(b"") == []

    @pytest.mark.parametrize(
        ("counts", "usage"),
        [
            ({"prompt_tokens": 10, "cached_tokens": 4, "completion_tokens": 5}, Usage(10, 4, 5)),
            ({"prompt_tokens": 10, "completion_tokens": 5}, Usage(10, None, 5)),
            ({"input_tokens": 10, "cached_tokens": 4, "output_tokens": 5}, Usage(10, 4, 5)),
            # Anthropic counts what is read from and written to the cache beside the input.
            (
                {
                    "input_tokens": 6,
                    "cache_read_input_tokens": 3,
                    "cache_creation_input_tokens": 1,
                    "output_tokens": 5,
                },
                Usage(10, 3, 5),
            ),
            ({"input_tokens": 6, "cache_read_input_tokens": 0}, Usage(6, 0, None)),
            ({"completion_tokens": 5}, Usage(None, None, 5)),
        ],
    )
    def test_usage_under_each_apis_names(self, counts: dict[str, int], usage: Usage) -> None:
        message = StreamAccessLogsMessage()
        told = self.entry(message).common_properties.metadata.filter_metadata["infer-gateway.usage"]
        for name, count in counts.items():
            told.fields[name].number_value = count
        assert wire.decode_log(message.SerializeToString())[0].usage == usage

    @pytest.mark.parametrize(
        ("told", "read"),
        [
            ({"input_tokens": 100, "output_tokens": 2**64 - 1, "cached_tokens": 64}, Usage(100, 64, 2**64 - 1)),
            ({"output_tokens": 0}, Usage(None, None, 0)),
            ({}, Usage()),
        ],
    )
    def test_usage_by_the_ai_filter(self, told: dict[str, int], read: Usage) -> None:
        message = StreamAccessLogsMessage()
        self.pack(self.entry(message), usage_of(told))
        assert wire.decode_log(message.SerializeToString())[0].usage == read

    def test_usage_of_a_type_that_is_not_known(self) -> None:
        message = StreamAccessLogsMessage()
        self.pack(self.entry(message), usage_of({"output_tokens": 5}), "envoy.data.ai.v9.TokenUsage")
        assert wire.decode_log(message.SerializeToString())[0].usage == Usage()

    def test_garbage(self) -> None:
        with pytest.raises(RemoteProtocolError):
            wire.decode_log(b"\xff")
        message = StreamAccessLogsMessage()
        self.pack(self.entry(message), b"\xff")
        with pytest.raises(RemoteProtocolError, match=r"not a envoy\.data\.ai\.v3\.TokenUsage"):
            wire.decode_log(message.SerializeToString())

    def pack(self, entry: HTTPAccessLogEntry, usage: bytes, kind: str = "envoy.data.ai.v3.TokenUsage") -> None:
        packed = entry.common_properties.metadata.typed_filter_metadata["envoy.ai.token_usage"]
        packed.type_url, packed.value = f"type.googleapis.com/{kind}", usage


def usage_of(told: dict[str, int]) -> bytes:
    usage = TokenUsage()
    for name, count in told.items():
        (usage.input_token_details.cached_tokens if name == "cached_tokens" else getattr(usage, name)).value = count
    return usage.SerializeToString()


@pytest.mark.parametrize(
    "reply",
    [
        RequestHeadersReply(Mutation(destination="a:1")),
        RequestBodyReply(Mutation(destination="a:1")),
        RequestBodyReply(Mutation(destination="a:1"), b"body"),
        RequestTrailersReply("a:1"),
    ],
)
@pytest.mark.parametrize("explanation", ["", '{"pod":"a:1"}'])
def test_a_tag_is_added_and_changes_nothing_else(reply: Any, explanation: str) -> None:
    tag = Tag("00000000000000ff", explanation)
    plain = ProcessingResponse.FromString(wire.encode(reply))
    keyed = ProcessingResponse.FromString(wire.encode(msgspec.structs.replace(reply, tag=tag)))
    own = keyed.dynamic_metadata.fields.pop("infer-gateway")
    told = {name: value.string_value for name, value in own.struct_value.fields.items()}
    assert told == {"key": "00000000000000ff"} | ({"explanation": explanation} if explanation else {})
    assert keyed == plain


@pytest.mark.parametrize("request_mode", [BodyMode.BUFFERED, BodyMode.FULL_DUPLEX_STREAMED])
def test_another_mode_for_the_answer_keeps_that_of_the_request(request_mode):
    mode = ModeOverride(request_mode, BodyMode.FULL_DUPLEX_STREAMED)
    message = encoded(ResponseHeadersReply(Mutation(remove_headers=("content-length",)), mode))
    assert list(message.response_headers.response.header_mutation.remove_headers) == ["content-length"]
    told = message.mode_override
    assert (told.request_body_mode, told.response_body_mode) == (int(request_mode), 4)
    assert told.request_header_mode == told.response_header_mode == told.response_trailer_mode == 1
    assert told.request_trailer_mode == (1 if request_mode is BodyMode.FULL_DUPLEX_STREAMED else 2)
