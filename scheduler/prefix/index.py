# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""Which pod holds which prefix: an exact index of the blocks of prompts that were sent to each pod.

A prompt is cut into blocks, and each block's hash is seeded by the hash of the block before it, so that a hash names a
whole prefix. The first is seeded by the model (or LoRA adapter) and a secret, so that models never match each other and
nobody can prepare collisions. The first `max_blocks` blocks are of `block_size` bytes; behind them a block is of
`1/COARSE` of what comes before it, to the prompt's end: what a match may be short of is a small share of the prompt,
and their number grows with its logarithm. A tail shorter than a block is not hashed.

What is seen again and again is the beginning of a prompt, so that hashes go by *units* of up to `UNIT` blocks, counted
from the first; the last one of a prompt has what is left. The hash of its last block names a unit, and all before it.
A prompt is matched block by block all the same: one dictionary has for each block which pods hold it, as a bit mask of
pod slots. Most units are never shared in part. So a unit is *folded* at first: of its blocks only the first and the
last are in the dictionary. It is unfolded when another unit begins with the same block, or a prompt that ends within it
is looked for; both happen once in a unit's life.

A pod holds the blocks of its units, and forgets whole units, the one that was touched least recently first, to have no
more than `max_blocks_per_pod` blocks of the prompts' heads and no more text than its KV cache has room for. A prompt's
units are touched last to first, so that a short prefix outlives its extensions.

Other processes receive units, not blocks: of a unit that the pod held before, its name (`Note`).
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from scheduler.prefix.hasher import REMEMBERED, Hasher
from scheduler.prefix.unit import HASH, UNIT, Unit, blocks_of, size_of
from scheduler.types import FloatArray, Snapshot

#: Units that a pod has room for at the least, where that takes smaller ones: what goes at once is a small part of it.
UNITS_PER_POD = 64
#: Blocks of prompts' heads per pod where neither the configuration nor the engine gives the number.
BLOCKS_PER_POD = 50_000
#: Bytes of text per pod where the engine does not report the size of its KV cache: about a million tokens.
TEXT_PER_POD = 4 << 20
#: The most blocks of a pod, whatever its engine reports: 50 MB of memory.
MOST_BLOCKS = 1_000_000
#: Touches remembered per unit that a pod has room for, and at the least one per block. Bounds the memory of a pod whose
#: traffic touches the same few units again and again: what was not touched in all that time goes, room or not.
TOUCHES_PER_UNIT = 4
#: From so many pods on, numpy looks at all at once (some 3 us a call) instead of Python at one by one (0.2 us each).
_MANY = 16
#: Blocks of a pod sent to another process at once: less than a millisecond of its time.
PIECE = 10_000
#: Dictionaries that the hashes are spread over, by their low bits. A dictionary that entries come to and go from is
#: copied now and then: of 3.2 million entries in one that took 190 ms, for which every request waited.
SHARDS = 64
_SHARD = SHARDS - 1
#: Blocks of the least unit that is worth folding: one that has others than its first and its last.
_FOLDED = 3


