"""Envoy's access log, message by message: each entry is handed on by itself."""

import logging
from collections.abc import Callable

from extproc import wire
from extproc.process.repeats import Repeats
from extproc.protocol.events import LogEntry
from extproc.transport.contract import ErrorCounter

log = logging.getLogger(__name__)


class LogEntries:
    """Takes the log's messages. An entry that cannot be read, or that somebody breaks over, costs itself.

    Args:
        metrics: counts entries that could not be read.
        on_entry: called with each request in the log.
    """

    def __init__(self, metrics: ErrorCounter, on_entry: Callable[[LogEntry], None]) -> None:
        self._metrics = metrics
        self._on_entry = on_entry
        self._unread = Repeats(log, "access log entries cannot be read: how these requests ended is not known")

    def message(self, payload: bytes) -> None:
        """A serialized `StreamAccessLogsMessage`.

        Raises:
            RemoteProtocolError: it is none.
        """
        entries, unread = wire.decode_log(payload)
        for entry in entries:
            try:
                self._on_entry(entry)
            except Exception:
                log.exception("an entry of the access log could not be handled")
        if unread:
            for _ in range(unread):
                self._metrics.protocol_error()
            self._unread.warn("not an HTTPAccessLogEntry", unread)
