"""Which pod holds which prefix: an exact index of the blocks of prompts that were sent to each pod.

A prompt's head is cut into blocks of `block_size` bytes, and each block's hash is seeded by the hash of the block
before it, so that a hash names a whole prefix. The first is seeded by the model (or LoRA adapter) and a secret, so that
models never match each other and nobody can prepare collisions. A tail shorter than a block is not hashed.

Per pod there is an LRU of at most `max_blocks_per_pod` blocks, and one dictionary says for each hash which pods hold
it, as a bit mask of pod slots. A prefix's blocks are touched last to first, so that a short prefix outlives its
extensions.

Memory, measured with CPython 3.11 and full LRUs of 50,000 blocks (`bench/prefix_soak.py`): 175 bytes an entry at 8 pods
and 195 at 64, where no two pods share a block (0.62 GB for the 64), 66 at 64 where all do.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate, islice, repeat
from operator import and_
from struct import iter_unpack

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from scheduler.types import FloatArray, Prompt, Snapshot

#: From so many pods on that share one length, their bits are unpacked by numpy (about 3 us) instead of one by one (0.2
#: us each).
_MANY = 16
#: Touches remembered per block of a pod's bound. Bounds the memory of a pod whose traffic touches the same few blocks
#: again and again: what was not touched in all that time goes, even if there is room.
TOUCHES_PER_BLOCK = 4
#: Blocks of a pod that another process is told of at once: a millisecond of its time.
PIECE = 2_500
#: Dictionaries that the hashes are spread over, by their low bits. A dictionary that entries come to and go from is
#: copied now and then: of 3.2 million entries in one that took 190 ms, for which every request waited.
SHARDS = 64
_SHARD = SHARDS - 1


class _Shelf:
    """What one pod holds.

    `touches` is every touch of a block in its order, old ones first, from `start` on; `blocks` counts for each block
    held how many of its touches are in there. The oldest touch is taken off to make room; a block goes with its last
    one. That is an LRU without links: less memory than an OrderedDict, and nothing for the garbage collector.
    """

    __slots__ = ("bit", "blocks", "slot", "start", "touches")

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.bit = 1 << slot
        self.blocks: dict[int, int] = {}
        self.touches = array("Q")
        self.start = 0


class PrefixIndex:
    """Prefixes by pod. One thread only."""

    def __init__(self, *, block_size: int, max_blocks: int, max_blocks_per_pod: int, seed: int) -> None:
        """Makes an empty index.

        Args:
            block_size: bytes of text that one hash covers.
            max_blocks: blocks of a prompt's head that are looked at.
            max_blocks_per_pod: blocks remembered per pod.
            seed: secret of 64 bits; equal seeds make equal hashes.
        """
        self.block_size = block_size
        self.max_blocks = max_blocks
        self.max_blocks_per_pod = max_blocks_per_pod
        self._max_touches = TOUCHES_PER_BLOCK * max_blocks_per_pod
        self._seed = seed
        self._format = f"{block_size}s"
        self._holders: list[dict[int, int]] = [{} for _ in range(SHARDS)]
        self._shelves: dict[str, _Shelf] = {}
        self._free: list[int] = []
        #: Slots ever handed out.
        self._slots = 0
        #: Goes up whenever a pod gets or loses its slot.
        self._version = 0

    @property
    def entries(self) -> int:
        """Blocks held, summed over pods."""
        return sum(len(shelf.blocks) for shelf in self._shelves.values())

    @property
    def hashes_known(self) -> int:
        """Different blocks held by any pod."""
        return sum(map(len, self._holders))

    def hashes(self, model: str, prompt: Prompt) -> tuple[list[int], float]:
        """Hashes of the prompt's full blocks, first first, and the share (0-1) of the prompt's text that they cover."""
        size = self.block_size
        limit = size * self.max_blocks
        head = prompt.head(limit)
        total = len(head)
        hashed = total - total % size
        if not hashed:
            return [], 0.0
        last = xxh3_64_intdigest(model.encode("utf-8", "surrogatepass"), self._seed)
        whole = head if hashed == total else head[:hashed]
        blocks = [last := xxh3_64_intdigest(block, last) for (block,) in iter_unpack(self._format, whole)]
        span = hashed / total
        if total == limit:
            # Cut off: the rest is counted in characters, as the prompt's length is.
            seen = total if head.isascii() else len(head.decode("utf-8", "ignore"))
            span *= min(seen / prompt.length, 1.0)
        return blocks, span

    def match(self, hashes: list[int], pods: Snapshot) -> FloatArray:
        """The longest prefix that each pod holds without a gap from block 0, as share (0-1) of all `hashes`."""
        holders = self._holders
        if not hashes or hashes[0] not in holders[hashes[0] & _SHARD]:
            return np.zeros(len(pods))
        # Which pods hold everything up to block i. Bits only ever fall away, so the numbers never rise: reversed they
        # are sorted, and a bisection finds each place where pods drop out.
        shards = map(holders.__getitem__, map(and_, hashes, repeat(_SHARD)))
        masks = list(filter(None, accumulate(map(dict.get, shards, hashes, repeat(0)), and_)))
        masks.reverse()
        count = len(hashes)
        blocks = len(masks)
        # One cell more than slots: -1, the slot of a pod that holds nothing, is always 0.
        shares = np.zeros(self._slots + 1)
        end = blocks
        while end:
            mask = masks[end - 1]
            start = bisect_left(masks, mask, 0, end)
            dropped = mask ^ masks[start - 1] if start else mask
            share = (blocks - start) / count
            if dropped.bit_count() < _MANY:
                while dropped:
                    low = dropped & -dropped
                    shares[low.bit_length() - 1] = share
                    dropped ^= low
            else:
                bits = np.frombuffer(dropped.to_bytes((self._slots + 7) // 8, "little"), np.uint8)
                shares[:-1][np.unpackbits(bits, count=self._slots, bitorder="little").view(np.bool_)] = share
            end = start
        return shares[self._slot_of_rows(pods)]

    def record(self, hashes: Sequence[int], address: str) -> Callable[[], None]:
        """Notes that a pod is to hold these blocks. Call the answer to take the note back.

        A block stays for as long as any pick vouches for it that is remembered and was not taken back: what another
        pick relies on, earlier or later, is not lost. Where touches were forgotten in the meantime, a block may go
        early: the index then claims too little, never too much.
        """
        shelf = self._shelves.get(address) or self._shelf(address)
        blocks, bit, holders = shelf.blocks, shelf.bit, self._holders
        known = blocks.get
        for block in hashes:
            touches = known(block)
            if touches is None:
                blocks[block] = 1
                shard = holders[block & _SHARD]
                shard[block] = shard.get(block, 0) | bit
            else:
                blocks[block] = touches + 1
        # Last to first, so that a prefix's first blocks are the last to go.
        # Through an array, which takes a list in a third less time than `extend` takes an iterator.
        shelf.touches.extend(array("Q", hashes[::-1]))
        if len(blocks) > self.max_blocks_per_pod or len(shelf.touches) - shelf.start > self._max_touches:
            self._make_room(shelf)
        return partial(self._take_back, shelf, hashes)

    def reseed(self, seed: int) -> None:
        """Another secret. The index must be empty: what was hashed with the one before would never be found."""
        self._seed = seed

    def newest(self, limit: int) -> Iterator[tuple[str, bytes]]:
        """For each pod up to `limit` blocks that were touched last, as 64-bit hashes for `record`, oldest piece first.

        No piece takes long here or there: of a pod's touches no more are looked at than so many blocks have room for.
        """
        for address, shelf in list(self._shelves.items()):
            start = max(shelf.start, len(shelf.touches) - TOUCHES_PER_BLOCK * limit)
            held = filter(shelf.blocks.__contains__, reversed(shelf.touches[start:]))
            # Newest first, which is how `record` takes them: a prefix's first block is touched last.
            newest = array("Q", islice(dict.fromkeys(held), limit))
            for piece in range((len(newest) - 1) // PIECE * PIECE, -1, -PIECE):
                yield address, newest[piece : piece + PIECE].tobytes()

    def forget(self, address: str) -> None:
        """The pod is gone or empty: drops all that it held, in time proportional to that."""
        shelf = self._shelves.pop(address, None)
        if shelf is None:
            return
        for block in shelf.blocks:
            self._drop(block, shelf.bit)
        # A note that is taken back later finds an empty shelf and does nothing to the slot's next pod.
        shelf.blocks = {}
        self._free.append(shelf.slot)
        self._version += 1

    def _make_room(self, shelf: _Shelf) -> None:
        blocks, bit, holders, touches = shelf.blocks, shelf.bit, self._holders, shelf.touches
        excess = len(blocks) - self.max_blocks_per_pod
        start, end = shelf.start, len(touches)
        must = end - self._max_touches
        while excess > 0 or start < must:
            block = touches[start]
            start += 1
            count = blocks.get(block)
            if count is None:
                # Taken back.
                continue
            if count > 1:
                blocks[block] = count - 1
                continue
            del blocks[block]
            excess -= 1
            shard = holders[block & _SHARD]
            rest = shard[block] ^ bit
            if rest:
                shard[block] = rest
            else:
                del shard[block]
        if start > self.max_blocks_per_pod:
            # Moving what is left costs little when it is done once for so many touches.
            del touches[:start]
            start = 0
        shelf.start = start

    def _take_back(self, shelf: _Shelf, hashes: Sequence[int]) -> None:
        blocks = shelf.blocks
        for block in hashes:
            touches = blocks.get(block)
            if touches is None:
                continue
            if touches > 1:
                blocks[block] = touches - 1
            else:
                del blocks[block]
                self._drop(block, shelf.bit)

    def _drop(self, block: int, bit: int) -> None:
        shard = self._holders[block & _SHARD]
        rest = shard[block] ^ bit
        if rest:
            shard[block] = rest
        else:
            del shard[block]

    def _shelf(self, address: str) -> _Shelf:
        if self._free:
            slot = self._free.pop()
        else:
            slot = self._slots
            self._slots += 1
        shelf = self._shelves[address] = _Shelf(slot)
        self._version += 1
        return shelf

    def _slot_of_rows(self, pods: Snapshot) -> npt.NDArray[np.intp]:
        known = pods.derived.get(self)
        if known is None or known[0] != self._version:
            shelves = self._shelves
            slots = [shelves[pod.address].slot if pod.address in shelves else -1 for pod in pods.pods]
            known = pods.derived[self] = (self._version, np.array(slots, np.intp))
        rows: npt.NDArray[np.intp] = known[1]
        return rows