class _Shelf:
    """The units that one pod holds.

    `touches` is every touch of a unit in its order, by name, old ones first, from `start` on; `picks` counts for each
    unit held how many of its touches are in there. The oldest touch is taken off to make room; a unit goes with its
    last one. That is an LRU without links: less memory than an OrderedDict. Blocks are held by their bits in the index;
    `more` counts the units beside the first that hold a block, for blocks behind which prompts go separate ways.

    Nothing of this is anything for the garbage collector, which would stop all for as long as it looks at each unit.
    """

    __slots__ = (
        "bit", "blocks", "fine", "max_fine", "max_text", "max_touches", "more", "picks", "slot", "start", "text",
        "touches", "units",
    )  # fmt: skip

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.bit = 1 << slot
        #: Different blocks held, those of them that are of a prompt's head, and the bytes of text of all.
        self.blocks = 0
        self.fine = 0
        self.text = 0
        #: Bounds.
        self.max_fine = 0
        self.max_text = 0
        self.max_touches = 0
        #: `Unit.data` of each unit.
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
        max_blocks_per_pod: int | None = None,
        seed: int,
        remembered: int = REMEMBERED,
        piece: int = PIECE,
    ) -> None:
        """Makes an empty index.

        Args:
            block_size: bytes of text that one hash of a prompt's head covers.
            max_blocks: blocks of the head.
            max_blocks_per_pod: blocks of heads remembered per pod; None: as many as its KV cache has room for, or
                `BLOCKS_PER_POD` where that is not known.
            seed: secret of 64 bits; equal seeds make equal hashes.
            remembered: units whose hashes are remembered by their text, in each of two generations.
            piece: blocks of a pod sent to another process at once.
        """
        self.block_size = block_size
        self.max_blocks = max_blocks
        self.max_blocks_per_pod = max_blocks_per_pod
        self._fine = BLOCKS_PER_POD if max_blocks_per_pod is None else max_blocks_per_pod
        #: Blocks of a unit.
        self.unit = min(max(self._fine // UNITS_PER_POD, 1), UNIT)
        self.hasher = Hasher(
            block_size=block_size, max_blocks=max_blocks, unit=self.unit, seed=seed, remembered=remembered
        )
        self._piece = piece
        self._holders: list[dict[int, int]] = [{} for _ in range(SHARDS)]
        #: Names of folded units by their first block. A pod that holds the one holds the other.
        self._folded: dict[int, int] = {}
        #: Blocks of folded units that are not in the dictionaries.
        self._inner = 0
        self._shelves: dict[str, _Shelf] = {}
        #: By slot. Who has none there is not asked for.
        self._by_slot: list[_Shelf] = []
        #: Bytes of text that a pod's KV cache has room for, by its address.
        self._rooms: dict[str, int] = {}
        self._free: list[int] = []
        #: Slots ever handed out.
        self._slots = 0
        #: Goes up whenever a pod gets or loses its slot.
        self._version = 0

    @property
    def entries(self) -> int:
        """Blocks held, summed over pods."""
        return sum([shelf.blocks for shelf in self._shelves.values()])

    @property
    def hashes_known(self) -> int:
        """Different blocks held by any pod."""
        return sum([len(shard) for shard in self._holders]) + self._inner

    def set_room(self, address: str, text: int) -> None:
        """A pod's KV cache has room for so many bytes of text; 0: that is not known."""
        if self._rooms.get(address, 0) == text:
            return
        if text:
            self._rooms[address] = text
        else:
            del self._rooms[address]
        shelf = self._shelves.get(address)
        if shelf is not None:
            self._bound(shelf, text)
            self._make_room(shelf)

    def match(self, units: list[Unit], pods: Snapshot) -> FloatArray:
        """The longest prefix that each pod holds without a gap from block 0, as share (0-1) of the text of `units`.

        Of each unit only the last block is looked at, and others only to find where pods drop out: who holds a block
        holds those before it, as prompts are touched last to first. There are gaps where notes were taken back of which
        touches were forgotten, or still are to be; and until all pieces that another process sends have come. Blocks
        in a gap may then count, which is true: a pod that holds a block was sent all before it. The first block must be
        held, and the last that counts.
        """
        holders = self._holders
        first = units[0].first if units else 0
        alive = holders[first & _SHARD].get(first, 0)
        if not (units and alive):
            return np.zeros(len(pods))
        # Which slots drop out together, and the bytes of text that they hold.
        found: list[tuple[int, int]] = []
        before = 0
        for unit in units:
            last = unit.name
            mask = holders[last & _SHARD].get(last, 0) & alive
            if mask != alive:
                folded = self._folded.get(unit.first)
                if folded is None:
                    alive = self._parting(unit, alive, mask, before, found)
                elif folded == last:
                    # No other unit begins like it: a pod holds either all of it or nothing.
                    found.append((alive ^ mask, before))
                    alive = mask
                else:
                    self._unfold(unit.first, folded)
                    mask = holders[last & _SHARD].get(last, 0) & alive
                    alive = self._parting(unit, alive, mask, before, found)
                if not alive:
                    break
            before += unit.size * unit.count
        else:
            found.append((alive, before))
        total = 0
        for unit in units:
            total += unit.size * unit.count
        return self._shares([(mask, held / total) for mask, held in found], pods)

    def _parting(self, unit: Unit, alive: int, mask: int, before: int, found: list[tuple[int, int]]) -> int:
        """Finds where pods drop out within a unit; those of `mask` hold it all. Returns who is left."""
        holders, blocks, size = self._holders, unit.blocks, unit.size
        low = 0
        # Each time round finds by bisection the first block that some of them lack.
        while mask != alive:
            high = len(blocks) - 1
            rest = mask
            while low < high:
                middle = (low + high) >> 1
                block = blocks[middle]
                here = holders[block & _SHARD].get(block, 0) & alive
                if here == alive:
                    low = middle + 1
                else:
                    high = middle
                    rest = here
            found.append((alive ^ rest, before + low * size))
            alive = rest
            mask &= rest
            low += 1
        return alive

    def record(self, units: Sequence[Unit], address: str) -> Callable[[], None]:
        """Notes that a pod is to hold these units. Call the answer to take the note back.

        A unit stays for as long as any pick vouches for it that is remembered and was not taken back: what another
        pick relies on, earlier or later, is not lost. Where touches were forgotten in the meantime, a unit may go
        early: the index then claims too little, never too much.
        """
        shelf = self._shelves.get(address) or self._shelf(address)
        picks = shelf.picks
        names: list[int] = []
        # Last to first, so that a prefix's first blocks are the last to go.
        for unit in reversed(units):
            name = unit.name
            names.append(name)
            count = picks.get(name)
            if count is None:
                self._add(shelf, unit)
            else:
                picks[name] = count + 1
        return self._touched(shelf, names)

    def news(self, units: Sequence[Unit], address: str) -> bytes:
        """The note by which another process does what `record` is about to do here: see `record_note`.

        A note is one unit after the other, the prompt's last one first. A unit that the pod does not hold yet is the
        number of its blocks and its `data`; one that it holds is a 0 and its name. Numbers are of 64 bits, the low byte
        first.
        """
        shelf = self._shelves.get(address)
        parts: list[bytes] = []
        for unit in reversed(units):
            if shelf is None or unit.name not in shelf.picks:
                parts.append(unit.count.to_bytes(HASH, "little"))
                parts.append(unit.data)
            else:
                parts.append(_KNOWN)
                parts.append(unit.data[-HASH:])
        return b"".join(parts)

    def record_note(self, note: bytes, address: str) -> Callable[[], None]:
        """`record` of a note of another process. Units that the note takes for known and are unknown here are left out.

        Raises:
            ValueError: the argument is no note; nothing was noted.
        """
        found: list[tuple[int, int]] = []
        at, total = 0, len(note)
        while at < total:
            count = int.from_bytes(note[at : at + HASH], "little")
            start = at + HASH
            at = start + (count + 1) * HASH
            if at > total or (count and note[start : start + HASH] == _KNOWN):
                raise ValueError("a unit of blocks that is empty or cut off")
            found.append((start, at))
        shelf = self._shelves.get(address) or self._shelf(address)
        picks = shelf.picks
        names: list[int] = []
        for start, end in found:
            name = int.from_bytes(note[end - HASH : end], "little")
            known = picks.get(name)
            if known is not None:
                picks[name] = known + 1
            elif end - start > HASH:
                first = int.from_bytes(note[start + HASH : start + 2 * HASH], "little")
                self._add_told(shelf, name, first, note[start:end])
            else:
                continue
            names.append(name)
        return self._touched(shelf, names)

    def reseed(self, seed: int) -> None:
        """Another secret. Drops all that is held: what was hashed with the one before would never be found."""
        for address in list(self._shelves):
            self.forget(address)
        self.hasher.reseed(seed)

    def newest(self, limit: int) -> Iterator[tuple[str, bytes]]:
        """For each pod the units that were touched last, of up to `limit` blocks, as notes.

        Oldest piece first. No piece takes long here or there: of a pod's touches no more are looked at than so many
        blocks have room for.
        """
        for address, shelf in list(self._shelves.items()):
            start = max(shelf.start, len(shelf.touches) - TOUCHES_PER_UNIT * limit)
            held = filter(shelf.picks.__contains__, reversed(shelf.touches[start:]))
            # Newest first; a note is oldest first, as a prefix's first block is touched last.
            pieces: list[list[bytes]] = []
            blocks = room = 0
            for name in dict.fromkeys(held):
                unit = shelf.units[name]
                size = len(unit) // HASH - 1
                blocks += size
                if blocks > limit:
                    break
                if size > room:
                    pieces.append([])
                    room = max(self._piece, size)
                pieces[-1].append(size.to_bytes(HASH, "little") + unit)
                room -= size
            for piece in reversed(pieces):
                yield address, b"".join(reversed(piece))

    def forget(self, address: str) -> None:
        """The pod is gone or empty: drops all that it held, in time proportional to that."""
        self._rooms.pop(address, None)
        shelf = self._shelves.pop(address, None)
        if shelf is None:
            return
        for name in shelf.picks:
            self._drop(shelf, name)
        # A note that is taken back later finds an empty shelf and does nothing to the slot's next pod.
        shelf.picks = {}
        self._free.append(shelf.slot)
        self._version += 1

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

    def _touched(self, shelf: _Shelf, names: list[int]) -> Callable[[], None]:
        # Through an array, which takes a list in a third less time than `extend` takes an iterator.
        shelf.touches.extend(array("Q", names))
        if (
            shelf.fine > shelf.max_fine
            or shelf.text > shelf.max_text
            or len(shelf.touches) - shelf.start > shelf.max_touches
        ):
            self._make_room(shelf)
        # Names alone: the caller keeps this function, long after the units have gone.
        return partial(self._take_back, shelf, names)

    def _bound(self, shelf: _Shelf, room: int) -> None:
        """Sets the bounds of a shelf, by the bytes of text that its pod has room for; 0: unknown."""
        if self.max_blocks_per_pod is not None or not room:
            shelf.max_fine = self._fine
            # The configured number of blocks of heads is not cut short where the size of the cache is unknown.
            shelf.max_text = room or max(TEXT_PER_POD, self._fine * self.block_size)
        else:
            shelf.max_fine = min(room // self.block_size + 1, MOST_BLOCKS)
            shelf.max_text = room
        shelf.max_touches = max(TOUCHES_PER_UNIT * shelf.max_fine // self.unit, shelf.max_fine)

    def _make_room(self, shelf: _Shelf) -> None:
        touches = shelf.touches
        start = shelf.start
        must = len(touches) - shelf.max_touches
        while start < len(touches) and (shelf.fine > shelf.max_fine or shelf.text > shelf.max_text or start < must):
            self._lower(shelf, touches[start])
            start += 1
        if start > shelf.max_fine:
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

    def _add(self, shelf: _Shelf, unit: Unit) -> None:
        shelf.picks[unit.name] = 1
        shelf.units[unit.name] = unit.data
        if self._fold(unit.name, unit.first, unit.count):
            held = unit.count - 2 + self._hold(shelf, unit.first) + self._hold(shelf, unit.name)
        else:
            held = self._hold_all(shelf, unit.blocks)
        self._count(shelf, unit.size, held)

    def _add_told(self, shelf: _Shelf, name: int, first: int, data: bytes) -> None:
        shelf.picks[name] = 1
        shelf.units[name] = data
        count = len(data) // HASH - 1
        if self._fold(name, first, count):
            held = count - 2 + self._hold(shelf, first) + self._hold(shelf, name)
        else:
            held = self._hold_all(shelf, blocks_of(data))
        self._count(shelf, size_of(data), held)

    def _fold(self, name: int, first: int, count: int) -> bool:
        """Whether a unit that a pod gets is folded."""
        folded = self._folded.get(first)
        if folded == name:
            return True
        if folded is not None:
            self._unfold(first, folded)
            return False
        if count < _FOLDED or first == name or first in self._holders[first & _SHARD]:
            return False
        self._folded[first] = name
        self._inner += count - 2
        return True

    def _drop(self, shelf: _Shelf, name: int) -> None:
        data = shelf.units.pop(name)
        first = int.from_bytes(data[HASH : 2 * HASH], "little")
        if self._folded.get(first) == name:
            inner = len(data) // HASH - 3
            gone = inner + self._let_go(shelf, first) + self._let_go(shelf, name)
            if name not in self._holders[name & _SHARD]:
                del self._folded[first]
                self._inner -= inner
        else:
            gone = 0
            for block in blocks_of(data):
                gone += self._let_go(shelf, block)
        self._count(shelf, size_of(data), -gone)

    def _unfold(self, first: int, name: int) -> None:
        """Puts all blocks of a unit into the dictionaries, for each pod that holds it."""
        del self._folded[first]
        mask = self._holders[name & _SHARD].get(name, 0)
        inner: list[int] = []
        while mask:
            low = mask & -mask
            mask ^= low
            shelf = self._by_slot[low.bit_length() - 1]
            data = shelf.units.get(name)
            if data is None:
                continue
            if not inner:
                inner = blocks_of(data)[1:-1]
                self._inner -= len(inner)
            self._count(shelf, size_of(data), self._hold_all(shelf, inner) - len(inner))

    def _hold_all(self, shelf: _Shelf, blocks: list[int]) -> int:
        """A unit holds these blocks. Returns how many of them no other of the pod's does."""
        holders, bit, more = self._holders, shelf.bit, shelf.more
        held = len(blocks)
        for block in blocks:
            shard = holders[block & _SHARD]
            mask = shard.get(block, 0)
            if mask & bit:
                more[block] = more.get(block, 0) + 1
                held -= 1
            else:
                shard[block] = mask | bit
        return held

    def _hold(self, shelf: _Shelf, block: int) -> int:
        """As `_hold_all`, of one."""
        shard = self._holders[block & _SHARD]
        mask = shard.get(block, 0)
        if mask & shelf.bit:
            shelf.more[block] = shelf.more.get(block, 0) + 1
            return 0
        shard[block] = mask | shelf.bit
        return 1

    def _let_go(self, shelf: _Shelf, block: int) -> int:
        """A unit holds a block no more. Returns 1 if no other of the pod's does."""
        others = shelf.more.get(block)
        if others is not None:
            if others > 1:
                shelf.more[block] = others - 1
            else:
                del shelf.more[block]
            return 0
        shard = self._holders[block & _SHARD]
        rest = shard[block] ^ shelf.bit
        if rest:
            shard[block] = rest
        else:
            del shard[block]
        return 1

    def _count(self, shelf: _Shelf, size: int, blocks: int) -> None:
        """So many blocks more, of so many bytes each."""
        shelf.blocks += blocks
        shelf.text += blocks * size
        if size == self.block_size:
            shelf.fine += blocks

    def _shelf(self, address: str) -> _Shelf:
        if self._free:
            slot = self._free.pop()
        else:
            slot = self._slots
            self._slots += 1
        shelf = self._shelves[address] = _Shelf(slot)
        if slot == len(self._by_slot):
            self._by_slot.append(shelf)
        else:
            self._by_slot[slot] = shelf
        self._bound(shelf, self._rooms.get(address, 0))
        self._version += 1
        return shelf


#: Marks the name of a unit that is known.
_KNOWN = bytes(HASH)
