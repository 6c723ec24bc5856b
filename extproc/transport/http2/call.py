"""One call of ext_proc on the lean server."""

import asyncio
import logging
from typing import Protocol

from extproc import wire
from extproc.errors import RemoteProtocolError
from extproc.process.repeats import Repeats
from extproc.protocol.replies import Reply
from extproc.transport.budget import BodyBudget
from extproc.transport.contract import ErrorCounter, Exchange
from extproc.transport.grpc_status import Status
from extproc.transport.http2.stream import Stream

log = logging.getLogger(__name__)


class Connection(Protocol):
    """The connection that carries a call."""

    def flush(self) -> None:
        """Writes what was sent."""


class Server(Protocol):
    """What all calls share."""

    metrics: ErrorCounter
    budget: BodyBudget
    illegal: Repeats


class Call:
    """An ext_proc stream: messages to its exchange, and replies back.

    Where Envoy shows bodies in pieces, they are collected before the first reply: that counts in the server's budget,
    and a stream over it is not read from. What comes meanwhile its connection holds, within a limit of its own.
    """

    __slots__ = ("_collected", "_connection", "_exchange", "_server", "_silent", "_stream", "_waiting")

    def __init__(self, exchange: Exchange, stream: Stream, connection: Connection, server: Server) -> None:
        self._exchange = exchange
        self._stream = stream
        self._connection = connection
        self._server = server
        self._waiting: asyncio.Task[None] | None = None
        # No reply was sent yet; and then whether a piece of the body was kept.
        self._silent = True
        self._collected = False
        exchange.push = self._push

    def _push(self, replies: list[Reply]) -> None:
        for reply in replies:
            self._silent = False
            self._stream.send(wire.encode(reply))
        self._connection.flush()

    def message(self, payload: bytes) -> None:
        exchange = self._exchange
        try:
            replies = exchange.handle(wire.decode(payload))
            if replies:
                self._silent = False
                for reply in replies:
                    self._stream.send(wire.encode(reply))
                if self._collected:
                    self._let_go()
            elif self._silent and exchange.pending is None:
                self._collect(len(payload))
            if exchange.pending is not None and not self._stream.closed:
                self._stream.pause()
                self._waiting = asyncio.get_running_loop().create_task(self._wait())
        except RemoteProtocolError as error:
            self._illegal(error)
        except Exception:
            log.exception("an ext_proc message could not be handled")
            self._failed()

    def half_closed(self) -> None:
        self._stream.finish(Status.OK)

    def ended(self) -> None:
        waiting = self._waiting
        if waiting is not None and waiting is not asyncio.current_task():
            waiting.cancel()
        if self._collected:
            self._let_go()
        try:
            self._exchange.close()
        except Exception:
            log.exception("an ext_proc stream could not be released")

    async def _wait(self) -> None:
        exchange, stream = self._exchange, self._stream
        try:
            while (pending := exchange.pending) is not None:
                await pending.wait()
                for reply in exchange.resume():
                    self._silent = False
                    stream.send(wire.encode(reply))
        except asyncio.CancelledError:
            if stream.closed:
                raise
            # Not this stream's end: what was awaited was cancelled, and the stream must not hang for it.
            log.exception("a wait for keys was cancelled")
            self._failed()
        except RemoteProtocolError as error:
            self._illegal(error)
        except Exception:
            log.exception("a wait for keys failed")
            self._failed()
        self._waiting = None
        stream.resume()
        self._connection.flush()

    def _collect(self, size: int) -> None:
        budget = self._server.budget
        self._collected = True
        if not budget.add(self, size):
            self._stream.pause()
            budget.wait(self, self._go_on)

    def _let_go(self) -> None:
        self._collected = False
        self._server.budget.drop(self)

    def _go_on(self) -> None:
        # Not at once: what waits may be more than the budget has, and it is in the middle of telling others.
        asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        self._stream.resume()
        self._connection.flush()

    def _illegal(self, error: RemoteProtocolError) -> None:
        self._server.metrics.protocol_error()
        self._server.illegal.warn(str(error))
        self._stream.finish(Status.INVALID_ARGUMENT, "illegal ext_proc message")

    def _failed(self) -> None:
        # A bug of ours ends this stream, and no other. An error status, never a silent end: Envoy takes that for "go on
        # without a decision".
        self._stream.finish(Status.INTERNAL, "internal error")


class FailedCall:
    """A stream for which there is no exchange."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def message(self, _payload: bytes) -> None:
        self._stream.finish(Status.INTERNAL, "internal error")

    def half_closed(self) -> None:
        self._stream.finish(Status.INTERNAL, "internal error")

    def ended(self) -> None:
        pass
