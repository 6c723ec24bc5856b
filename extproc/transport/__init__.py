"""How the bytes of ext_proc streams reach a session."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from extproc.protocol.events import LogEntry
from extproc.transport.contract import ErrorCounter, Exchange, at_once


class Transport(Protocol):
    """A server of ext_proc streams, of health, and of Envoy's access log."""

    def __init__(
        self,
        open_exchange: Callable[[], Exchange],
        metrics: ErrorCounter,
        on_log_entry: Callable[[LogEntry], None],
        *,
        address: str,
        max_body: int,
        max_streams: int,
    ) -> None:
        """Makes a server that does not serve yet.

        Args:
            open_exchange: what answers a stream.
            metrics: counts streams that break the protocol.
            on_log_entry: called with each request in Envoy's access log.
            address: `unix:///absolute/path`, or `host:port` (0: a free one) where the server takes it.
            max_body: largest request body, bytes.
            max_streams: most streams on one connection.
        """
        ...

    async def start(self) -> str:
        """Binds and serves. Returns the address, with the port that was chosen.

        Raises:
            OSError: the address cannot be bound.
        """
        ...

    async def set_ready(self, ready: bool) -> None:
        """Sets the answer to health checks."""
        ...

    async def stop(self, grace: float, told: Callable[[], Awaitable[None]] = at_once) -> None:
        """Takes no new streams, gives the open ones `grace` seconds, then cuts them.

        Access log streams never end by themselves, and report a request after its own stream has ended: `told` is
        awaited between the end of the last request's stream and the end of the access log streams.
        """
        ...
