"""What transports ask of the rest of the gateway."""

from collections.abc import Callable
from typing import Protocol

from extproc.auth.base import Pending
from extproc.protocol.events import Event
from extproc.protocol.replies import Reply


class Exchange(Protocol):
    """Answers one ext_proc stream: `extproc.request.pipeline.Exchange`."""

    #: Await this and call `resume()` before the next event is handed in.
    pending: Pending | None

    #: Sends replies that no event gave the occasion for. The server that drives the exchange sets `push`.
    push: Callable[[list[Reply]], None] | None

    def __hash__(self) -> int: ...

    def handle(self, event: Event) -> list[Reply]:
        """What is to be answered to `event`, in order.

        Raises:
            RemoteProtocolError: the event is illegal now; end the stream.
        """
        ...

    def resume(self) -> list[Reply]:
        """Goes on after `pending` was awaited. Raises as `handle` does."""
        ...

    def close(self) -> None:
        """The stream is over."""
        ...


class ErrorCounter(Protocol):
    """Counts streams that break the protocol: `extproc.telemetry.metrics.Metrics`."""

    def protocol_error(self) -> None: ...


async def at_once() -> None:
    """There is nothing to wait for."""
