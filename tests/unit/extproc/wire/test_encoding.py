from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.envoy_messages import (
    ProcessingResponse,
)

from extproc import wire
from extproc.errors import LocalProtocolError
from extproc.protocol.events import (
    BodyMode,
)
from extproc.protocol.replies import (
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
from extproc.request.mutation import admission
from extproc.wire import encoding

DESTINATION = "x-gateway-destination-endpoint"
PODS = "10.0.0.1:8000,10.0.0.2:8000"

#: Every field of a message that sends a request somewhere.
EVERYTHING = Mutation(
    set_headers=(("x-user", "zoë"),),
    remove_headers=("authorization", "x-secret"),
    destination=PODS,
)


def encoded(reply) -> ProcessingResponse:
    return ProcessingResponse.FromString(wire.encode(reply))


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

    message = encoded(kind(Mutation(remove_headers=("x",))))
    assert list(getattr(message, field).response.header_mutation.remove_headers) == ["x"]
    assert not message.HasField("dynamic_metadata")

    message = encoded(kind(Mutation(set_headers=(("x", ""),))))
    assert headers_of(getattr(message, field).response.header_mutation) == [("x", b"", OVERWRITE_IF_EXISTS_OR_ADD, "")]


def test_kept_replies_are_bounded():
    kept = encoding._Replies(lambda message: message.request_body, 3)
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
        message = ProcessingResponse.FromString(kept.reply(Mutation(headers, ("x",), value, pool, admitted=flag)))
        said = dict.fromkeys([DESTINATION] if value else [], value.encode())
        mutation = message.request_body.response.header_mutation
        assert {option.header.key: option.header.raw_value for option in mutation.set_headers} == {
            **said, **{name: text.encode() for name, text in headers}
        }  # fmt: skip
        fields = message.dynamic_metadata["envoy.lb"] if value else {}
        assert dict(fields) == ({DESTINATION: value} | ({"x-gateway-pool": pool} if pool else {}) if value else {})
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


def test_request_body_taken_away():
    mutation = encoded(RequestBodyReply(body=b"")).request_body.response.body_mutation
    assert mutation.WhichOneof("mutation") == "clear_body"
    assert mutation.clear_body


def test_response_body():
    message = encoded(ResponseBodyReply())
    assert message.WhichOneof("response") == "response_body"
    assert not message.response_body.HasField("response")


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
