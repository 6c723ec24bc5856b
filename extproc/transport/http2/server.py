"""ext_proc over a lean HTTP/2 server, for one Envoy on a Unix socket.

It speaks what that peer does, and nothing else: no TLS, no TCP, no compression, four methods. `bench/transport.py`
compares its cost with that of grpc.aio, half of whose time goes into hand-offs between threads.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import cast

from extproc.errors import RemoteProtocolError
from extproc.process.repeats import Repeats
from extproc.process.unix_socket import UNIX, UnixListener
from extproc.protocol.events import LogEntry
from extproc.transport.budget import MAX_COLLECTED, BodyBudget
from extproc.transport.contract import ErrorCounter, Exchange, at_once
from extproc.transport.grpc_status import Status
from extproc.transport.health import SERVICE_UNKNOWN, Health, asked_service
from extproc.transport.http2.call import Call, FailedCall
from extproc.transport.http2.connection import Http2Connection
from extproc.transport.http2.requests import MESSAGE_OVERHEAD, Route
from extproc.transport.http2.stream import Receiver, Stream
from extproc.transport.log_entries import LogEntries

log = logging.getLogger(__name__)

#: Most connections. Envoy makes one per worker thread, and in a change of configuration twice that, for a moment.
MAX_CONNECTIONS = 1024
#: Seconds that a peer has, when everything ends, to take what was said last.
LAST_WORDS = 0.2


class SidecarServer:
    """A server of ext_proc streams, access logs and health checks.

    Args:
        open_exchange: what answers a stream.
        metrics: told of streams that break the protocol.
        on_log_entry: called with each request in Envoy's access log.
        address: `unix:///absolute/path`.
        max_body: largest request body, bytes.
        max_streams: most streams on one connection.
    """

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
        self.open_exchange = open_exchange
        self.metrics = metrics
        self.log_entries = LogEntries(metrics, on_log_entry)
        self.illegal = Repeats(log, "protocol error")
        self.faulty = Repeats(log, "connection error")
        self.health = Health()
        self.budget = BodyBudget(max(MAX_COLLECTED, max_body))
        self.max_message = max_body + MESSAGE_OVERHEAD
        self.max_streams = max_streams
        self._address = address
        self._listener: UnixListener | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        #: No new streams are taken; and then: nor are those kept open that never end by themselves.
        self.stopping = False
        self.leaving = False
        self._all_quiet = asyncio.Event()
        self._all_closed = asyncio.Event()

    async def start(self) -> str:
        """Binds and serves. Returns the address.

        Raises:
            OSError: the address cannot be bound.
        """
        if not self._address.startswith(UNIX):
            raise OSError(f"cannot listen on {self._address}: this transport takes Unix sockets only")
        listener = self._listener = UnixListener(Path(self._address.removeprefix(UNIX)))
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(partial(_Connection, self), sock=listener.socket)
        return self._address

    async def set_ready(self, ready: bool) -> None:
        self.health.set_ready(ready)

    async def stop(self, grace: float, told: Callable[[], Awaitable[None]] = at_once) -> None:
        """As `Transport.stop`."""
        self.stopping = True
        if self._server is not None:
            self._server.close()
        if self._listener is not None:
            self._listener.close()
        for connection in list(self._connections):
            connection.drain()
        self.look()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._all_quiet.wait(), grace)
        await told()
        self.leaving = True
        for connection in list(self._connections):
            connection.flush()
        await self._closed_within(LAST_WORDS)
        for connection in list(self._connections):
            connection.abort()
        await self._closed_within(LAST_WORDS)
        for connection in list(self._connections):
            connection.cut()
        await self._closed_within(LAST_WORDS)

    async def _closed_within(self, seconds: float) -> None:
        if self._connections:
            self._all_closed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_closed.wait(), seconds)

    # The connections' side

    def opened(self, connection: "_Connection") -> bool:
        """Takes note of a new connection. False: there are too many."""
        if len(self._connections) >= MAX_CONNECTIONS:
            log.error("too many connections", extra={"limit": MAX_CONNECTIONS})
            return False
        self._connections.add(connection)
        if self.stopping:
            connection.drain()
        return True

    def closed(self, connection: "_Connection") -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._all_closed.set()
        self.look()

    def look(self) -> None:
        """Takes note if no stream is open any more that ends by itself."""
        if all(connection.quiet for connection in self._connections):
            self._all_quiet.set()


class _Connection(asyncio.Protocol):
    """One connection: bytes between the transport and the machine."""

    def __init__(self, server: SidecarServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        #: Calls that their peer keeps open for as long as it runs.
        self.endless: set[_AccessLog | _HealthWatch] = set()
        self._machine = Http2Connection(self._accept, max_streams=server.max_streams, max_message=server.max_message)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface, not the type.
        self._transport = cast("asyncio.Transport", transport)
        if self._server.opened(self):
            self.flush()
        else:
            self.cut()

    def data_received(self, data: bytes) -> None:
        machine = self._machine
        machine.receive(data)
        # One write for everything that this piece has led to.
        self.flush()

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._machine.lost()
        self._server.closed(self)

    def pause_writing(self) -> None:
        # The peer does not read. Whatever it sends would only make more to write: it has to wait as well.
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def flush(self) -> None:
        """Writes what the machine has to say."""
        transport = self._transport
        machine = self._machine
        if self._server.stopping:
            if self._server.leaving and self.quiet:
                for call in list(self.endless):
                    call.leave()
            self._server.look()
        data = machine.data_to_send()
        if transport is None or transport.is_closing():
            return
        if data:
            transport.write(data)
        if machine.closed:
            if machine.fault:
                self._server.faulty.warn(machine.fault)
            transport.close()

    @property
    def quiet(self) -> bool:
        """Whether no stream is open but those that do not end by themselves."""
        return self._machine.streams == len(self.endless)

    def drain(self) -> None:
        self._machine.drain()
        self.flush()

    def abort(self) -> None:
        self._machine.abort()
        self.flush()

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _accept(self, stream: Stream, route: Route) -> Receiver:
        if route is Route.HEALTH_CHECK:
            return _HealthCheck(self._server.health, stream)
        if route is Route.HEALTH_WATCH:
            return _HealthWatch(self._server.health, self, stream)
        if route is Route.ACCESS_LOG:
            return _AccessLog(self._server, self, stream)
        try:
            exchange = self._server.open_exchange()
        except Exception:
            log.exception("internal error")
            return FailedCall(stream)
        return Call(exchange, stream, self, self._server)


class _AccessLog:
    """A call of AccessLogService/StreamAccessLogs: any number of messages, and one empty answer to all of them."""

    __slots__ = ("_connection", "_server", "_stream")

    def __init__(self, server: SidecarServer, connection: _Connection, stream: Stream) -> None:
        self._server = server
        self._connection = connection
        self._stream = stream
        connection.endless.add(self)

    def message(self, payload: bytes) -> None:
        try:
            self._server.log_entries.message(payload)
        except RemoteProtocolError as error:
            self._server.metrics.protocol_error()
            self._server.illegal.warn(str(error))
            self._stream.finish(Status.INVALID_ARGUMENT, "illegal access log message")
        except Exception:
            log.exception("internal error")
            self._stream.finish(Status.INTERNAL, "internal error")

    def half_closed(self) -> None:
        self.leave()

    def leave(self) -> None:
        self._stream.send(b"")
        self._stream.finish(Status.OK)

    def ended(self) -> None:
        self._connection.endless.discard(self)


class _HealthCheck:
    """A call of grpc.health.v1.Health/Check."""

    __slots__ = ("_health", "_stream")

    def __init__(self, health: Health, stream: Stream) -> None:
        self._health = health
        self._stream = stream

    def message(self, payload: bytes) -> None:
        try:
            answer = self._health.status(asked_service(payload))
        except ValueError:
            self._stream.finish(Status.INVALID_ARGUMENT, "illegal message")
            return
        if answer is None:
            self._stream.finish(Status.NOT_FOUND, "unknown service")
        else:
            self._stream.send(answer)

    def half_closed(self) -> None:
        self._stream.finish(Status.OK)

    def ended(self) -> None:
        pass


class _HealthWatch:
    """A call of grpc.health.v1.Health/Watch: told at once, and of every change."""

    __slots__ = ("_connection", "_health", "_service", "_stream", "_told")

    def __init__(self, health: Health, connection: _Connection, stream: Stream) -> None:
        self._health = health
        self._connection = connection
        self._stream = stream
        self._service = ""
        self._told: bytes | None = None
        connection.endless.add(self)

    def message(self, payload: bytes) -> None:
        try:
            self._service = asked_service(payload)
        except ValueError:
            self._stream.finish(Status.INVALID_ARGUMENT, "illegal message")
            return
        self._tell()
        self._health.watchers.add(self._changed)

    def half_closed(self) -> None:
        # The only message was sent; the call goes on.
        if self._told is None:
            self._stream.finish(Status.INVALID_ARGUMENT, "no message")

    def leave(self) -> None:
        self._stream.finish(Status.OK)

    def ended(self) -> None:
        self._connection.endless.discard(self)
        self._health.watchers.discard(self._changed)

    def _changed(self) -> None:
        self._tell()
        self._connection.flush()

    def _tell(self) -> None:
        status = self._health.status(self._service) or SERVICE_UNKNOWN
        if status != self._told:
            self._told = status
            self._stream.send(status)
