"""One ext_proc stream as a state machine that does no I/O.

The rules:

- Everything that moves a stream from one state to another is in the two tables of this file. What is not in a table is
  illegal: `receive` raises RemoteProtocolError, and the stream is to be ended with an error status.
- A stream has two halves. The request half leads to one decision; the response half only watches. They are coupled in
  one place: a response may begin once the request was routed, or while its body is still being collected (Envoy
  answers on its own when a client sends too much or too slowly).

How it is driven: feed each event to `receive` and do what the returned action says, then send `replies_to_send()`.

    HeadReady     → call `proceed()` or `reject()`          (is this client welcome?)
    RequestReady  → call `route()` or `reject()`            (where does this request go?)
    a response event → look at it, nothing needs to be called

What has been read of a request when the decision is made depends on how Envoy is set up, which it tells in its first
message (`ProtocolConfig`):

    body mode                      decision is made                        replies
    NONE                           at the headers, without the body        headers
    BUFFERED, BUFFERED_PARTIAL     at the body                             headers at once; the pick with the body
    STREAMED                       at the headers, without the body        headers with the pick; each chunk
    STREAMED, sent without waiting at the end of the body                  headers with the pick, then each chunk
    FULL_DUPLEX_STREAMED           at the end of the body                  headers with the pick, then the body again

An Envoy that does not tell (before 1.33) is taken for BUFFERED.
"""

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, Protocol

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
    ResponseBodyChunk,
    ResponseBodyReply,
    ResponseHeadersReply,
    ResponseTrailersReply,
    Tag,
)

#: Before the code of a refusal in Envoy's `%RESPONSE_CODE_DETAILS%`: tells our answers from Envoy's own.
DETAILS = "infer_gateway_"

#: Largest piece of a body in one reply. gRPC's and Envoy's windows start at 64 KiB, and a data frame needs room for its
#: framing; the reference endpoint picker takes the same.
MAX_CHUNK = 62_000

ASSUMED_CONFIG = ProtocolConfig(request_body_mode=BodyMode.BUFFERED)


class RequestState(Enum):
    """Where the request half is."""

    #: Enum's own is written in Python, and each event is looked up by its state.
    __hash__ = object.__hash__

    START = auto()
    HEAD = auto()  # the caller has the headers and owes proceed() or reject()
    COLLECTING = auto()
    DECIDING = auto()  # the caller has the request and owes route() or reject()
    ROUTED = auto()  # decided; Envoy may go on showing the request
    DONE = auto()  # decided, and the request's end was seen
    REJECTED = auto()


