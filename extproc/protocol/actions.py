"""The actions that a `Session` asks of its owner."""

import msgspec

from extproc.protocol.events import RequestHeaders


class HeadReady(msgspec.Struct, frozen=True):
    """The request's headers are there: call `proceed()` or `reject()`."""

    head: RequestHeaders


class RequestReady(msgspec.Struct, frozen=True):
    """As much of the request as will be seen is there: call `route()` or `reject()`."""

    head: RequestHeaders
    #: None where Envoy does not show the body before it wants the decision; empty where the request has none.
    body: bytes | None
    #: False: the body may have been cut by Envoy (BUFFERED_PARTIAL).
    complete: bool
    subset: tuple[str, ...] | None
    #: False: Envoy does not send its configuration, and more of the body may be to come.
    told: bool = True
