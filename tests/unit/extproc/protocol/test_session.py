"""The state machine: its documented ways, and that every way not documented is refused."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.errors import LocalProtocolError, Refusal, RemoteProtocolError, bad_request
from extproc.protocol.actions import HeadReady, RequestReady
from extproc.protocol.events import (
    BodyMode,
    ProtocolConfig,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from extproc.protocol.headers import Headers
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
)
from extproc.protocol.session import (
    MAX_CHUNK,
    Session,
)
from extproc.protocol.states import RequestState, ResponseState

PICK = Mutation(destination="10.0.0.1:8000")
NO_HEADERS = Headers()


def head(
    mode: BodyMode | None = None,
    *,
    end: bool = False,
    response: BodyMode = BodyMode.NONE,
    eager: bool = False,
    subset: tuple[str, ...] | None = None,
) -> RequestHeaders:
    config = None if mode is None else ProtocolConfig(mode, response, eager)
    return RequestHeaders(NO_HEADERS, end_of_stream=end, config=config, subset=subset)


def started(event: RequestHeaders, max_body: int = 1 << 20) -> tuple[Session, RequestReady | None]:
    session = Session(max_body=max_body)
    assert session.receive(event) == HeadReady(event)
    return session, session.proceed()


@pytest.mark.parametrize("mode", [None, BodyMode.BUFFERED, BodyMode.BUFFERED_PARTIAL])
def test_buffered_headers_go_on_at_once_and_the_pick_comes_with_the_body(mode: BodyMode | None) -> None:
    session, ready = started(head(mode))
    assert ready is None
    assert session.replies_to_send() == [RequestHeadersReply()]
    action = session.receive(RequestBody(b"{}", end_of_stream=True))
    assert isinstance(action, RequestReady)
    assert (action.body, action.complete) == (b"{}", True)
    session.route(PICK)
    assert session.replies_to_send() == [RequestBodyReply(PICK)]
    assert session.request_state is RequestState.DONE


def test_buffered_body_before_trailers_is_whole_though_it_is_not_the_end() -> None:
    session, _ = started(head(BodyMode.BUFFERED))
    session.replies_to_send()
    action = session.receive(RequestBody(b"{}", end_of_stream=False))
    assert isinstance(action, RequestReady)
    assert action.complete
    session.route(PICK)
    session.receive(RequestTrailers(NO_HEADERS))
    assert session.replies_to_send() == [RequestBodyReply(PICK), RequestTrailersReply()]


def test_buffered_partial_says_that_the_body_may_be_cut() -> None:
    session, _ = started(head(BodyMode.BUFFERED_PARTIAL))
    action = session.receive(RequestBody(b"{", end_of_stream=False))
    assert isinstance(action, RequestReady)
    assert not action.complete


def test_buffered_without_a_body_but_with_trailers_decides_at_the_trailers() -> None:
    session, _ = started(head(BodyMode.BUFFERED))
    session.replies_to_send()
    action = session.receive(RequestTrailers(NO_HEADERS))
    assert isinstance(action, RequestReady)
    assert action.body == b""
    session.route(PICK)
    assert session.replies_to_send() == [RequestTrailersReply(PICK.destination)]


@pytest.mark.parametrize("mode", [None, *BodyMode])
def test_a_request_without_body_is_decided_at_its_headers_in_every_mode(mode: BodyMode | None) -> None:
    session, ready = started(head(mode, end=True))
    assert ready is not None
    assert (ready.body, ready.complete) == (b"", True)
    session.route(PICK)
    assert session.replies_to_send() == [RequestHeadersReply(PICK)]
    with pytest.raises(RemoteProtocolError):
        session.receive(RequestBody(b"late"))


@pytest.mark.parametrize("mode", [BodyMode.NONE, BodyMode.STREAMED, BodyMode.GRPC])
def test_where_the_body_is_not_held_the_decision_is_made_without_it(mode: BodyMode) -> None:
    session, ready = started(head(mode))
    assert ready is not None
    assert ready.body is None
    session.route(PICK)
    assert session.replies_to_send() == [RequestHeadersReply(PICK)]
    assert session.receive(RequestBody(b"a")) is None
    assert session.receive(RequestBody(b"", end_of_stream=True)) is None
    assert session.replies_to_send() == [RequestBodyReply(), RequestBodyReply()]


def test_streamed_without_waiting_holds_the_headers_and_answers_each_chunk() -> None:
    session, ready = started(head(BodyMode.STREAMED, eager=True))
    assert ready is None
    assert session.receive(RequestBody(b"{")) is None
    assert session.replies_to_send() == []
    action = session.receive(RequestBody(b"}", end_of_stream=True))
    assert isinstance(action, RequestReady)
    assert action.body == b"{}"
    session.route(PICK)
    assert session.replies_to_send() == [RequestHeadersReply(PICK), RequestBodyReply(), RequestBodyReply()]


def test_streamed_without_waiting_ends_with_trailers() -> None:
    session, _ = started(head(BodyMode.STREAMED, eager=True))
    session.receive(RequestBody(b"{}"))
    assert isinstance(session.receive(RequestTrailers(NO_HEADERS)), RequestReady)
    session.route(PICK)
    assert session.replies_to_send() == [RequestHeadersReply(PICK), RequestBodyReply(), RequestTrailersReply()]


@given(st.lists(st.binary(max_size=2 * MAX_CHUNK + 10), min_size=1, max_size=4), st.booleans())
@settings(max_examples=40)
def test_full_duplex_gives_the_body_back_byte_for_byte(chunks: list[bytes], trailers: bool) -> None:
    session, _ = started(head(BodyMode.FULL_DUPLEX_STREAMED))
    for chunk in chunks[:-1]:
        assert session.receive(RequestBody(chunk)) is None
    action = session.receive(RequestBody(chunks[-1], end_of_stream=not trailers))
    if trailers:
        assert action is None
        assert session.replies_to_send() == []
        action = session.receive(RequestTrailers(NO_HEADERS))
    assert isinstance(action, RequestReady)
    assert action.body == b"".join(chunks)
    session.route(PICK)
    first, *rest = session.replies_to_send()
    assert first == RequestHeadersReply(PICK)
    assert rest
    if trailers:
        assert rest.pop() == RequestTrailersReply()
    pieces = [reply for reply in rest if isinstance(reply, RequestBodyChunk)]
    assert len(pieces) == len(rest)
    assert b"".join(piece.body for piece in pieces) == b"".join(chunks)
    assert all(len(piece.body) <= MAX_CHUNK for piece in pieces)
    assert [piece.end_of_stream for piece in pieces] == [False] * (len(pieces) - 1) + [not trailers] * (len(pieces) > 0)


def test_streamed_a_new_body_takes_the_place_of_the_first_chunk() -> None:
    session, _ = started(head(BodyMode.STREAMED, eager=True))
    session.receive(RequestBody(b"old ", end_of_stream=False))
    session.receive(RequestBody(b"body", end_of_stream=False))
    session.receive(RequestTrailers(NO_HEADERS))
    session.route(PICK, b"new")
    assert session.replies_to_send() == [
        RequestHeadersReply(PICK),
        RequestBodyReply(body=b"new"),
        RequestBodyReply(body=b""),
        RequestTrailersReply(),
    ]


def test_full_duplex_with_trailers_alone() -> None:
    session, _ = started(head(BodyMode.FULL_DUPLEX_STREAMED))
    assert isinstance(session.receive(RequestTrailers(NO_HEADERS)), RequestReady)
    session.route(PICK)
    assert session.replies_to_send() == [RequestHeadersReply(PICK), RequestTrailersReply()]


def test_a_new_body_takes_the_place_of_the_old() -> None:
    session, _ = started(head(BodyMode.BUFFERED))
    session.replies_to_send()
    session.receive(RequestBody(b"old", end_of_stream=True))
    session.route(PICK, b"new")
    assert session.replies_to_send() == [RequestBodyReply(PICK, b"new")]
    session, _ = started(head(BodyMode.FULL_DUPLEX_STREAMED))
    session.receive(RequestBody(b"old", end_of_stream=True))
    session.route(PICK, b"new")
    assert session.replies_to_send() == [RequestHeadersReply(PICK), RequestBodyChunk(b"new", end_of_stream=True)]


@pytest.mark.parametrize("mode", [None, BodyMode.NONE, BodyMode.STREAMED, BodyMode.BUFFERED])
def test_a_new_body_has_no_place_where_the_request_has_none(mode: BodyMode | None) -> None:
    """A body that Envoy did not show cannot be put in: the reply is to the headers alone."""
    session, _ = started(head(mode, end=True))
    session.route(PICK, b"new")
    assert session.replies_to_send() == [RequestHeadersReply(PICK)]
    assert session.request_state is RequestState.DONE


@pytest.mark.parametrize("mode", [BodyMode.BUFFERED, BodyMode.FULL_DUPLEX_STREAMED])
def test_a_body_over_the_limit_is_refused_with_413(mode: BodyMode) -> None:
    session, _ = started(head(mode), max_body=10)
    if mode is BodyMode.FULL_DUPLEX_STREAMED:
        session.receive(RequestBody(b"123456"))
    with pytest.raises(Refusal) as refused:
        session.receive(RequestBody(b"12345678901"))
    session.replies_to_send()
    session.reject(refused.value)
    (reply,) = session.replies_to_send()
    assert isinstance(reply, ImmediateReply)
    assert reply.status == 413
    # What was on its way is not looked at.
    for event in (RequestBody(b"more"), RequestTrailers(NO_HEADERS), ResponseHeaders(NO_HEADERS)):
        assert session.receive(event) is None
    assert session.replies_to_send() == []


def test_the_latest_subset_counts() -> None:
    session, _ = started(head(BodyMode.BUFFERED, subset=("a:1",)))
    action = session.receive(RequestBody(b"{}", end_of_stream=True, subset=("b:1",)))
    assert isinstance(action, RequestReady)
    assert action.subset == ("b:1",)
    _, ready = started(head(BodyMode.BUFFERED, end=True, subset=("a:1",)))
    assert ready is not None
    assert ready.subset == ("a:1",)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(BodyMode.STREAMED, ResponseBodyReply()), (BodyMode.FULL_DUPLEX_STREAMED, ResponseBodyChunk(b"x", False))],
)
def test_the_response_half_only_watches(mode: BodyMode, expected: object) -> None:
    session, _ = started(head(BodyMode.BUFFERED, end=True, response=mode))
    session.route(PICK)
    session.replies_to_send()
    for event in (ResponseHeaders(NO_HEADERS), ResponseBody(b"x"), ResponseTrailers(NO_HEADERS)):
        assert session.receive(event) is event
    assert session.replies_to_send() == [ResponseHeadersReply(), expected, ResponseTrailersReply()]
    assert session.response_state is ResponseState.ENDED
    with pytest.raises(RemoteProtocolError):
        session.receive(ResponseBody(b"late"))


def test_the_response_half_may_begin_anywhere() -> None:
    for event in (ResponseBody(b"x", end_of_stream=True), ResponseTrailers(NO_HEADERS)):
        session, _ = started(head(BodyMode.BUFFERED, end=True))
        session.route(PICK)
        assert session.receive(event) is event
        assert session.response_state is ResponseState.ENDED
    session, _ = started(head(BodyMode.BUFFERED, end=True))
    session.route(PICK)
    session.receive(ResponseHeaders(NO_HEADERS, end_of_stream=True))
    assert session.response_state is ResponseState.ENDED


def test_envoy_may_answer_by_itself_while_the_body_is_collected() -> None:
    session, _ = started(head(BodyMode.BUFFERED))
    answer = ResponseHeaders(NO_HEADERS, end_of_stream=True)
    assert session.receive(answer) is answer


@pytest.mark.parametrize("end", [False, True])
def test_an_envoy_that_does_not_tell_its_mode_is_answered_at_the_first_piece(end: bool) -> None:
    session, _ = started(head())
    action = session.receive(RequestBody(b"{", end_of_stream=end))
    assert isinstance(action, RequestReady)
    assert (action.complete, action.told) == (end, False)


@pytest.mark.parametrize("mode", [mode for mode in BodyMode if mode is not BodyMode.GRPC])
def test_what_is_assumed_of_an_envoy_is_what_it_would_have_told(mode: BodyMode) -> None:
    def replies(session: Session, first: RequestHeaders) -> list[object]:
        session.receive(first)
        ready = session.proceed()
        found: list[object] = [session.replies_to_send()]
        for event in (RequestBody(b"{"), RequestBody(b"}", end_of_stream=True)):
            if ready is not None:
                session.route(PICK)
            ready = session.receive(event)  # type: ignore[assignment]
            found.append(session.replies_to_send())
        return found

    config = ProtocolConfig(mode)
    if mode in (BodyMode.BUFFERED, BodyMode.BUFFERED_PARTIAL):
        assert Session(max_body=9, assumed=config).receive(head()) is not None  # one message has the whole body
        return
    told = replies(Session(max_body=9), head(mode))
    assert replies(Session(max_body=9, assumed=config), head()) == told
    # What Envoy tells comes first.
    assert replies(Session(max_body=9, assumed=ProtocolConfig(BodyMode.BUFFERED)), head(mode)) == told


FIRST = [
    ResponseHeaders(NO_HEADERS),
    ResponseHeaders(NO_HEADERS, end_of_stream=True),
    ResponseBody(b"x"),
    ResponseBody(b"x", end_of_stream=True),
    ResponseTrailers(NO_HEADERS),
]


@pytest.mark.parametrize("mode", [None, *BodyMode])
@pytest.mark.parametrize("first", FIRST)
def test_an_answer_without_a_request_goes_on_as_it_is(
    first: ResponseHeaders | ResponseBody | ResponseTrailers, mode: BodyMode | None
) -> None:
    """Answers of filters before ext_proc: 401 of jwt_authn, 403 of RBAC, 429 of a rate limit, 200 of CORS."""
    session = Session(max_body=1 << 20)
    config = None if mode is None else ProtocolConfig(BodyMode.BUFFERED, mode)
    first = msgspec.structs.replace(first, config=config)
    assert session.receive(first) is first
    replies = session.replies_to_send()
    if not first.end_of_stream:
        session.receive(ResponseBody(b"no token", end_of_stream=True))
        replies += session.replies_to_send()
    duplex = mode is BodyMode.FULL_DUPLEX_STREAMED
    for reply in replies:
        if isinstance(reply, ResponseBodyChunk):
            assert duplex
            assert reply.body in (b"x", b"no token")
        else:
            assert reply in (ResponseHeadersReply(), ResponseTrailersReply(), ResponseBodyReply())
            assert not (duplex and isinstance(reply, ResponseBodyReply))
    # There is no request any more: to ask for one would pass a request by, undecided.
    with pytest.raises(RemoteProtocolError):
        session.receive(head())


def test_our_own_mistakes_are_told_apart() -> None:
    session = Session(max_body=1)
    for step in (session.proceed, lambda: session.route(PICK), lambda: session.reject(bad_request("x"))):
        with pytest.raises(LocalProtocolError):
            step()
    session.receive(head())
    with pytest.raises(LocalProtocolError):
        session.receive(head())
    session.reject(bad_request("x"))
    with pytest.raises(LocalProtocolError):
        session.reject(bad_request("x"))


EVENTS = [
    *[head(mode, end=end, eager=eager) for mode in BodyMode for end in (False, True) for eager in (False, True)],
    *[RequestBody(b"x", end_of_stream=end) for end in (False, True)],
    RequestTrailers(NO_HEADERS),
    *[ResponseHeaders(NO_HEADERS, end_of_stream=end) for end in (False, True)],
    *[ResponseBody(b"x", end_of_stream=end) for end in (False, True)],
    ResponseTrailers(NO_HEADERS),
]


@given(st.lists(st.sampled_from(EVENTS), max_size=12), st.lists(st.booleans(), min_size=12, max_size=12))
@settings(max_examples=600)
def test_any_order_is_taken_or_refused_and_never_owes_more_than_it_was_given(
    events: list[object], verdicts: list[bool]
) -> None:
    session = Session(max_body=8)
    received = replies = immediate = 0
    welcome = iter(verdicts)
    for event in events:
        try:
            action = session.receive(event)  # type: ignore[arg-type]  # drawn from the list of events
        except RemoteProtocolError:
            break
        except Refusal as refusal:
            session.reject(refusal)
            action = None
        received += 1
        if isinstance(action, HeadReady):
            if next(welcome):
                action = session.proceed()
            else:
                session.reject(bad_request("no"))
        if isinstance(action, RequestReady):
            if next(welcome):
                session.route(PICK)
            else:
                session.reject(bad_request("no"))
        sent = session.replies_to_send()
        replies += len(sent)
        immediate += sum(isinstance(reply, ImmediateReply) for reply in sent)
        assert session.request_state not in (RequestState.HEAD, RequestState.DECIDING)
    assert immediate <= 1
    # Full duplex without a body still says its end: one reply more than there were messages.
    assert replies <= received + 1


class Upper:
    """Gives an answer back in capitals, and holds its last byte."""

    def __init__(self) -> None:
        self.held = b""

    def feed(self, piece: bytes) -> bytes:
        text = self.held + piece.upper()
        self.held = text[-1:]
        return text[:-1]

    def end(self) -> bytes:
        held, self.held = self.held, b""
        return held


def answering(mode: BodyMode, response: BodyMode, *, end: bool = False) -> tuple[Session, list[object]]:
    """A session whose answer is to be rewritten, and the replies to its headers."""
    session, _ = started(head(mode, end=True, response=response))
    session.route(PICK)
    session.replies_to_send()
    session.receive(ResponseHeaders(NO_HEADERS, end_of_stream=end))
    session.rewrite_answer(Upper())
    return session, list(session.replies_to_send())


WITHOUT_LENGTH = Mutation(remove_headers=("content-length",))


def test_an_answer_is_rewritten_where_envoy_lets_the_mode_be_changed() -> None:
    session, replies = answering(BodyMode.BUFFERED, BodyMode.NONE)
    mode = ModeOverride(BodyMode.BUFFERED, BodyMode.FULL_DUPLEX_STREAMED)
    assert replies == [ResponseHeadersReply(WITHOUT_LENGTH, mode)]
    session.receive(ResponseBody(b"a", end_of_stream=False))
    assert session.replies_to_send() == []
    session.receive(ResponseBody(b"bc", end_of_stream=False))
    session.receive(ResponseBody(b"d", end_of_stream=True))
    assert session.replies_to_send() == [ResponseBodyChunk(b"AB", False), ResponseBodyChunk(b"CD", True)]


def test_what_is_held_of_an_answer_goes_before_its_trailers() -> None:
    session, replies = answering(BodyMode.FULL_DUPLEX_STREAMED, BodyMode.FULL_DUPLEX_STREAMED)
    assert replies == [ResponseHeadersReply(WITHOUT_LENGTH)]
    session.receive(ResponseBody(b"ab", end_of_stream=False))
    session.receive(ResponseTrailers(NO_HEADERS))
    replies = list(session.replies_to_send())
    assert replies == [ResponseBodyChunk(b"A", False), ResponseBodyChunk(b"B", False), ResponseTrailersReply()]


def test_an_answer_without_a_body_or_one_that_ends_with_nothing_held() -> None:
    _, replies = answering(BodyMode.BUFFERED, BodyMode.NONE, end=True)
    assert replies == [ResponseHeadersReply()]
    session, _ = answering(BodyMode.BUFFERED, BodyMode.NONE)
    session.receive(ResponseTrailers(NO_HEADERS))
    assert session.replies_to_send() == [ResponseTrailersReply()]


@pytest.mark.parametrize("mode", [BodyMode.STREAMED, BodyMode.BUFFERED])
def test_an_answer_that_cannot_be_held_is_left_as_it_is(mode: BodyMode) -> None:
    session, replies = answering(BodyMode.BUFFERED, mode)
    assert replies == [ResponseHeadersReply()]
    session.receive(ResponseBody(b"ab", end_of_stream=True))
    assert session.replies_to_send() == [ResponseBodyReply()]


def test_an_answer_of_the_gateways_own_ends_the_request() -> None:
    session = Session(max_body=100)
    session.receive(RequestHeaders(NO_HEADERS, end_of_stream=True))
    session.answer(b'{"object":"list"}', "models")
    (reply,) = session.replies_to_send()
    assert isinstance(reply, ImmediateReply)
    assert (reply.status, reply.body, reply.details) == (200, b'{"object":"list"}', "infer_gateway_models")
    assert session.request_state is RequestState.REJECTED
    with pytest.raises(LocalProtocolError):
        session.answer(b"{}", "models")
