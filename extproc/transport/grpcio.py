"""ext_proc over grpc.aio: for any Envoy-based gateway, on a Unix socket or TCP."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from extproc import wire
from extproc.errors import RemoteProtocolError
from extproc.process.repeats import Repeats
from extproc.process.unix_socket import UNIX
from extproc.protocol.events import LogEntry, RequestBody
from extproc.protocol.replies import Reply
from extproc.transport.budget import MAX_COLLECTED, BodyBudget
from extproc.transport.contract import ErrorCounter, Exchange, at_once
from extproc.transport.grpc_credentials import server_credentials
from extproc.transport.health import LIVENESS, READINESS
from extproc.transport.log_entries import LogEntries
from extproc.transport.services import LOG_METHOD, LOG_SERVICE, MESSAGE_OVERHEAD, METHOD, SERVICE
from extproc.transport.tls import Certificates, Tls

log = logging.getLogger(__name__)


#: Bytes that a stream may have on their way while it is not read from: a common long prompt comes without a pause. Left
#: to itself gRPC takes megabytes from every stream, however many wait (1.1 GiB for 100 bodies of 10 MiB).
LOOKAHEAD = 256 << 10
#: Seconds that grpc.aio has to end by itself once all streams have.
LAST_CALL = 0.5


class GrpcServer:
    """A gRPC server of ext_proc streams and of health.

    `address`: `unix:///path` or `host:port` (port 0 = a free one, see `start`). `tls`: on TCP only; None is plain text.
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
    ) -> None:
        self._open = open_exchange
        self._metrics = metrics
        self._log_entries = LogEntries(metrics, on_log_entry)
        self._illegal = Repeats(log, "protocol error")
        self._open_calls = 0
        #: Set while no stream is open.
        self._idle = asyncio.Event()
        self._idle.set()
        self._log_calls: set[asyncio.Task[object]] = set()
        self._address = address
        self._tls = tls
        self.budget = BodyBudget(max(MAX_COLLECTED, max_body))
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", max_body + MESSAGE_OVERHEAD),
                ("grpc.max_send_message_length", max_body + MESSAGE_OVERHEAD),
                ("grpc.max_concurrent_streams", max_streams),
                ("grpc.http2.bdp_probe", 0),
                ("grpc.http2.lookahead_bytes", LOOKAHEAD),
                # A second gateway on one port must fail to start, not take half of the streams.
                ("grpc.so_reuseport", 0),
            ]
        )
        self._health = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        # Raw bytes in and out: `wire` is the one place that knows messages.
        handler = grpc.stream_stream_rpc_method_handler(self._process)
        log_handler = grpc.stream_unary_rpc_method_handler(self._access_log)
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),
                grpc.method_handlers_generic_handler(LOG_SERVICE, {LOG_METHOD: log_handler}),
            )
        )

    async def start(self) -> str:
        """Binds and serves. Returns the address, with the port that was chosen.

        Raises:
            OSError: the address cannot be bound, or a certificate not be used.
        """
        address = self._bind()
        await self._server.start()
        await self._health.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        await self.set_ready(False)
        return address

    def _bind(self) -> str:
        address = self._address
        is_socket = address.startswith(UNIX)
        path = Path(address.removeprefix(UNIX))
        credentials = None
        if self._tls is not None:
            if is_socket:
                raise OSError(f"cannot listen on {address}: TLS is for TCP")
            credentials = server_credentials(Certificates(self._tls))
        if is_socket:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if credentials is None:
                port = self._server.add_insecure_port(address)
            else:
                port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error
        if is_socket:
            # Envoy runs as the same user; no other user may decide, or see, what this socket carries.
            path.chmod(0o600)
            return address
        return f"{address.rpartition(':')[0]}:{port}"

    async def set_ready(self, ready: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in READINESS:
            await self._health.set(service, status)

    async def stop(self, grace: float, told: Callable[[], Awaitable[None]] = at_once) -> None:
        """As `Transport.stop`."""
        stopping = asyncio.ensure_future(self._server.stop(grace))
        idle = asyncio.ensure_future(self._idle.wait())
        await asyncio.wait({stopping, idle}, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        if not stopping.done():
            await told()
        for call in self._log_calls:
            call.cancel()
        await asyncio.wait({stopping}, timeout=LAST_CALL)
        if not stopping.done():
            # A call that came with the stop and was never handed out: it would wait out the grace. One stop at a time:
            # grpc.aio crashes where one ends while another begins.
            stopping.cancel()
            await asyncio.wait({stopping})
            await self._server.stop(None)

    async def _process(self, _requests: object, context: "grpc.aio.ServicerContext[bytes, bytes]") -> None:
        exchange = self._open()
        silent = True
        self._open_calls += 1
        self._idle.clear()
        try:
            while replies := await self._answer(exchange, context, collecting=silent):
                silent = False
                # They hold the body: each goes when it is sent.
                while replies:
                    await context.write(wire.encode(replies.pop()))
                self.budget.drop(exchange)
        except RemoteProtocolError as error:
            self._metrics.protocol_error()
            self._illegal.warn(str(error))
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "illegal ext_proc message")
        except (asyncio.CancelledError, grpc.RpcError, grpc.aio.AbortError):
            raise
        except Exception:
            # A bug of ours ends this stream, and no other. An error status, never a silent return: Envoy takes that for
            # "go on without a decision".
            log.exception("an ext_proc message could not be handled")
            await context.abort(grpc.StatusCode.INTERNAL, "internal error")
        finally:
            exchange.close()
            self.budget.drop(exchange)
            self._open_calls -= 1
            if not self._open_calls:
                self._idle.set()

    async def _answer(
        self, exchange: Exchange, context: "grpc.aio.ServicerContext[bytes, bytes]", *, collecting: bool
    ) -> list[Reply]:
        """Reads until there are replies to send; returns them in reverse order. Empty: the peer has ended its side.

        `collecting`: bodies that come are kept; after the first reply, whatever it was, none is.
        """
        while True:
            message = await context.read()
            if message is grpc.aio.EOF:
                return []
            event = wire.decode(message)
            del message  # a name holds a body for as long as this waits, which may be a whole answer
            replies = exchange.handle(event)
            collected = len(event.body) if collecting and type(event) is RequestBody else 0
            del event
            while exchange.pending is not None:
                await exchange.pending.wait()
                replies += exchange.resume()
            if replies:
                return replies[::-1]
            if collected and not self.budget.add(exchange, collected):
                go_on = asyncio.Event()
                self.budget.wait(exchange, go_on.set)
                await go_on.wait()

    async def _access_log(self, _requests: object, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        call = asyncio.current_task()
        assert call is not None  # noqa: S101 - this is one
        self._log_calls.add(call)
        call.add_done_callback(self._log_calls.discard)
        while (message := await context.read()) is not grpc.aio.EOF:
            try:
                self._log_entries.message(message)
            except RemoteProtocolError as error:
                self._metrics.protocol_error()
                self._illegal.warn(str(error))
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "illegal access log message")
        return b""
