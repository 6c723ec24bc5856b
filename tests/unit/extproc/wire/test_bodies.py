"""Bodies without protobuf objects, with protobuf as the oracle."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.envoy_messages import ProcessingRequest, ProcessingResponse

from extproc.protocol.events import BodyMode, ProtocolConfig, ResponseBody, ResponseHeaders
from extproc.protocol.headers import Headers
from extproc.protocol.replies import RequestBodyChunk, ResponseBodyChunk
from extproc.protocol.session import MAX_CHUNK, Session
from extproc.wire import bodies, decode, encode

SIZES = [0, 1, 125, 126, 127, 128, 16_383, 16_384, MAX_CHUNK, MAX_CHUNK + 1]


def message(body: bytes, *, end: bool, part: str = "response_body", metadata: str = "") -> bytes:
    made = ProcessingRequest()
    getattr(made, part).SetInParent()
    getattr(made, part).body = body
    getattr(made, part).end_of_stream = end
    made.metadata_context.SetInParent()
    if metadata:
        made.metadata_context.filter_metadata["envoy.lb"].update({"x-gateway-destination-endpoint-served": metadata})
    return bytes(made.SerializeToString())


def watched() -> Session:
    """A stream of a gateway that keeps nothing of answers, whose answer has begun."""
    session = Session(max_body=1)
    config = ProtocolConfig(BodyMode.FULL_DUPLEX_STREAMED, BodyMode.FULL_DUPLEX_STREAMED)
    session.receive(ResponseHeaders(Headers(), config=config))
    session.replies_to_send()
    return session


PIECES = st.one_of(st.binary(max_size=300), st.sampled_from(SIZES).map(bytes))


@given(st.lists(PIECES, max_size=6), st.booleans(), st.text(max_size=20))
def test_an_answer_goes_back_as_it_came(pieces: list[bytes], end: bool, metadata: str) -> None:
    session = watched()
    out = []
    for number, piece in enumerate(pieces):
        last = end and number == len(pieces) - 1
        event = decode(message(piece, end=last, metadata=metadata))
        assert session.receive(event) is event
        replies = session.replies_to_send()
        assert len(replies) == (1 if len(piece) <= MAX_CHUNK else 2)
        for reply in replies:
            answer = ProcessingResponse.FromString(encode(reply))
            assert answer.WhichOneof("response") == "response_body"
            back = answer.response_body.response.body_mutation
            assert back.WhichOneof("mutation") == "streamed_response"
            out.append((back.streamed_response.body, back.streamed_response.end_of_stream))
    assert b"".join([body for body, _ in out]) == b"".join(pieces)
    assert [is_end for _, is_end in out] == [False] * (len(out) - 1) + [end] if out else True


@given(st.sampled_from(["request_body", "response_body"]), PIECES, st.booleans(), st.text(max_size=20))
def test_what_is_read_is_what_protobuf_reads(part: str, body: bytes, end: bool, metadata: str) -> None:
    data = message(body, end=end, part=part, metadata=metadata)
    read = bodies.read(data)
    assert read is not None
    start, stop, found, last, has_metadata = read
    assert (found, last, has_metadata) == (body, end, bool(metadata))
    assert data[start:stop] == getattr(ProcessingRequest.FromString(data), part).SerializeToString()


@given(st.sampled_from([bodies.REQUEST_BODY, bodies.RESPONSE_BODY]), st.binary(max_size=40))
def test_what_is_read_of_garbage_is_what_protobuf_reads(tag: int, rest: bytes) -> None:
    data = bytes((tag,)) + rest
    read = bodies.read(data)
    if read is not None and not read[4]:
        made = ProcessingRequest.FromString(data)
        part = made.request_body if tag == bodies.REQUEST_BODY else made.response_body
        assert (part.body, part.end_of_stream) == (read[2], read[3])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x2a",
        b"\x2a\x05\x0a\x03abc\x50\x01",  # another field behind it
        b"\x2a\x07\x0a\x03abc\x18\x01",  # … and in it
        b"\x2a\x06\x0a\x03ab",  # cut off
        b"\x2a\x05\x0a\x04abc",
        b"\x2a\x05\x10\x01\x0a\x01a",  # another order
        b"\x2a\x02\x10\x02",
        b"\x2a\x00\x42\x02\x0a",
        b"\x2a\xff\xff\xff\xff\xff\x01",
        b"\x2a\xff",
    ],
)
def test_what_is_not_read(data: bytes) -> None:
    assert bodies.read(data) is None


def test_heads_are_bounded() -> None:
    heads = bodies.Heads(ProcessingResponse(response_body={}).SerializeToString())
    made = [heads.before(size) for size in range(bodies.MAX_HEADS + 10)]
    assert made == [heads.before(size) for size in range(bodies.MAX_HEADS + 10)]
    assert len(heads._heads) <= bodies.MAX_HEADS


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [RequestBodyChunk, ResponseBodyChunk])
def test_pieces(kind: type[RequestBodyChunk] | type[ResponseBodyChunk], size: int, last: bool) -> None:
    made = ProcessingResponse.FromString(encode(kind(bytes(size), last)))
    part = made.request_body if kind is RequestBodyChunk else made.response_body
    assert part.response.body_mutation.WhichOneof("mutation") == "streamed_response"
    back = part.response.body_mutation.streamed_response
    assert (back.body, back.end_of_stream) == (bytes(size), last)


def test_a_piece_with_metadata_that_says_where_it_may_go_is_read_in_full() -> None:
    made = ProcessingRequest(request_body={"body": b"x", "end_of_stream": True})
    listed = {"x-gateway-destination-endpoint-subset": ["127.0.0.1:80"]}
    made.metadata_context.filter_metadata["envoy.lb.subset_hint"].update(listed)
    event = decode(made.SerializeToString())
    assert not isinstance(event, ResponseBody)
    assert event.subset == ("127.0.0.1:80",)
