"""Which prefixes an engine's cache holds, counted by blocks of the trace instead of by text.

The rules are those of `modelsim.kv_cache`; only the unit differs. A trace names 512 tokens by one number, where an
engine has 32 blocks: counting them one by one would take most of a simulation's time, and they come and go together.
"""

from collections import OrderedDict
from collections.abc import Sequence

from modelsim.profile import BLOCK_SIZE


class Lease:
    """What one request holds. Counts are engine blocks, of `BLOCK_SIZE` tokens."""

    __slots__ = ("blocks", "cached", "ends", "held", "private", "promised")

    def __init__(self, blocks: Sequence[int], ends: Sequence[int]) -> None:
        #: Trace blocks of the prompt, and after how many engine blocks each ends.
        self.blocks = blocks
        self.ends = ends
        #: Trace blocks held, from the first.
        self.held = 0
        #: Engine blocks that need not be computed.
        self.cached = 0
        #: Engine blocks that no other job may use, and those that the answer will need.
        self.private = 0
        self.promised = 0


class KVCache:
    """Counts `total` engine blocks: held by requests, kept for later prompts (least recently used go first), free."""

    def __init__(self, total: int) -> None:
        self.total = total
        #: Trace block -> how many requests hold it.
        self._shared: dict[int, int] = {}
        self._shared_size = 0
        #: Trace block -> its engine blocks, oldest first.
        self._evictable: OrderedDict[int, int] = OrderedDict()
        self._evictable_size = 0
        self._private = 0
        self._promised = 0

    @property
    def used(self) -> int:
        return self._shared_size + self._private

    @property
    def usage(self) -> float:
        """Share of the blocks that requests hold, 0-1."""
        return self.used / self.total

    def match(self, blocks: Sequence[int]) -> int:
        """Number of leading trace blocks that are in the cache."""
        shared, evictable = self._shared, self._evictable
        for index, block in enumerate(blocks):
            if block not in shared and block not in evictable:
                return index
        return len(blocks)

    def reserve(self, lease: Lease, *, matchable: int, prompt: int, answer: int) -> bool:
        """Takes the blocks of a prompt and promises those of its answer. False where there is no room now.

        Args:
            lease: new.
            matchable: engine blocks that may come from the cache.
            prompt: engine blocks of the prompt in all.
            answer: further engine blocks that the answer will fill.
        """
        blocks, ends = lease.blocks, lease.ends
        found = self.match(blocks)
        cached = ends[found - 1] if found else 0
        # The last token of a prompt is computed in any case: of a prompt that is there as a whole, the last block is a
        # copy of the request's own until it is computed.
        while found and ends[found - 1] > matchable:
            found -= 1
            cached = matchable
        held = ends[found - 1] if found else 0
        evictable = self._evictable
        revived = 0
        for block in blocks[:found]:
            revived += evictable.get(block, 0)
        private = prompt - held
        if private + revived + answer > self.total - self.used - self._promised:
            return False
        shared = self._shared
        for block in blocks[:found]:
            size = evictable.pop(block, None)
            if size is None:
                shared[block] += 1
            else:
                shared[block] = 1
        self._evictable_size -= revived
        self._shared_size += revived
        lease.held, lease.cached, lease.private, lease.promised = found, cached, private, answer
        self._private += private
        self._promised += answer
        self.make_room()
        return True

    def publish(self, lease: Lease, computed: int) -> None:
        """The first `computed` engine blocks of the prompt are computed: others may use what they complete."""
        blocks, ends, held = lease.blocks, lease.ends, lease.held
        shared, evictable = self._shared, self._evictable
        start = ends[held - 1] if held else 0
        while held < len(blocks) and ends[held] <= computed:
            block, size = blocks[held], ends[held] - start
            start = ends[held]
            held += 1
            kept = evictable.pop(block, None)
            if kept is not None:
                self._evictable_size -= kept
            count = shared.get(block, 0)
            shared[block] = count + 1
            if not count:
                self._shared_size += size
            lease.private -= size
            self._private -= size
        lease.held = held

    def grow(self, lease: Lease) -> None:
        """The answer begins another block, one of those promised."""
        lease.promised -= 1
        lease.private += 1
        self.grown(1)

    def grown(self, count: int) -> None:
        """Answers begin `count` blocks; the engine's `settle` assigns them to jobs."""
        self._promised -= count
        self._private += count
        self.make_room()

    def release(self, lease: Lease) -> None:
        """Gives everything back. The end of a prompt is evicted before its beginning, which more prompts share."""
        self._private -= lease.private
        self._promised -= lease.promised
        shared, evictable, ends = self._shared, self._evictable, lease.ends
        for index in range(lease.held - 1, -1, -1):
            block = lease.blocks[index]
            count = shared[block]
            if count > 1:
                shared[block] = count - 1
                continue
            del shared[block]
            size = ends[index] - (ends[index - 1] if index else 0)
            evictable[block] = size
            self._shared_size -= size
            self._evictable_size += size

    def clear(self) -> None:
        """The engine was restarted. Leases of before must not be used any more."""
        self.__init__(self.total)  # type: ignore[misc]

    def make_room(self) -> None:
        excess = self._evictable_size + self.used - self.total
        while excess > 0:
            _, size = self._evictable.popitem(last=False)
            self._evictable_size -= size
            excess -= size


def ends_of(prompt_tokens: int, block_tokens: int, count: int) -> tuple[int, ...]:
    """After how many engine blocks each of a prompt's `count` trace blocks ends; the last one may be cut short."""
    per_block = block_tokens // BLOCK_SIZE
    whole = prompt_tokens // BLOCK_SIZE
    ends = [*range(per_block, per_block * count + 1, per_block)]
    while ends and ends[-1] > whole:
        ends.pop()
    if len(ends) < count and (ends[-1] if ends else 0) < whole:
        ends.append(whole)
    return tuple(ends)
