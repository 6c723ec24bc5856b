"""When something was sent, by this machine's clock: the ids of a stream's entries are the server's milliseconds. Pure.

The server's clock is the only one that all have in common. An answer that comes at `now` was made before, by at most
its way: of what answers say of the difference between the two clocks, the least is nearest to the truth.
"""

from math import inf
from typing import Final

#: Seconds a second by which two clocks may drift apart: ten times what quartz does.
DRIFT: Final = 1e-3
#: Seconds by which the difference may have grown: more means that the server's clock was set, or is another server's.
JUMP: Final = 1.0


class ServerClock:
    """The difference between the server's clock and this machine's."""

    __slots__ = ("_at", "_offset")

    def __init__(self) -> None:
        self._offset = inf
        self._at = 0.0

    def answered(self, milliseconds: int, now: float) -> None:
        """The server's clock was at `milliseconds` just before `now` (monotonic seconds)."""
        offset = now - milliseconds / 1000
        grown = self._offset + (now - self._at) * DRIFT
        self._offset = offset if offset < grown or offset - grown > JUMP else grown
        self._at = now

    def local(self, milliseconds: int, now: float) -> float:
        """Monotonic seconds at which the server's clock was there: `now` at the latest."""
        return min(milliseconds / 1000 + self._offset, now)


def milliseconds_of(entry: bytes) -> int:
    """Of an entry's id.

    Raises:
        ValueError: it is none.
    """
    return int(entry.partition(b"-")[0])


def before(entry: bytes, seconds: float) -> bytes:
    """The id of an entry that would be so much older.

    Raises:
        ValueError: it is none.
    """
    return b"%d-0" % max(milliseconds_of(entry) - int(seconds * 1000), 0)


def order(entry: bytes) -> tuple[int, int]:
    """By which ids are in order.

    Raises:
        ValueError: it is none.
    """
    milliseconds, _, sequence = entry.partition(b"-")
    return int(milliseconds), int(sequence or 0)
