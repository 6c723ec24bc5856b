"""How much of request bodies may wait to become whole, over all streams."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

#: Bytes of bodies that are held before streams have to wait. 256 requests with prompts of 100,000 tokens come whole at
#: once; it stays below what the lean transport's connections hold at most.
MAX_COLLECTED: Final = 128 << 20
#: Bytes that each stream may hold in any case: what an unread stream holds in gRPC's own windows. Common requests never
#: wait for large ones.
FREE: Final = 64 << 10


class BodyBudget:
    """Counts the bytes of bodies that streams hold, and decides which streams have to wait.

    A stream that has begun must be able to end, else all wait for each other: the one that has held bytes for longest
    never waits. So what is held is at most `limit`, one body more, and `FREE` or one message for every other stream.

    Args:
        limit: bytes.
    """

    __slots__ = ("_held", "_limit", "_waiting", "total")

    def __init__(self, limit: int) -> None:
        #: Bytes that are held now.
        self.total = 0
        self._limit = limit
        # In the order in which the streams began.
        self._held: OrderedDict[Hashable, int] = OrderedDict()
        self._waiting: OrderedDict[Hashable, Callable[[], None]] = OrderedDict()

    def add(self, stream: Hashable, size: int) -> bool:
        """`stream` holds `size` bytes more. False: it is not to be read from until it may go on (`wait`)."""
        held = self._held[stream] = self._held.get(stream, 0) + size
        self.total += size
        return held <= FREE or self.total <= self._limit or stream is next(iter(self._held))

    def wait(self, stream: Hashable, go_on: Callable[[], None]) -> None:
        """Calls `go_on` when `stream` may be read from again. It must not call back into the budget."""
        self._waiting[stream] = go_on

    def drop(self, stream: Hashable) -> None:
        """`stream` holds nothing any more, and waits for nothing. May be called for any stream at any time."""
        self._waiting.pop(stream, None)
        size = self._held.pop(stream, None)
        if size is None:
            return
        self.total -= size
        waiting = self._waiting
        if not waiting:
            return
        oldest = waiting.pop(next(iter(self._held)), None)
        if oldest is not None:
            oldest()
        if self.total <= self._limit:
            # All of them: each is stopped again by its next message if that is too much.
            self._waiting = OrderedDict()
            for go_on in waiting.values():
                go_on()