class ResponseState(Enum):
    """Where the response half is."""

    __hash__ = object.__hash__

    WAITING = auto()
    STARTED = auto()
    ENDED = auto()


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
    """The machine. `max_body`: most bytes of a request body that are held, else the request is refused with 413."""

    __slots__ = (
        "_body", "_chunks", "_complete", "_config", "_end_seen", "_head_event", "_head_held", "_max_body", "_names",
        "_replies", "_subset", "_trailers", "request_state", "response_state",
    )  # fmt: skip

    def __init__(self, *, max_body: int) -> None:
        self.request_state = RequestState.START
        self.response_state = ResponseState.WAITING
        self._max_body = max_body
        self._replies: list[Reply] = []
        self._config = ASSUMED_CONFIG
        self._head_event: RequestHeaders | None = None
        self._head_held = False
        # What was collected of the body, in one buffer (small pieces cost no more than large ones), and their number.
        self._body: bytes | bytearray = b""
        self._chunks = 0
        self._complete = False
        self._trailers = False
        self._end_seen = False
        self._subset: tuple[str, ...] | None = None
        self._names: AnswerNames | None = None

    # What Envoy says

    def receive(self, event: Event) -> Action | None:
        """Takes the next event. Do what the answer says, then send `replies_to_send()`.

        Raises:
            RemoteProtocolError: Envoy may not say this now. End the stream with an error status.
            Refusal: the body is too large. Hand it to `reject()`.
            LocalProtocolError: the caller owes an answer to the last action.
        """
        state = self.request_state
        kind = type(event)
        if state in _CALLERS_TURN:
            raise LocalProtocolError(f"receive() in state {state.name}")
        step = _REQUEST_TABLE.get((state, kind))
        if step is None and state in _MAY_RESPOND:
            step = _RESPONSE_TABLE.get((self.response_state, kind))
        if step is None:
            raise RemoteProtocolError(f"{kind.__name__} in states {state.name}/{self.response_state.name}")
        return step(self, event)

    def replies_to_send(self) -> list[Reply]:
        """What is to be sent now, in order. Each reply is handed out once."""
        replies = self._replies
        self._replies = []
        return replies

    # What the caller decides

    def proceed(self, mutation: Mutation = NO_MUTATION) -> RequestReady | None:
        """The client may go on. Returns the request if it is complete as far as it will be shown.

        `mutation` is said with that where it is said before the decision (`head_answered`), else it is for `route`.
        """
        if self.request_state is not RequestState.HEAD:
            raise LocalProtocolError(f"proceed() in state {self.request_state.name}")
        head = self._head_event
        assert head is not None  # noqa: S101 - HEAD is only entered with it
        mode = self._config.request_body_mode
        if head.end_of_stream:
            self._head_held = True
            self._complete = self._end_seen = True
            return self._decide(b"")
        if mode is BodyMode.FULL_DUPLEX_STREAMED or (
            mode is BodyMode.STREAMED and self._config.send_body_without_waiting_for_header_response
        ):
            self._head_held = True
        elif mode is BodyMode.BUFFERED or mode is BodyMode.BUFFERED_PARTIAL:
            self._replies.append(RequestHeadersReply(mutation) if mutation is not NO_MUTATION else _HEADERS_GO_ON)
        else:
            # Envoy will send the headers on before it shows the body, or never shows it.
            self._head_held = True
            return self._decide(None)
        self.request_state = RequestState.COLLECTING
        return None

    @property
    def head_answered(self) -> bool:
        """Whether the headers were let go before the decision."""
        return not self._head_held

    def route(self, mutation: Mutation, body: bytes | None = None, tag: Tag | None = None) -> None:
        """The request goes on with `mutation`, and with `body` in place of its own where that is not None.

        `tag` goes along in its metadata.
        """
        if self.request_state is not RequestState.DECIDING:
            raise LocalProtocolError(f"route() in state {self.request_state.name}")
        self.request_state = RequestState.DONE if self._end_seen else RequestState.ROUTED
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
        elif self._chunks:
            # Envoy has kept each chunk and waits for one word on each.
            if body is None:
                replies.extend([_BODY_GOES_ON] * self._chunks)
            else:
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
        if self.request_state not in _MAY_REJECT:
            raise LocalProtocolError(f"reject() in state {self.request_state.name}")
        self.request_state = RequestState.REJECTED
        self._body = b""
        headers = ((CONTENT_TYPE, JSON_TYPE), *refusal.headers.items())
        self._replies.append(
            ImmediateReply(refusal.status, headers, refusal.body(), details=DETAILS + (refusal.code or "refused"))
        )

    # The request half

    def _head(self, event: RequestHeaders) -> Action:
        self.request_state = RequestState.HEAD
        self._head_event = event
        self._subset = event.subset
        if event.config is not None:
            self._config = event.config
        return HeadReady(event)

    def _collect(self, event: RequestBody) -> Action | None:
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
        mode = self._config.request_body_mode
        if event.end_of_stream or mode is BodyMode.BUFFERED or mode is BodyMode.BUFFERED_PARTIAL:
            # external_processor.proto: in BUFFERED mode one message has the whole body, also where trailers follow.
            self._complete = event.end_of_stream or mode is BodyMode.BUFFERED
            self._end_seen = event.end_of_stream
            return self._decide_on_body()
        return None

    def _collected_by_trailers(self, _event: RequestTrailers) -> Action:
        self._trailers = True
        self._complete = self._end_seen = True
        return self._decide_on_body()

    def _decide_on_body(self) -> RequestReady:
        body = self._body = bytes(self._body)  # the buffer goes: two of each body are held for no longer than this
        return self._decide(body)

    def _decide(self, body: bytes | None) -> RequestReady:
        self.request_state = RequestState.DECIDING
        head = self._head_event
        assert head is not None  # noqa: S101 - states before this one are only entered with it
        return RequestReady(head, body, self._complete, self._subset)

    def _pass_body(self, event: RequestBody) -> None:
        if event.end_of_stream:
            self.request_state = RequestState.DONE
        self._replies.append(_BODY_GOES_ON)

    def _pass_trailers(self, _event: RequestTrailers) -> None:
        self.request_state = RequestState.DONE
        self._replies.append(RequestTrailersReply())

    def _ignore(self, _event: Event) -> None:
        return None

    def _echo(self, body: bytes | bytearray) -> None:
        """Full duplex: Envoy keeps nothing of the body, so all of it goes back, the end said exactly once."""
        last = not self._trailers
        starts = range(0, len(body), MAX_CHUNK)
        if last:
            starts = starts or range(1)  # the end has to be said, if with nothing before it
        view = memoryview(body)  # its pieces are copied when each is sent, not all at once
        for start in starts:
            end = start + MAX_CHUNK
            self._replies.append(RequestBodyChunk(view[start:end], last and end >= len(body)))
        if self._trailers:
            self._replies.append(RequestTrailersReply())

    # The response half

    def _response_headers(self, event: ResponseHeaders) -> Action:
        self.response_state = ResponseState.ENDED if event.end_of_stream else ResponseState.STARTED
        self._replies.append(_RESPONSE_HEADERS_GO_ON)
        return event

    def _response_body(self, event: ResponseBody) -> Action:
        self.response_state = ResponseState.ENDED if event.end_of_stream else ResponseState.STARTED
        if self._names is not None:
            body = self._names.feed(event.body)
            if event.end_of_stream:
                body += self._names.end()
            if body or event.end_of_stream:
                self._give_back(body, last=event.end_of_stream)
        elif self._config.response_body_mode is BodyMode.FULL_DUPLEX_STREAMED:
            self._give_back(event.body, last=event.end_of_stream)
        else:
            self._replies.append(_RESPONSE_BODY_GOES_ON)
        return event

    def _give_back(self, body: bytes, *, last: bool) -> None:
        for start in range(0, len(body), MAX_CHUNK) or range(1):
            end = start + MAX_CHUNK
            # A slice that is all of it is no copy.
            self._replies.append(ResponseBodyChunk(body[start:end], last and end >= len(body)))

    def _response_trailers(self, event: ResponseTrailers) -> Action:
        self.response_state = ResponseState.ENDED
        if self._names is not None and (rest := self._names.end()):
            self._give_back(rest, last=False)
        self._replies.append(_TRAILERS_GO_ON)
        return event


