"""ext_proc over a lean HTTP/2 server: on a Unix socket for the Envoy beside it, on TCP and TLS for other gateways.

It speaks what gRPC peers do, and nothing else: no compression, four methods. `bench/transport.py` compares its cost
with that of grpc.aio, half of whose time goes into hand-offs between threads.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast

from extproc.process.background import Background
from extproc.process.repeats import Repeats
from extproc.process.unix_socket import UNIX
from extproc.protocol.events import LogEntry
from extproc.transport.budget import MAX_COLLECTED, BodyBudget
from extproc.transport.contract import ErrorCounter, Exchange, at_once
from extproc.transport.health import Health
from extproc.transport.http2.call import Call, FailedCall
from extproc.transport.http2.connection import Http2Connection
from extproc.transport.http2.requests import Route
from extproc.transport.http2.side_calls import AccessLog, Endless, HealthCheck, HealthWatch
from extproc.transport.http2.stream import Holdings, Receiver, Stream
from extproc.transport.listener import Listener
from extproc.transport.log_entries import LogEntries
from extproc.transport.services import MESSAGE_OVERHEAD
from extproc.transport.tls import Tls

log = logging.getLogger(__name__)

#: Most connections. Envoy makes one per worker thread, and in a change of configuration twice that, for a moment; a
#: hundred gateways of eight threads have room. Beyond, one without calls goes for each that comes.
MAX_CONNECTIONS = 1024
#: Seconds between looks at what only time changes. What follows is counted in looks, so it is late by one at most.
LOOK = 1.0
#: Looks until a peer has begun to speak HTTP/2, and until a header block that it has begun is whole.
GREETING = 10
#: … until each call has its first message. Twice that where it was opened just after a look.
FIRST_MESSAGE = 10
#: … without a byte on TCP after which a peer is asked whether it is there, and more until it is taken to be gone: a
#: machine that went away sends nothing, and its calls would be in flight for ever.
SILENCE = 30
NO_ANSWER = 20
#: Seconds that a peer has, when everything ends, to take what was sent last.
LAST_WORDS = 0.2


class Http2Server:
    """A server of ext_proc streams, access logs and health checks.

    Args:
        open_exchange: what answers a stream.
        metrics: counts streams that break the protocol.
        on_log_entry: called with each request in Envoy's access log.
        address: `unix:///absolute/path`, or `host:port` (0: a free one).
        max_body: largest request body, bytes.
        max_streams: most streams on one connection.
        max_connections: most connections at a time.
        tls: on TCP only; None is plain text.
        background: starts what dies again.
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
        tls: Tls | None = None,
        max_connections: int = MAX_CONNECTIONS,
        background: Background | None = None,
    ) -> None:
        self._background = background or Background()
        self.open_exchange = open_exchange
        self._max_connections = max_connections
        self.metrics = metrics
        self.log_entries = LogEntries(metrics, on_log_entry)
        self.illegal = Repeats(log, "protocol error")
        self.faulty = Repeats(log, "connection error")
        self.late = Repeats(log, "connection cut")
        self._crowded = Repeats(log, "too many connections")
        self.health = Health()
        self.budget = BodyBudget(max(MAX_COLLECTED, max_body))
        self.max_message = max_body + MESSAGE_OVERHEAD
        self.max_streams = max_streams
        self.holdings = Holdings(self.max_message)
        #: Whether a peer may vanish without a word.
        self.remote = not address.startswith(UNIX)
        self._listener = Listener(address, partial(_Connection, self), self._room, tls, self._background)
        self._looking: asyncio.Task[None] | None = None
        self._connections: set[_Connection] = set()
        #: No new streams are taken; and then: nor are those kept open that never end by themselves.
        self.stopping = False
        self.leaving = False
        self._all_quiet = asyncio.Event()
        self._all_closed = asyncio.Event()

    async def start(self) -> str:
        """Binds and serves. Returns the address, with the port that was chosen.

        Raises:
            OSError: the address cannot be bound, or a certificate not be used.
        """
        address = await self._listener.start()
        self._looking = self._background.start("look after connections", self._look_after)
        return address

    async def set_ready(self, ready: bool) -> None:
        self.health.set_ready(ready)

    async def stop(self, grace: float, told: Callable[[], Awaitable[None]] = at_once) -> None:
        """As `Transport.stop`."""
        self.stopping = True
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
        if self._looking is not None:
            self._looking.cancel()

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            self.look_after()

    def look_after(self) -> None:
        """Ends what takes too long. Called every `LOOK` seconds."""
        for connection in list(self._connections):
            connection.look_after()

    def _room(self) -> bool:
        """Whether there is room for one more connection. One that does nothing makes it."""
        if len(self._connections) + len(self._listener.handshakes) < self._max_connections:
            return True
        idle = min((one for one in self._connections if one.idle), key=lambda one: -one.silence, default=None)
        self._crowded.warn("one without calls makes room" if idle is not None else "refused: all have calls")
        if idle is None:
            return False
        self._connections.discard(idle)
        idle.cut()
        return True

    async def _closed_within(self, seconds: float) -> None:
        if self._connections:
            self._all_closed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_closed.wait(), seconds)

    # The connections' side

    def opened(self, connection: "_Connection") -> None:
        """Takes note of a new connection."""
        self._connections.add(connection)
        if self.stopping:
            connection.drain()

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

    def __init__(self, server: Http2Server) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        #: Calls that their peer keeps open for as long as it runs.
        self.endless: set[Endless] = set()
        self._machine = Http2Connection(
            self._accept, max_streams=server.max_streams, max_message=server.max_message, holdings=server.holdings
        )
        # Looks: at it, since a byte came, and since a header block was begun.
        self._age = 0
        self.silence = 0
        self._in_block = 0
        #: The highest number of a stream some looks ago.
        self._last_id = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the interface, not the type.
        self._transport = cast("asyncio.Transport", transport)
        self._server.opened(self)
        self.flush()

    def data_received(self, data: bytes) -> None:
        machine = self._machine
        self.silence = 0
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

    def look_after(self) -> None:
        """Ends what takes too long."""
        machine = self._machine
        self._age += 1
        self.silence += 1
        self._in_block = self._in_block + 1 if machine.in_block else 0
        late = ""
        if not machine.greeted and self._age > GREETING:
            late = "does not begin"
        elif self._in_block > GREETING:
            late = "does not end a header block"
        elif self._server.remote and self.silence >= SILENCE + NO_ANSWER:
            late = "does not answer"
        if late:
            self._server.late.warn(f"the peer {late}")
            self.cut()
            return
        if self._server.remote and self.silence == SILENCE:
            machine.ping()
        if self._age % FIRST_MESSAGE == 0:
            machine.end_silent(self._last_id)
            self._last_id = machine.last_id
        self.flush()

    @property
    def idle(self) -> bool:
        """Whether no stream is open."""
        return self._machine.streams == 0

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
            return HealthCheck(self._server.health, stream)
        if route is Route.HEALTH_WATCH:
            return HealthWatch(self._server.health, self, stream)
        if route is Route.ACCESS_LOG:
            return AccessLog(self._server, self, stream)
        try:
            exchange = self._server.open_exchange()
        except Exception:
            log.exception("an ext_proc stream could not be opened")
            return FailedCall(stream)
        return Call(exchange, stream, self, self._server)
