"""Limits on clients of the admin port: a number of connections, a time for headers, a look at `Host`."""

import asyncio
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

#: Connections at a time: Prometheus, probes and some people have a few. One more takes the place of one that has not
#: asked anything yet.
MAX_CONNECTIONS: Final = 128
#: Seconds until the head of a request has come; on any network it takes milliseconds.
HEAD_TIMEOUT: Final = 10.0
#: Bytes of a head, in which its end has to be: aiohttp takes no longer lines, nor more of them.
_MAX_HEAD: Final = 64 << 10
_END_OF_HEAD: Final = b"\r\n\r\n"
#: Pages that probes and Prometheus read by whatever name they have for the pod. They have nothing that a page of
#: somebody else could want.
_OPEN: Final = frozenset({"/healthz", "/readyz", "/metrics"})


class Gate:
    """Counts connections, and closes those that say nothing.

    Args:
        make: makes the protocol behind, for each connection.
        limit: connections.
        head_timeout: seconds.
    """

    def __init__(
        self, make: Callable[[], asyncio.Protocol], limit: int = MAX_CONNECTIONS, head_timeout: float = HEAD_TIMEOUT
    ) -> None:
        self.make = make
        self.head_timeout = head_timeout
        self._limit = limit
        #: The oldest first.
        self._connections: dict[Connection, None] = {}

    def __call__(self) -> asyncio.Protocol:
        """A protocol for a new connection."""
        return Connection(self)

    def enter(self, connection: "Connection") -> bool:
        """Whether there is room for it, or room was made."""
        if len(self._connections) >= self._limit:
            silent = next((one for one in self._connections if not one.asked), None)
            if silent is None:
                return False
            self.leave(silent)
            silent.cut()
        self._connections[connection] = None
        return True

    def leave(self, connection: "Connection") -> None:
        self._connections.pop(connection, None)


class Connection(asyncio.Protocol):
    """One connection: its bytes go on to the protocol behind, once there is a gate for it."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._inner: asyncio.Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._head = b""
        #: Whether the head of its request has come. There is one request a connection.
        self.asked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # uvloop's are no subclass
        if not self._gate.enter(self):
            self.cut()
            return
        self._timer = asyncio.get_running_loop().call_later(self._gate.head_timeout, self.cut)
        self._inner = self._gate.make()
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._inner is None:
            return
        if not self.asked:
            self._head = (self._head + data)[-_MAX_HEAD:]
            if _END_OF_HEAD in self._head:
                self.asked = True
                self._head = b""
                if self._timer is not None:
                    self._timer.cancel()
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return None if self._inner is None else self._inner.eof_received()

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._gate.leave(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._inner is not None:
            self._inner.connection_lost(error)

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()


async def one_request(_request: web.Request, response: web.StreamResponse) -> None:
    """A connection is for one request: a client that would keep it open does not hold a place."""
    response.force_close()
    response.headers["connection"] = "close"


def only_hosts(names: Iterable[str]) -> Middleware:
    """Refuses requests for other hosts.

    By a name of its own that leads here (DNS rebinding), a page of another site could read this port in the browser of
    an allowed user.

    Args:
        names: that are allowed beside IP addresses and localhost, in lower case.
    """
    allowed = frozenset(names)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in _OPEN or is_allowed(request.headers.get("host"), allowed):
            return await handler(request)
        return web.Response(status=421, text="this host is not served here: name it under admin.hosts\n")

    return check


def is_allowed(host: str | None, names: frozenset[str]) -> bool:
    """Whether a `Host` header, which no browser leaves out, is for us."""
    if host is None:
        return True
    name = host.lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    name = name.removesuffix(".")
    if name == "localhost" or name.endswith(".localhost") or name in names:
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