_HEADERS_GO_ON = RequestHeadersReply(NO_MUTATION)
_BODY_GOES_ON = RequestBodyReply()
_CHUNK_IS_GONE = RequestBodyReply(body=b"")
_RESPONSE_HEADERS_GO_ON = ResponseHeadersReply()
_RESPONSE_BODY_GOES_ON = ResponseBodyReply()
_TRAILERS_GO_ON = ResponseTrailersReply()
_OF_ANY_LENGTH = Mutation(remove_headers=(CONTENT_LENGTH,))

_Step = Callable[[Session, Any], Action | None]
_R, _P = RequestState, ResponseState

#: (state of the request half, event) -> step. The caller's own words (proceed, route, reject) make the other moves.
_REQUEST_TABLE: Mapping[tuple[RequestState, type], _Step] = {
    (_R.START, RequestHeaders): Session._head,
    (_R.COLLECTING, RequestBody): Session._collect,
    (_R.COLLECTING, RequestTrailers): Session._collected_by_trailers,
    # After the decision: what Envoy goes on to show of the request is waved through.
    (_R.ROUTED, RequestBody): Session._pass_body,
    (_R.ROUTED, RequestTrailers): Session._pass_trailers,
    # After a refusal Envoy drops the request; what was on its way already is not looked at.
    (_R.REJECTED, RequestBody): Session._ignore,
    (_R.REJECTED, RequestTrailers): Session._ignore,
    (_R.REJECTED, ResponseHeaders): Session._ignore,
    (_R.REJECTED, ResponseBody): Session._ignore,
    (_R.REJECTED, ResponseTrailers): Session._ignore,
}
#: (state of the response half, event) -> step, where the request half may have a response.
_RESPONSE_TABLE: Mapping[tuple[ResponseState, type], _Step] = {
    (_P.WAITING, ResponseHeaders): Session._response_headers,
    (_P.STARTED, ResponseBody): Session._response_body,
    (_P.STARTED, ResponseTrailers): Session._response_trailers,
    # Response headers may be kept from us (mode SKIP); body and trailers then open the response half.
    (_P.WAITING, ResponseBody): Session._response_body,
    (_P.WAITING, ResponseTrailers): Session._response_trailers,
}
#: The one coupling of the halves.
_MAY_RESPOND = frozenset({_R.COLLECTING, _R.ROUTED, _R.DONE})
_CALLERS_TURN = frozenset({_R.HEAD, _R.DECIDING})
_MAY_REJECT = frozenset({_R.HEAD, _R.COLLECTING, _R.DECIDING})
