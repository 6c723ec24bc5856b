"""Blocks of the KV cache: who holds them, and which prefixes are still there when nobody does.

A block is private (being computed, half full, or of the answer), shared (a full block of a prompt that at least one
request holds) or evictable (shared once, held by nobody, first to go when room is needed). The three together never
exceed the total.

Blocks of answers are not kept for later prompts: without a tokenizer, the next turn of a chat would hardly hit them.
"""

from collections import OrderedDict
from collections.abc import Sequence


class Lease:
    """What one request holds. Made by `KVCache.reserve`, given back by `KVCache.release`."""

    __slots__ = ("cached", "hashes", "held", "private", "promised")

    def __init__(self, hashes: Sequence[int], cached: int, private: int, promised: int) -> None:
        self.hashes = hashes
        #: Blocks of the prompt that were found in the cache.
        self.cached = cached
        #: Hashes of the shared blocks held, in the order of the prompt.
        self.held: list[int] = list(hashes[:cached])
        self.private = private
        #: Blocks that the answer will need and that no one else may be given.
        self.promised = promised


class KVCache:
    """Counts blocks. Every request is admitted with room for all it will need, so growth never fails."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._shared: dict[int, int] = {}
        # Oldest first.
        self._evictable: OrderedDict[int, None] = OrderedDict()
        self._private = 0
        self._promised = 0

    @property
    def used(self) -> int:
        """Blocks that requests hold. Evictable ones are free, as in vLLM's usage."""
        return len(self._shared) + self._private

    @property
    def usage(self) -> float:
        """Share of the blocks that requests hold, 0-1."""
        return self.used / self.total

    @property
    def promised(self) -> int:
        return self._promised

    @property
    def evictable(self) -> int:
        return len(self._evictable)

    def match(self, hashes: Sequence[int]) -> int:
        """Number of leading blocks that are in the cache."""
        for index, block in enumerate(hashes):
            if block not in self._shared and block not in self._evictable:
                return index
        return len(hashes)

    def reserve(self, hashes: Sequence[int], *, matchable: int, prompt: int, answer: int) -> Lease | None:
        """Takes the blocks of a prompt and promises those of its answer; None where there is no room now.

        Args:
            hashes: Of the full blocks of the prompt.
            matchable: How many of these may come from the cache.
            prompt: Blocks of the prompt in all.
            answer: Further blocks that the answer will fill.
        """
        cached = self.match(hashes[:matchable])
        revived = sum(1 for block in hashes[:cached] if block in self._evictable)
        private = prompt - cached
        if private + revived + answer > self.total - self.used - self._promised:
            return None
        lease = Lease(hashes, cached, private, answer)
        for block in lease.held:
            self._evictable.pop(block, None)
            self._shared[block] = self._shared.get(block, 0) + 1
        self._private += private
        self._promised += answer
        self._make_room()
        return lease

    def publish(self, lease: Lease, computed: int) -> None:
        """The first `computed` full blocks of the prompt are computed: others may use them.

        Where another request published the same block in the meantime, that one is held instead. (vLLM keeps the
        duplicate until the request ends.)
        """
        for block in lease.hashes[len(lease.held) : computed]:
            self._evictable.pop(block, None)
            self._shared[block] = self._shared.get(block, 0) + 1
            lease.held.append(block)
            lease.private -= 1
            self._private -= 1

    def grow(self, lease: Lease) -> None:
        """The answer begins another block, one of those promised."""
        lease.promised -= 1
        lease.private += 1
        self._promised -= 1
        self._private += 1
        self._make_room()

    def release(self, lease: Lease) -> None:
        """Gives everything back. The end of a prompt is evicted before its beginning, which more prompts share."""
        self._private -= lease.private
        self._promised -= lease.promised
        for block in reversed(lease.held):
            if self._shared[block] > 1:
                self._shared[block] -= 1
            else:
                del self._shared[block]
                self._evictable[block] = None

    def _make_room(self) -> None:
        while len(self._evictable) + self.used > self.total:
            self._evictable.popitem(last=False)
