"""The prefix index against a model of it that is too simple to be wrong."""

from collections import Counter
from collections.abc import Callable, Iterable
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from support.snapshots import P, address, snapshot
from xxhash import xxh3_64_intdigest

from scheduler.prefix.index import TOUCHES_PER_UNIT, PrefixIndex
from scheduler.prefix.unit import Unit
from scheduler.types import Prompt

PODS = 20
CAPACITY = 7
MAX_BLOCKS = 8

texts = st.text("ab", max_size=MAX_BLOCKS + 1)
rows = st.integers(0, PODS - 1)


def note(units: list[Unit]) -> bytes:
    """What another process is told of units that it does not know."""
    return b"".join([unit.count.to_bytes(8, "little") + unit.data for unit in reversed(units)])


class Shelf:
    """Units of one pod by their text: the rule to the letter, a plain LRU, and every pick that stands."""

    def __init__(self, unit: int) -> None:
        self.unit = unit
        self.max_touches = max(TOUCHES_PER_UNIT * CAPACITY // unit, CAPACITY)
        self.touches: list[str] = []
        self.picks: Counter[str] = Counter()
        #: Least recently touched first; the same as `picks` while nothing was taken back and touches are few.
        self.lru: list[str] = []
        self.plain = True
        #: Nothing was taken back, or told without what comes before it.
        self.closed = True
        self.standing: list[list[str]] = []

    @property
    def held(self) -> set[str]:
        """Blocks, each by the text up to its end."""
        return self.blocks(self.picks)

    def blocks(self, units: Iterable[str]) -> set[str]:
        return {text[: end + 1] for text in units for end in range((len(text) - 1) // self.unit * self.unit, len(text))}

    def record(self, names: list[str]) -> None:
        for name in reversed(names):
            self.touches.append(name)
            self.picks[name] += 1
            if name in self.lru:
                self.lru.remove(name)
            self.lru.append(name)
        self.plain = self.plain and len(self.touches) <= self.max_touches
        while len(self.blocks(self.lru)) > CAPACITY:
            del self.lru[0]
        while len(self.held) > CAPACITY or len(self.touches) > self.max_touches:
            self._lower(self.touches.pop(0))
        self.standing.append(names)

    def take_back(self, names: list[str]) -> None:
        for name in names:
            self._lower(name)
            self.plain = self.closed = False
        self.standing.remove(names)

    def _lower(self, name: str) -> None:
        if name in self.picks:
            self.picks[name] -= 1
            if not self.picks[name]:
                del self.picks[name]

    def check(self) -> None:
        # Never too much: whatever is claimed was sent, and stands.
        assert self.held <= {prefix for names in self.standing for name in names for prefix in prefixes(name)}
        if self.plain:
            assert set(self.picks) == set(self.lru)
        if self.closed:
            assert all(prefix in self.held for held in self.held for prefix in prefixes(held))

    def check_match(self, prompt: str, blocks: float) -> None:
        flags = [prefix in self.held for prefix in prefixes(prompt)]
        gapless = [*flags, False].index(False)
        if gapless and True in flags[gapless:]:
            # What is there behind the gap was sent with all before it. It may be found, or not.
            assert blocks >= gapless
            assert flags[int(blocks) - 1]
        else:
            assert blocks == gapless


def prefixes(text: str) -> list[str]:
    return [text[: end + 1] for end in range(min(len(text), MAX_BLOCKS))]


class Machine(RuleBasedStateMachine):
    UNIT = 1
    picks: Bundle[tuple[Callable[[], None], Shelf, list[str]]] = Bundle("picks")

    def __init__(self) -> None:
        super().__init__()
        self.index = self.empty()
        self.shelves = [Shelf(self.UNIT) for _ in range(PODS)]
        self.pods = snapshot(*[P()] * PODS)

    def empty(self) -> PrefixIndex:
        with patch("scheduler.prefix.index.UNITS_PER_POD", CAPACITY // self.UNIT):
            index = PrefixIndex(block_size=1, max_blocks=MAX_BLOCKS, max_blocks_per_pod=CAPACITY, seed=9)
        assert index.unit == self.UNIT
        return index

    def hashes(self, text: str) -> list[Unit]:
        return self.index.hasher.hashes("m", Prompt([text]))[0]

    def units(self, text: str) -> list[str]:
        text = text[:MAX_BLOCKS]
        return [text[: start + self.UNIT] for start in range(0, len(text), self.UNIT)]

    @rule(target=picks, text=texts, row=rows)
    def record(self, text: str, row: int) -> tuple[Callable[[], None], Shelf, list[str]]:
        shelf, names = self.shelves[row], self.units(text)
        shelf.record(names)
        return self.index.record(self.hashes(text), address(row)), shelf, names

    @rule(target=picks, text=texts, row=rows, start=st.integers(0, 2))
    def told(self, text: str, row: int, start: int) -> tuple[Callable[[], None], Shelf, list[str]]:
        """By another process; what comes first in the prompt may come later, or never."""
        shelf, names = self.shelves[row], self.units(text)[start:]
        shelf.record(names)
        shelf.closed = shelf.closed and not start
        return self.index.record_note(note(self.hashes(text)[start:]), address(row)), shelf, names

    @rule(text=texts)
    def record_everywhere(self, text: str) -> None:
        for row, shelf in enumerate(self.shelves):
            shelf.record(self.units(text))
            self.index.record(self.hashes(text), address(row))

    @rule(pick=consumes(picks))
    def take_back(self, pick: tuple[Callable[[], None], Shelf, list[str]]) -> None:
        undo, shelf, names = pick
        undo()
        if shelf in self.shelves:
            shelf.take_back(names)

    @rule(row=rows)
    def forget(self, row: int) -> None:
        self.index.forget(address(row))
        self.shelves[row] = Shelf(self.UNIT)

    @rule()
    def scrape(self) -> None:
        self.pods = snapshot(*[P()] * PODS)

    @rule(text=texts)
    def match(self, text: str) -> None:
        self.check(self.index, text)

    @rule(texts=st.lists(texts, max_size=3))
    def a_newcomer_knows_as_much(self, texts: list[str]) -> None:
        newcomer = self.empty()
        for where, data in self.index.newest(1000):
            newcomer.record_note(data, where)
        assert (newcomer.entries, newcomer.hashes_known) == (self.index.entries, self.index.hashes_known)
        for text in texts:
            self.check(newcomer, text)

    @invariant()
    def counts(self) -> None:
        for shelf in self.shelves:
            shelf.check()
            assert len(shelf.held) <= CAPACITY
        assert self.index.entries == sum(len(shelf.held) for shelf in self.shelves)
        assert self.index.hashes_known == len({prefix for shelf in self.shelves for prefix in shelf.held})

    @invariant()
    def bookkeeping(self) -> None:
        for row, shelf in enumerate(self.shelves):
            of = self.index._shelves.get(address(row))
            if of is not None:
                assert of.picks == {self.hashes(text)[-1].name: count for text, count in shelf.picks.items()}
                assert of.units.keys() == of.picks.keys()
                assert sum(of.more.values()) + of.blocks == sum(len(unit) // 8 - 1 for unit in of.units.values())
                assert of.fine == of.text == of.blocks
                assert len(of.touches) - of.start == len(shelf.touches)
                assert len(of.touches) <= shelf.max_touches + CAPACITY

    @invariant()
    def common_prompts(self) -> None:
        for text in ("aaaaaaaa", "abaabbab"):
            self.check(self.index, text)

    def check(self, index: PrefixIndex, text: str) -> None:
        chain = self.hashes(text)
        for shelf, share in zip(self.shelves, index.match(chain, self.pods).tolist(), strict=True):
            shelf.check_match(text, round(share * sum(unit.count for unit in chain), 6))


class MachineOfUnits(Machine):
    UNIT = 3


Machine.TestCase.settings = MachineOfUnits.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestPrefixIndex = Machine.TestCase
TestPrefixIndexOfUnits = MachineOfUnits.TestCase


@given(
    prompts=st.lists(st.text("aé", max_size=20), max_size=30),
    block_size=st.integers(1, 3),
    unit=st.integers(1, 4),
    remembered=st.integers(1, 3),
)
def test_hashes_are_those_of_block_after_block(prompts: list[str], block_size: int, unit: int, remembered: int) -> None:
    index = PrefixIndex(
        block_size=block_size, max_blocks=64, max_blocks_per_pod=64 * unit, seed=7, remembered=remembered
    )
    assert index.unit == unit
    for prompt in prompts:
        text = prompt.encode()
        last, wanted = xxh3_64_intdigest(b"m", 7), []
        for end in range(block_size, len(text) + 1, block_size):
            last = xxh3_64_intdigest(text[end - block_size : end], last)
            wanted.append(last)
        units, _ = index.hasher.hashes("m", Prompt([prompt]))
        assert [block for one in units for block in one.blocks] == wanted
        assert all(one.count == unit for one in units[:-1])
        assert all(0 < one.count <= unit for one in units)
        assert all((one.first, one.name) == (one.blocks[0], one.blocks[-1]) for one in units)
        assert max(len(index.hasher._seen), len(index.hasher._seen_before)) <= remembered
