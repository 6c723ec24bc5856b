"""The calls beside ext_proc's: Envoy's access log, and health."""

import logging
from typing import Protocol

from extproc.errors import RemoteProtocolError
from extproc.process.repeats import Repeats
from extproc.transport.contract import ErrorCounter
from extproc.transport.grpc_status import Status
from extproc.transport.health import SERVICE_UNKNOWN, Health, asked_service
from extproc.transport.http2.stream import Stream
from extproc.transport.log_entries import LogEntries

log = logging.getLogger(__name__)


class Endless(Protocol):
    """A call that its peer keeps open for as long as it runs."""

    def leave(self) -> None:
        """Ends it."""


class Connection(Protocol):
    """The connection that carries these calls."""

    endless: set[Endless]

    def flush(self) -> None:
        """Writes what was sent."""


class Server(Protocol):
    """What all calls share."""

    metrics: ErrorCounter
    log_entries: LogEntries
    illegal: Repeats


class AccessLog:
    """A call of AccessLogService/StreamAccessLogs: any number of messages, and one empty answer to all of them."""

    __slots__ = ("_connection", "_server", "_stream")

    def __init__(self, server: Server, connection: Connection, stream: Stream) -> None:
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
            log.exception("a message of the access log could not be handled")
            self._stream.finish(Status.INTERNAL, "internal error")

    def half_closed(self) -> None:
        self.leave()

    def leave(self) -> None:
        self._stream.send(b"")
        self._stream.finish(Status.OK)

    def ended(self) -> None:
        self._connection.endless.discard(self)


class HealthCheck:
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


class HealthWatch:
    """A call of grpc.health.v1.Health/Watch: answered at once, and at every change."""

    __slots__ = ("_connection", "_health", "_service", "_stream", "_told")

    def __init__(self, health: Health, connection: Connection, stream: Stream) -> None:
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
