"""Access log entries that came to another process than the one that made the pick.

Envoy keeps one stream of its log open, to any of the processes; the request's own stream went to the one that decides.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from extproc.protocol.events import LogEntry
from scheduler.pool.shared import Event


class Entries:
    """Sends entries to all others, and hands on those that others send."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell = tell
        #: Called with each entry that another process got.
        self.on_entry: Callable[[LogEntry], None] = _ignore

    def forward(self, entry: LogEntry) -> None:
        """Lets the process know that it concerns, whichever that is."""
        self._tell((entry,))

    # As for pools

    def other(self) -> "Entries":
        return self

    def apply(self, event: Sequence[Any]) -> None:
        self.on_entry(msgspec.convert(event[0], LogEntry))

    def end(self) -> None:
        pass

    def in_flight(self) -> list[Event]:
        return []

    def notes(self) -> Iterator[Event]:
        return iter(())


def _ignore(entry: LogEntry) -> None:
    pass
