# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""One ext_proc stream as a state machine that does no I/O.

The rules:

- Three tables at the end of this file make every move of a stream: by the events of its request half, by those of its
  response half, by the calls of its owner. An event or a call that no table lists is illegal: `receive` raises
  RemoteProtocolError and the stream ends with an error status; a call raises LocalProtocolError.
- A stream has two halves. The request half leads to one decision; the response half only watches. They are coupled in
  one place (`MAY_RESPOND`): a response may begin once the request was routed, while its body is still being collected
  (Envoy answers on its own when a client sends too much or too slowly), or without a request (a filter before ext_proc
  has answered: Envoy 1.37 and later show that answer alone).

docs/session.md shows the tables and draws the machine; `make docs` writes that page from this file.

How it is driven: feed each event to `receive` and do what the returned action asks, then send `replies_to_send()`.

    HeadReady     → call `proceed()` or `reject()`          (is this client welcome?)
    RequestReady  → call `route()` or `reject()`            (where does this request go?)
    a response event → look at it, nothing needs to be called

How Envoy is set up, which its first message has (`ProtocolConfig`), decides how much of a request is read before the
decision (`PROCEED`):

    body mode                      decision is made                        replies
    NONE                           at the headers, without the body        headers
    BUFFERED, BUFFERED_PARTIAL     at the body                             headers at once; the pick with the body
    STREAMED                       at the headers, without the body        headers with the pick; each chunk
    STREAMED, sent without waiting at the end of the body                  headers with the pick, then each chunk
    FULL_DUPLEX_STREAMED           at the end of the body                  headers with the pick, then the body again

An Envoy that does not send it (before 1.33) is taken for `assumed`, BUFFERED unless the caller has another. No stream
hangs for that: BUFFERED decides at the first message of a body, whichever it is, so that where Envoy sends pieces, a
piece is decided on, and marked as what may be one (`RequestReady.told`).
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import msgspec

