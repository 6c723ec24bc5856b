# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""Which pod holds which prefix: an exact index of the blocks of prompts that were sent to each pod.

A prompt's head is cut into blocks of `block_size` bytes, and each block's hash is seeded by the hash of the block
before it, so that a hash names a whole prefix. The first is seeded by the model (or LoRA adapter) and a secret, so that
models never match each other and nobody can prepare collisions. A tail shorter than a block is not hashed.

What is seen again and again is the beginning of a prompt, so that hashes go by *units* of up to `UNIT` blocks, counted
from the first; the last one of a prompt has what is left. The hash of its last block names a unit, and all before it.
A prompt is matched block by block all the same: one dictionary says for each block which pods hold it, as a bit mask of
pod slots. A pod holds the blocks of its units, and forgets whole units, the one that was touched least recently first,
to have no more than `max_blocks_per_pod` blocks. A prompt's units are touched last to first, so that a short prefix
outlives its extensions.

Memory, measured with CPython 3.11 and full LRUs of 50,000 blocks (`bench/prefix_soak.py`): 120 bytes an entry at 8 pods
and 147 at 64, where no two pods share a block (0.47 GB for the 64), 20 to 23 at 64 where all do.
"""

from array import array
from collections.abc import Callable, Container, Iterator, Sequence
from functools import partial
from struct import iter_unpack, pack
from sys import byteorder

import numpy as np
from xxhash import xxh3_64_intdigest

from scheduler.types import FloatArray, Prompt, Snapshot

#: Hashes of blocks that follow each other, at least one.
Unit = tuple[int, ...]

#: Blocks of a unit. More make long prompts cheaper and short ones, whose last unit is most of them, dearer.
UNIT = 16
#: Units that a pod has room for at the least, where that takes smaller ones: what goes at once is a small part of it.
UNITS_PER_POD = 64
#: Touches remembered per unit that a pod has room for, and at the least one per block. Bounds the memory of a pod whose
#: traffic touches the same few units again and again: what was not touched in all that time goes, room or not.
TOUCHES_PER_UNIT = 4
#: Units whose hashes are remembered by their text, in each of two generations: the beginnings of a thousand long
#: conversations. 4.3 MB a generation at the most.
REMEMBERED = 4096
#: From so many pods on, numpy looks at all at once (some 3 us a call) instead of Python at one by one (0.2 us each).
_MANY = 16
#: Blocks of a pod that another process is told of at once: less than a millisecond of its time.
PIECE = 2_500
#: Dictionaries that the hashes are spread over, by their low bits. A dictionary that entries come to and go from is
#: copied now and then: of 3.2 million entries in one that took 190 ms, for which every request waited.
SHARDS = 64
_SHARD = SHARDS - 1
#: Bytes of a hash.
_HASH = 8


class _Shelf:
    """What one pod holds.

    `touches` is every touch of a unit in its order, by name, old ones first, from `start` on; `picks` counts for each
    unit held how many of its touches are in there. The oldest touch is taken off to make room; a unit goes with its
    last one. That is an LRU without links: less memory than an OrderedDict. Blocks are held by their bits in the index;
    `more` counts the units beside the first that hold a block, for blocks behind which prompts go separate ways.

    Nothing of this is anything for the garbage collector, which would stop all for as long as it looks at each unit.
    """

    __slots__ = ("bit", "blocks", "more", "picks", "slot", "start", "touches", "units")

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.bit = 1 << slot
        #: Different blocks held.
        self.blocks = 0
        #: The blocks of each unit, as 64-bit numbers.
        self.units: dict[int, bytes] = {}
        self.picks: dict[int, int] = {}
        self.more: dict[int, int] = {}
        self.touches = array("Q")
        self.start = 0


class _Rows:
    """Slots of the pods of a snapshot, as of a version of the index: -1 for a pod that holds nothing.

    For few pods their bits instead, 0 for none: then a look at each is cheaper than numpy's calls.
    """

    __slots__ = ("bits", "slots", "version")

    def __init__(self, version: int, slots: list[int]) -> None:
        self.version = version
        few = len(slots) < _MANY
        self.bits = [1 << slot if slot >= 0 else 0 for slot in slots] if few else []
        self.slots = np.array([] if few else slots, np.intp)


class PrefixIndex:
    """Prefixes by pod. One thread only."""

    def __init__(
        self,
        *,
        block_size: int,
        max_blocks: int,
        max_blocks_per_pod: int,
        seed: int,
        remembered: int = REMEMBERED,
        piece: int = PIECE,
    ) -> None:
        """Makes an empty index.

        Args:
            block_size: bytes of text that one hash covers.
            max_blocks: blocks of a prompt's head that are looked at.
            max_blocks_per_pod: blocks remembered per pod.
            seed: secret of 64 bits; equal seeds make equal hashes.
            remembered: units whose hashes are remembered by their text, in each of two generations.
            piece: blocks of a pod that another process is told of at once.
        """
        self.block_size = block_size
        self.max_blocks = max_blocks
        self.max_blocks_per_pod = max_blocks_per_pod
        #: Blocks of a unit.
        self.unit = min(max(max_blocks_per_pod // UNITS_PER_POD, 1), UNIT)
        self._max_touches = max(TOUCHES_PER_UNIT * max_blocks_per_pod // self.unit, max_blocks_per_pod)
        self._seed = seed
        self._remembered = remembered
        self._piece = piece
        self._format = f"{block_size}s"
        #: Units by the hash of their text, which is seeded by the hash of the block before it.
        self._seen: dict[int, Unit] = {}
        self._seen_before: dict[int, Unit] = {}
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
        return sum(shelf.blocks for shelf in self._shelves.values())

    @property
    def hashes_known(self) -> int:
        """Different blocks held by any pod."""
        return sum(map(len, self._holders))

    def hashes(self, model: str, prompt: Prompt) -> tuple[list[Unit], float]:
        """Hashes of the prompt's full blocks, in units, and the share (0-1) of the prompt's text that they cover."""
        size = self.block_size
        limit = size * self.max_blocks
        head = prompt.head(limit)
        total = len(head)
        hashed = total - total % size
        if not hashed:
            return [], 0.0
        last = xxh3_64_intdigest(model.encode("utf-8", "surrogatepass"), self._seed)
        units: list[Unit] = []
        seen = self._seen.get
        step = size * self.unit
        start = 0
        while start + step <= hashed:
            text = head[start : start + step]
            start += step
            # Seeded like the blocks' own hashes, and as hard to guess.
            key = xxh3_64_intdigest(text, last)
            unit = seen(key)
            if unit is None:
                unit = self._seen_before.get(key) or self._hash(text, last)
                if len(self._seen) >= self._remembered:
                    self._seen_before, self._seen = self._seen, {}
                self._seen[key] = unit
            units.append(unit)
            last = unit[-1]
        if start < hashed:
            units.append(self._hash(head[start:hashed], last))
        span = hashed / total
        if total == limit:
            # Cut off: the rest is counted in characters, as the prompt's length is.
            characters = total if head.isascii() else len(head.decode("utf-8", "ignore"))
            span *= min(characters / prompt.length, 1.0)
        return units, span

    def match(self, units: list[Unit], pods: Snapshot) -> FloatArray:
        """The longest prefix that each pod holds without a gap from block 0, as share (0-1) of all blocks of `units`.

        Of each unit only the last block is looked at, and others only to find where pods drop out: who holds a block
        holds those before it, as prompts are touched last to first. There are gaps where notes were taken back of which
        touches were forgotten, or still are to be; and until all pieces of what another process tells have come. Blocks
        in a gap may then count, which is true: a pod that holds a block was sent all before it. The first block must be
        held, and the last that counts.
        """
        holders = self._holders
        first = units[0][0] if units else 0
        alive = holders[first & _SHARD].get(first, 0)
        if not (units and alive):
            return np.zeros(len(pods))
        count = len(units[0]) * (len(units) - 1) + len(units[-1])
        # Which slots drop out together, and their share.
        found: list[tuple[int, float]] = []
        before = 0
        for unit in units:
            last = unit[-1]
            mask = holders[last & _SHARD].get(last, 0) & alive
            # Pods drop out in this unit: each time round finds by bisection the first block that some of them lack.
            low = 0
            while mask != alive:
                high = len(unit) - 1
                rest = mask
                while low < high:
                    middle = (low + high) >> 1
                    block = unit[middle]
                    here = holders[block & _SHARD].get(block, 0) & alive
                    if here == alive:
                        low = middle + 1
                    else:
                        high = middle
                        rest = here
                found.append((alive ^ rest, (before + low) / count))
                alive = rest
                mask &= rest
                low += 1
            if not alive:
                break
            before += len(unit)
        else:
            found.append((alive, 1.0))
        return self._shares(found, pods)

    def record(self, units: Sequence[Unit], address: str) -> Callable[[], None]:
        """Notes that a pod is to hold these units. Call the answer to take the note back.

        A unit stays for as long as any pick vouches for it that is remembered and was not taken back: what another
        pick relies on, earlier or later, is not lost. Where touches were forgotten in the meantime, a unit may go
        early: the index then claims too little, never too much.
        """
        shelf = self._shelves.get(address) or self._shelf(address)
        picks = shelf.picks
        known = picks.get
        names = []
        # Last to first, so that a prefix's first blocks are the last to go.
        for unit in reversed(units):
            name = unit[-1]
            names.append(name)
            count = known(name)
            if count is None:
                self._add(shelf, name, unit)
            else:
                picks[name] = count + 1
        # Through an array, which takes a list in a third less time than `extend` takes an iterator.
        shelf.touches.extend(array("Q", names))
        if shelf.blocks > self.max_blocks_per_pod or len(shelf.touches) - shelf.start > self._max_touches:
            self._make_room(shelf)
        # Names alone: whoever may call this later keeps it, long after the units have gone.
        return partial(self._take_back, shelf, names)

    def record_packed(self, data: bytes, address: str) -> Callable[[], None]:
        """`record` of what another process packed.

        Raises:
            ValueError: it is no such thing; nothing was noted.
        """
        shelf = self._shelves.get(address)
        known: Container[int] = () if shelf is None else shelf.picks
        numbers = array("Q", data)
        units: list[Unit] = []
        start, total = 0, len(numbers)
        while start < total:
            end = start + numbers[start]
            if not start < end < total:
                raise ValueError("a unit of blocks that is empty or cut off")
            name = numbers[end]
            # Of a unit that the pod holds no more is needed than the name.
            units.append((name,) if name in known else tuple(numbers[start + 1 : end + 1]))
            start = end + 1
        return self.record(units, address)

    def reseed(self, seed: int) -> None:
        """Another secret. Drops all that is held: what was hashed with the one before would never be found."""
        for address in list(self._shelves):
            self.forget(address)
        self._seed = seed
        self._seen, self._seen_before = {}, {}

    def newest(self, limit: int) -> Iterator[tuple[str, bytes]]:
        """For each pod the units that were touched last, of up to `limit` blocks, for `record_packed`.

        Oldest piece first. No piece takes long here or there: of a pod's touches no more are looked at than so many
        blocks have room for.
        """
        for address, shelf in list(self._shelves.items()):
            start = max(shelf.start, len(shelf.touches) - TOUCHES_PER_UNIT * limit)
            held = filter(shelf.picks.__contains__, reversed(shelf.touches[start:]))
            # Newest first, which is how `record` takes them: a prefix's first block is touched last.
            pieces: list[list[bytes]] = []
            blocks = room = 0
            for name in dict.fromkeys(held):
                unit = shelf.units[name]
                size = len(unit) // _HASH
                blocks += size
                if blocks > limit:
                    break
                if size > room:
                    pieces.append([])
                    room = max(self._piece, size)
                pieces[-1].append(size.to_bytes(_HASH, byteorder) + unit)
                room -= size
            for piece in reversed(pieces):
                yield address, b"".join(piece)

    def forget(self, address: str) -> None:
        """The pod is gone or empty: drops all that it held, in time proportional to that."""
        shelf = self._shelves.pop(address, None)
        if shelf is None:
            return
        for name in shelf.picks:
            self._drop(shelf, name)
        # A note that is taken back later finds an empty shelf and does nothing to the slot's next pod.
        shelf.picks = {}
        self._free.append(shelf.slot)
        self._version += 1

    def _hash(self, text: bytes, last: int) -> Unit:
        return tuple([last := xxh3_64_intdigest(block, last) for (block,) in iter_unpack(self._format, text)])

    def _shares(self, found: list[tuple[int, float]], pods: Snapshot) -> FloatArray:
        """A share for each pod, of those for masks of slots; 0 where it is in none."""
        known = pods.derived.get(self)
        if known is None or known.version != self._version:
            shelves = self._shelves
            slots = [shelves[pod.address].slot if pod.address in shelves else -1 for pod in pods.pods]
            known = pods.derived[self] = _Rows(self._version, slots)
        bits: list[int] = known.bits
        if not bits:
            # One cell more than slots: -1, the slot of a pod that holds nothing, is always 0.
            shares = np.zeros(self._slots + 1)
            for mask, share in found:
                self._fill(shares, mask, share)
            return shares[known.slots]
        few: list[float] = []
        for bit in bits:
            for mask, share in found:
                if mask & bit:
                    few.append(share)
                    break
            else:
                few.append(0.0)
        return np.array(few)

    def _fill(self, shares: FloatArray, mask: int, share: float) -> None:
        """Sets the cells of the slots in `mask`."""
        if mask.bit_count() < _MANY:
            while mask:
                low = mask & -mask
                shares[low.bit_length() - 1] = share
                mask ^= low
        else:
            bits = np.frombuffer(mask.to_bytes((self._slots + 7) // 8, "little"), np.uint8)
            shares[:-1][np.unpackbits(bits, count=self._slots, bitorder="little").view(np.bool_)] = share

    def _make_room(self, shelf: _Shelf) -> None:
        touches = shelf.touches
        start = shelf.start
        must = len(touches) - self._max_touches
        while shelf.blocks > self.max_blocks_per_pod or start < must:
            self._lower(shelf, touches[start])
            start += 1
        if start > self.max_blocks_per_pod:
            # Moving what is left costs little when it is done once for so many touches.
            del touches[:start]
            start = 0
        shelf.start = start

    def _take_back(self, shelf: _Shelf, names: list[int]) -> None:
        for name in names:
            self._lower(shelf, name)

    def _lower(self, shelf: _Shelf, name: int) -> None:
        """One touch less, unless the unit has gone already."""
        picks = shelf.picks
        count = picks.get(name, 0)
        if count > 1:
            picks[name] = count - 1
        elif count:
            del picks[name]
            self._drop(shelf, name)

    def _add(self, shelf: _Shelf, name: int, unit: Unit) -> None:
        holders, bit, more = self._holders, shelf.bit, shelf.more
        shelf.picks[name] = 1
        shelf.units[name] = array("Q", unit).tobytes()
        blocks = len(unit)
        for block in unit:
            shard = holders[block & _SHARD]
            mask = shard.get(block, 0)
            if mask & bit:
                more[block] = more.get(block, 0) + 1
                blocks -= 1
            else:
                shard[block] = mask | bit
        shelf.blocks += blocks

    def _drop(self, shelf: _Shelf, name: int) -> None:
        holders, bit, more = self._holders, shelf.bit, shelf.more
        unit = array("Q", shelf.units.pop(name))
        blocks = len(unit)
        for block in unit:
            others = more.get(block)
            if others is None:
                shard = holders[block & _SHARD]
                rest = shard[block] ^ bit
                if rest:
                    shard[block] = rest
                else:
                    del shard[block]
            else:
                blocks -= 1
                if others > 1:
                    more[block] = others - 1
                else:
                    del more[block]
        shelf.blocks -= blocks

    def _shelf(self, address: str) -> _Shelf:
        if self._free:
            slot = self._free.pop()
        else:
            slot = self._slots
            self._slots += 1
        shelf = self._shelves[address] = _Shelf(slot)
        self._version += 1
        return shelf


def packed(units: Sequence[Unit]) -> bytes:
    """Units for another process of this machine: of each how many blocks, then their hashes, as 64-bit numbers."""
    numbers: list[int] = []
    for unit in units:
        numbers.append(len(unit))
        numbers += unit
    # `struct` takes them in two thirds of an array's time.
    return pack(f"={len(numbers)}Q", *numbers)
