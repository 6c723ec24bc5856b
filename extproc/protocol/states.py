"""The alphabet of the stream's machine: states of its halves, kinds of events, calls of its owner."""

from enum import Enum, auto

from extproc.protocol.events import (
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)


class RequestState(Enum):
    """Where the request half is."""

    #: Enum's own is written in Python, and each event is looked up by its state.
    __hash__ = object.__hash__

    START = auto()
    UNASKED = auto()  # a filter before ext_proc answered: Envoy shows the answer alone
    HEAD = auto()  # the caller has the headers and owes proceed() or reject()
    BUFFERING = auto()  # Envoy collects the body and sends it in one message
    COLLECTING = auto()  # Envoy sends the body in pieces, which are kept here
    DECIDING = auto()  # the caller has the request and owes route() or reject(); Envoy may have more of it
    DECIDING_AT_END = auto()  # likewise, and the request's end was seen
    ROUTED = auto()  # decided; Envoy may go on showing the request
    DONE = auto()  # decided, and the request's end was seen
    REJECTED = auto()


class ResponseState(Enum):
    """Where the response half is."""

    __hash__ = object.__hash__

    WAITING = auto()
    STARTED = auto()
    ENDED = auto()


class EventKind(Enum):
    """An event as the tables distinguish events: its type, and whether it is the last of its half."""

    REQUEST_HEADERS = (RequestHeaders, False)
    REQUEST_HEADERS_END = (RequestHeaders, True)
    REQUEST_BODY = (RequestBody, False)
    REQUEST_BODY_END = (RequestBody, True)
    REQUEST_TRAILERS = (RequestTrailers, True)
    RESPONSE_HEADERS = (ResponseHeaders, False)
    RESPONSE_HEADERS_END = (ResponseHeaders, True)
    RESPONSE_BODY = (ResponseBody, False)
    RESPONSE_BODY_END = (ResponseBody, True)
    RESPONSE_TRAILERS = (ResponseTrailers, True)


class Call(Enum):
    """What the session's owner decides. `proceed()` is one of four, by what Envoy shows of the request."""

    __hash__ = object.__hash__

    PROCEED_WITHOUT_BODY = auto()  # the request ended with its headers
    PROCEED_UNSEEN = auto()  # Envoy shows no body before the decision
    PROCEED_BUFFERED = auto()  # Envoy collects the body and shows it in one message
    PROCEED_IN_PIECES = auto()  # Envoy shows the body as it comes
    ROUTE = auto()
    REJECT = auto()