from extproc.errors import LocalProtocolError, Refusal, RemoteProtocolError, body_too_large
from extproc.protocol.actions import HeadReady, RequestReady
from extproc.protocol.events import (
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
from extproc.protocol.headers import CONTENT_LENGTH, CONTENT_TYPE, JSON_TYPE
from extproc.protocol.replies import (
    NO_MUTATION,
    ImmediateReply,
    ModeOverride,
    Mutation,
    Reply,
    RequestBodyChunk,
    RequestBodyReply,
    RequestHeadersReply,
    RequestTrailersReply,
    ResponseBodyBack,
    ResponseBodyChunk,
    ResponseBodyReply,
    ResponseHeadersReply,
    ResponseTrailersReply,
    Tag,
)
from extproc.protocol.states import Call, EventKind, RequestState, ResponseState

#: Before the code of a refusal in Envoy's `%RESPONSE_CODE_DETAILS%`: distinguishes our answers from Envoy's own.
DETAILS = "infer_gateway_"

#: Largest piece of a body in one reply. gRPC's and Envoy's windows start at 64 KiB, and a data frame needs room for its
#: framing; the reference endpoint picker takes the same.
MAX_CHUNK = 62_000

ASSUMED_CONFIG = ProtocolConfig(request_body_mode=BodyMode.BUFFERED)


class AnswerNames(Protocol):
    """Rewrites one answer."""

    def feed(self, piece: bytes) -> bytes:
        """What may go on by now, of all that was fed and has not."""
        ...

    def end(self) -> bytes:
        """What is left."""
        ...


ResponseEvent = ResponseHeaders | ResponseBody | ResponseTrailers
Action = HeadReady | RequestReady | ResponseEvent


class Session:
    """The machine.

    Args:
        max_body: most bytes of a request body that are held, else the request is refused with 413.
        assumed: configuration of an Envoy that does not send its own.
    """

    __slots__ = (
        "_body", "_chunks", "_config", "_head_event", "_head_held", "_max_body", "_names", "_replies", "_subset",
        "_told", "_trailers", "request_state", "response_state",
    )  # fmt: skip

    def __init__(self, *, max_body: int, assumed: ProtocolConfig = ASSUMED_CONFIG) -> None:
        self.request_state = RequestState.START
        self.response_state = ResponseState.WAITING
        self._max_body = max_body
        self._replies: list[Reply] = []
        self._config = assumed
        self._told = False
        self._head_event: RequestHeaders | None = None
        self._head_held = True
        # The body collected so far, in one buffer (small pieces cost no more than large ones), and their number.
        self._body: bytes | bytearray = b""
        self._chunks = 0
        self._trailers = False
        self._subset: tuple[str, ...] | None = None
        self._names: AnswerNames | None = None

    # What Envoy sends

    def receive(self, event: Event) -> Action | None:
        """Takes the next event. Do what the returned action asks for, then send `replies_to_send()`.

        Raises:
            RemoteProtocolError: Envoy may not send this now. End the stream with an error status.
            Refusal: the body is too large. Hand it to `reject()`.
            LocalProtocolError: the caller owes an answer to the last action.
        """
        state = self.request_state
        move = _REQUEST_MOVES.get((state, type(event), event.end_of_stream))
        if move is not None:
            action = move[1](self, event)
            self.request_state = state = move[0]  # not before: a step that raises moves nothing
            if state is not RequestState.UNASKED:
                return action
        if state in MAY_RESPOND:
            answer = _RESPONSE_MOVES.get((self.response_state, type(event), event.end_of_stream))
            if answer is not None:
                action = answer[1](self, event)
                self.response_state = answer[0]
                return action
        elif state in CALLERS_TURN:
            raise LocalProtocolError(f"receive() in state {state.name}")
        raise RemoteProtocolError(f"{type(event).__name__} in states {state.name}/{self.response_state.name}")

    def replies_to_send(self) -> list[Reply]:
        """The replies to send now, in order. Each reply is handed out once."""
        replies = self._replies
        self._replies = []
        return replies

    # What the caller decides

    def _call(self, call: Call) -> None:
        """Makes the caller's move. Raises LocalProtocolError where no table lists it."""
        state = CALL_TABLE.get((self.request_state, call))
        if state is None:
            raise LocalProtocolError(f"{call.name} in state {self.request_state.name}")
        self.request_state = state

    def proceed(self, mutation: Mutation = NO_MUTATION) -> RequestReady | None:
        """The client may go on. Returns the request if it is complete as far as it will be shown.

        `mutation` goes out at once where the headers are answered before the decision (`head_answered`); elsewhere the
        caller puts it into that of `route`.
        """
        head, config = self._head_event, self._config
        without_body = head is not None and head.end_of_stream
        call = (
            Call.PROCEED_WITHOUT_BODY
            if without_body
            else PROCEED[config.request_body_mode, config.send_body_without_waiting_for_header_response]
        )
        self._call(call)
        state = self.request_state
        if state is RequestState.BUFFERING:
            self._head_held = False
            self._replies.append(RequestHeadersReply(mutation) if mutation is not NO_MUTATION else _HEADERS_GO_ON)
            return None
        if state is RequestState.COLLECTING:
            return None
        return self._ready(b"" if without_body else None, complete=without_body)

    @property
    def head_answered(self) -> bool:
        """Whether the headers were let go before the decision."""
        return not self._head_held

    def route(self, mutation: Mutation, body: bytes | None = None, tag: Tag | None = None) -> None:
        """The request goes on with `mutation`, and with `body` in place of its own where that is not None.

        `tag` goes along in its metadata.
        """
        self._call(Call.ROUTE)
        replies = self._replies
        if not self._head_held:
            if self._chunks:
                replies.append(RequestBodyReply(mutation, body, tag))
            else:
                replies.append(RequestTrailersReply(mutation.destination, tag))
            self._body = b""
            return
        replies.append(RequestHeadersReply(mutation, tag))
        if self._config.request_body_mode is BodyMode.FULL_DUPLEX_STREAMED:
            if self._chunks or self._trailers:
                self._echo(self._body if body is None else body)
        else:
            # Envoy has kept each chunk and waits for one reply to each.
            if body is None:
                replies.extend([_BODY_GOES_ON] * self._chunks)
            elif self._chunks:
                replies.append(RequestBodyReply(body=body))
                replies.extend([_CHUNK_IS_GONE] * (self._chunks - 1))
            if self._trailers:
                replies.append(RequestTrailersReply())
        self._body = b""

    def rewrite_answer(self, names: AnswerNames) -> None:
        """The answer, of which the headers were just received, goes on as `names` gives it.

        Does nothing where Envoy shows bodies in a way in which they cannot be held.
        """
        config = self._config
        shown = config.response_body_mode
        if self.response_state is not ResponseState.STARTED or not (
            shown is BodyMode.NONE or shown is BodyMode.FULL_DUPLEX_STREAMED
        ):
            return
        duplex = BodyMode.FULL_DUPLEX_STREAMED
        self._names = names
        self._config = msgspec.structs.replace(config, response_body_mode=duplex)
        mode = None if shown is duplex else ModeOverride(config.request_body_mode, duplex)
        self._replies[-1] = ResponseHeadersReply(_OF_ANY_LENGTH, mode)

    def reject(self, refusal: Refusal) -> None:
        """The request ends with this answer. Possible until it was routed."""
        self._call(Call.REJECT)
        self._body = b""
        headers = ((CONTENT_TYPE, JSON_TYPE), *refusal.headers.items())
        self._replies.append(
            ImmediateReply(refusal.status, headers, refusal.body(), details=DETAILS + (refusal.code or "refused"))
        )

    def answer(self, body: bytes, details: str) -> None:
        """The request ends with this answer of the gateway's own, JSON of status 200. Possible until it was routed."""
        self._call(Call.REJECT)
        self._body = b""
        self._replies.append(ImmediateReply(200, ((CONTENT_TYPE, JSON_TYPE),), body, details=DETAILS + details))

    # Steps of the request half

    def _take_headers(self, event: RequestHeaders) -> Action:
        self._head_event = event
        self._subset = event.subset
        if event.config is not None:
            self._config = event.config
            self._told = True
        return HeadReady(event)

    def _add_piece(self, event: RequestBody) -> None:
        body = self._body
        if len(body) + len(event.body) > self._max_body:
            raise body_too_large(self._max_body)
        if event.subset is not None:
            self._subset = event.subset
        self._chunks += 1
        if not body:
            self._body = event.body
        elif type(body) is bytearray:
            body += event.body
        else:
            self._body = bytearray(body)
            self._body += event.body

    def _add_last_piece(self, event: RequestBody) -> Action:
        self._add_piece(event)
        return self._body_ready(complete=True)

    def _take_buffered(self, event: RequestBody) -> Action:
        self._add_piece(event)
        # external_processor.proto: in BUFFERED mode one message has the whole body, also where trailers follow.
        complete = self._told and self._config.request_body_mode is BodyMode.BUFFERED
        return self._body_ready(complete=complete)

    def _end_with_trailers(self, _event: RequestTrailers) -> Action:
        self._trailers = True
        return self._body_ready(complete=True)

    def _body_ready(self, *, complete: bool) -> RequestReady:
        body = self._body = bytes(self._body)  # the buffer goes: two of each body are held for no longer than this
        return self._ready(body, complete=complete)

    def _ready(self, body: bytes | None, *, complete: bool) -> RequestReady:
        head = self._head_event
        assert head is not None  # noqa: S101 - no table leads here but by way of the headers
        return RequestReady(head, body, complete, self._subset, self._told)

    def _pass_body(self, _event: RequestBody) -> None:
        self._replies.append(_BODY_GOES_ON)

    def _pass_trailers(self, _event: RequestTrailers) -> None:
        self._replies.append(RequestTrailersReply())

    def _ignore(self, _event: Event) -> None:
        return None

    def _echo(self, body: bytes | bytearray) -> None:
        """Full duplex: Envoy keeps nothing of the body, so all of it goes back, its end marked exactly once."""
        last = not self._trailers
        starts = range(0, len(body), MAX_CHUNK)
        if last:
            starts = starts or range(1)  # the end needs a chunk, if an empty one
        view = memoryview(body)  # its pieces are copied when each is sent, not all at once
        for start in starts:
            end = start + MAX_CHUNK
            self._replies.append(RequestBodyChunk(view[start:end], last and end >= len(body)))
        if self._trailers:
            self._replies.append(RequestTrailersReply())

    # Steps of the response half

    def _pass_response_headers(self, event: ResponseHeaders) -> Action:
        if event.config is not None:
            self._config = event.config  # there was no request
        self._replies.append(_RESPONSE_HEADERS_GO_ON)
        return event

    def _pass_response_body(self, event: ResponseBody) -> Action:
        if event.config is not None:
            self._config = event.config  # neither a request nor headers
        if self._names is not None:
            body = self._names.feed(event.body)
            if event.end_of_stream:
                body += self._names.end()
            if body or event.end_of_stream:
                self._give_back(body, last=event.end_of_stream)
        elif self._config.response_body_mode is BodyMode.FULL_DUPLEX_STREAMED:
            if event.serialized and len(event.body) <= MAX_CHUNK:
                self._replies.append(ResponseBodyBack(event.serialized))
            else:
                self._give_back(event.body, last=event.end_of_stream)
        else:
            self._replies.append(_RESPONSE_BODY_GOES_ON)
        return event

    def _give_back(self, body: bytes, *, last: bool) -> None:
        for start in range(0, len(body), MAX_CHUNK) or range(1):
            end = start + MAX_CHUNK
            # A slice of the whole buffer is no copy.
            self._replies.append(ResponseBodyChunk(body[start:end], last and end >= len(body)))

    def _pass_response_trailers(self, event: ResponseTrailers) -> Action:
        if self._names is not None and (rest := self._names.end()):
            self._give_back(rest, last=False)
        self._replies.append(_TRAILERS_GO_ON)
        return event


_HEADERS_GO_ON: Final = RequestHeadersReply(NO_MUTATION)
_BODY_GOES_ON: Final = RequestBodyReply()
_CHUNK_IS_GONE: Final = RequestBodyReply(body=b"")
_RESPONSE_HEADERS_GO_ON: Final = ResponseHeadersReply()
_RESPONSE_BODY_GOES_ON: Final = ResponseBodyReply()
_TRAILERS_GO_ON: Final = ResponseTrailersReply()
_OF_ANY_LENGTH: Final = Mutation(remove_headers=(CONTENT_LENGTH,))

Step = Callable[[Session, Any], Action | None]
_S, _R, _E = Session, RequestState, EventKind

#: State of the request half and event → its next state and the step that is taken.
REQUEST_TABLE: Mapping[tuple[RequestState, EventKind], tuple[RequestState, Step]] = {
    (_R.START, _E.REQUEST_HEADERS): (_R.HEAD, _S._take_headers),
    (_R.START, _E.REQUEST_HEADERS_END): (_R.HEAD, _S._take_headers),
    # The answer of a filter before ext_proc goes on as it is: the response half takes the same event.
    (_R.START, _E.RESPONSE_HEADERS): (_R.UNASKED, _S._ignore),
    (_R.START, _E.RESPONSE_HEADERS_END): (_R.UNASKED, _S._ignore),
    (_R.START, _E.RESPONSE_BODY): (_R.UNASKED, _S._ignore),
    (_R.START, _E.RESPONSE_BODY_END): (_R.UNASKED, _S._ignore),
    (_R.START, _E.RESPONSE_TRAILERS): (_R.UNASKED, _S._ignore),
    (_R.BUFFERING, _E.REQUEST_BODY): (_R.DECIDING, _S._take_buffered),
    (_R.BUFFERING, _E.REQUEST_BODY_END): (_R.DECIDING_AT_END, _S._add_last_piece),
    (_R.BUFFERING, _E.REQUEST_TRAILERS): (_R.DECIDING_AT_END, _S._end_with_trailers),
    (_R.COLLECTING, _E.REQUEST_BODY): (_R.COLLECTING, _S._add_piece),
    (_R.COLLECTING, _E.REQUEST_BODY_END): (_R.DECIDING_AT_END, _S._add_last_piece),
    (_R.COLLECTING, _E.REQUEST_TRAILERS): (_R.DECIDING_AT_END, _S._end_with_trailers),
    # After the decision, the rest of the request goes on as Envoy shows it.
    (_R.ROUTED, _E.REQUEST_BODY): (_R.ROUTED, _S._pass_body),
    (_R.ROUTED, _E.REQUEST_BODY_END): (_R.DONE, _S._pass_body),
    (_R.ROUTED, _E.REQUEST_TRAILERS): (_R.DONE, _S._pass_trailers),
    # After a refusal Envoy drops the request; events that were on their way already are not looked at.
    (_R.REJECTED, _E.REQUEST_BODY): (_R.REJECTED, _S._ignore),
    (_R.REJECTED, _E.REQUEST_BODY_END): (_R.REJECTED, _S._ignore),
    (_R.REJECTED, _E.REQUEST_TRAILERS): (_R.REJECTED, _S._ignore),
    (_R.REJECTED, _E.RESPONSE_HEADERS): (_R.REJECTED, _S._ignore),
    (_R.REJECTED, _E.RESPONSE_HEADERS_END): (_R.REJECTED, _S._ignore),
    (_R.REJECTED, _E.RESPONSE_BODY): (_R.REJECTED, _S._ignore),
    (_R.REJECTED, _E.RESPONSE_BODY_END): (_R.REJECTED, _S._ignore),
    (_R.REJECTED, _E.RESPONSE_TRAILERS): (_R.REJECTED, _S._ignore),
}
_P = ResponseState

#: State of the response half and event → its next state and the step that is taken. It is asked where the request
#: half is in one of `MAY_RESPOND` and its own table does not list the event.
RESPONSE_TABLE: Mapping[tuple[ResponseState, EventKind], tuple[ResponseState, Step]] = {
    (_P.WAITING, _E.RESPONSE_HEADERS): (_P.STARTED, _S._pass_response_headers),
    (_P.WAITING, _E.RESPONSE_HEADERS_END): (_P.ENDED, _S._pass_response_headers),
    (_P.STARTED, _E.RESPONSE_BODY): (_P.STARTED, _S._pass_response_body),
    (_P.STARTED, _E.RESPONSE_BODY_END): (_P.ENDED, _S._pass_response_body),
    (_P.STARTED, _E.RESPONSE_TRAILERS): (_P.ENDED, _S._pass_response_trailers),
    # An Envoy in mode SKIP keeps the response headers to itself; body and trailers then open the response half.
    (_P.WAITING, _E.RESPONSE_BODY): (_P.STARTED, _S._pass_response_body),
    (_P.WAITING, _E.RESPONSE_BODY_END): (_P.ENDED, _S._pass_response_body),
    (_P.WAITING, _E.RESPONSE_TRAILERS): (_P.ENDED, _S._pass_response_trailers),
}
#: State of the request half and call → its next state.
CALL_TABLE: Final[Mapping[tuple[RequestState, Call], RequestState]] = {
    (_R.HEAD, Call.PROCEED_WITHOUT_BODY): _R.DECIDING_AT_END,
    (_R.HEAD, Call.PROCEED_UNSEEN): _R.DECIDING,
    (_R.HEAD, Call.PROCEED_BUFFERED): _R.BUFFERING,
    (_R.HEAD, Call.PROCEED_IN_PIECES): _R.COLLECTING,
    (_R.DECIDING, Call.ROUTE): _R.ROUTED,
    (_R.DECIDING_AT_END, Call.ROUTE): _R.DONE,
    (_R.HEAD, Call.REJECT): _R.REJECTED,
    (_R.BUFFERING, Call.REJECT): _R.REJECTED,  # the body is too large
    (_R.COLLECTING, Call.REJECT): _R.REJECTED,  # likewise
    (_R.DECIDING, Call.REJECT): _R.REJECTED,
    (_R.DECIDING_AT_END, Call.REJECT): _R.REJECTED,
}
#: Body mode, and whether Envoy sends the body without waiting → which call `proceed()` is where the request has a body.
PROCEED: Final[Mapping[tuple[BodyMode, bool], Call]] = {
    (BodyMode.NONE, False): Call.PROCEED_UNSEEN,
    (BodyMode.NONE, True): Call.PROCEED_UNSEEN,
    (BodyMode.STREAMED, False): Call.PROCEED_UNSEEN,
    (BodyMode.STREAMED, True): Call.PROCEED_IN_PIECES,
    (BodyMode.BUFFERED, False): Call.PROCEED_BUFFERED,
    (BodyMode.BUFFERED, True): Call.PROCEED_BUFFERED,
    (BodyMode.BUFFERED_PARTIAL, False): Call.PROCEED_BUFFERED,
    (BodyMode.BUFFERED_PARTIAL, True): Call.PROCEED_BUFFERED,
    (BodyMode.FULL_DUPLEX_STREAMED, False): Call.PROCEED_IN_PIECES,
    (BodyMode.FULL_DUPLEX_STREAMED, True): Call.PROCEED_IN_PIECES,
    (BodyMode.GRPC, False): Call.PROCEED_UNSEEN,
    (BodyMode.GRPC, True): Call.PROCEED_UNSEEN,
}
#: The one coupling of the halves: states of the request half in which a response may come.
MAY_RESPOND: Final = frozenset({_R.UNASKED, _R.BUFFERING, _R.COLLECTING, _R.ROUTED, _R.DONE})
#: States in which the caller owes a call, so that no event may be handed in.
CALLERS_TURN: Final = frozenset(state for state, call in CALL_TABLE if call is not Call.REJECT)

# The tables as `receive` asks them: one look-up, no kind to work out before it.
_REQUEST_MOVES: Final = {(state, *kind.value): move for (state, kind), move in REQUEST_TABLE.items()}
_RESPONSE_MOVES: Final = {(state, *kind.value): move for (state, kind), move in RESPONSE_TABLE.items()}
