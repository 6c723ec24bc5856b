"""The prefix index against a model of it that is too simple to be wrong."""

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from support.snapshots import P, address, snapshot

from scheduler.prefix import PrefixIndex
from scheduler.types import Prompt, Snapshot

PODS = 20
CAPACITY = 7
MAX_BLOCKS = 5

texts = st.text("ab", max_size=7)
rows = st.integers(0, PODS - 1)


class Shelf:
    """Prefixes of one pod, least recently touched first, each with the picks that vouch for it."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.vouchers: dict[str, int] = {}

    def record(self, prefixes: list[str]) -> None:
        for prefix in reversed(prefixes):
            if prefix in self.order:
                self.order.remove(prefix)
            self.order.append(prefix)
            self.vouchers[prefix] = self.vouchers.get(prefix, 0) + 1
        while len(self.order) > CAPACITY:
            del self.vouchers[self.order.pop(0)]

    def take_back(self, prefixes: list[str]) -> None:
        for prefix in prefixes:
            if prefix in self.vouchers:
                self.vouchers[prefix] -= 1
                if not self.vouchers[prefix]:
                    del self.vouchers[prefix]
                    self.order.remove(prefix)

    def longest(self, prefixes: list[str]) -> int:
        for length, prefix in enumerate(prefixes):
            if prefix not in self.order:
                return length
        return len(prefixes)


def prefixes(text: str) -> list[str]:
    return [text[: end + 1] for end in range(min(len(text), MAX_BLOCKS))]


class Machine(RuleBasedStateMachine):
    picks: Bundle[tuple[Callable[[], None], Shelf, str]] = Bundle("picks")

    def __init__(self) -> None:
        super().__init__()
        self.index = PrefixIndex(block_size=1, max_blocks=MAX_BLOCKS, max_blocks_per_pod=CAPACITY, seed=9)
        self.shelves = [Shelf() for _ in range(PODS)]
        self.pods = snapshot(*[P()] * PODS)

    def hashes(self, text: str) -> list[int]:
        return self.index.hashes("m", Prompt([text]))[0]

    @rule(target=picks, text=texts, row=rows)
    def record(self, text: str, row: int) -> tuple[Callable[[], None], Shelf, str]:
        shelf = self.shelves[row]
        shelf.record(prefixes(text))
        return self.index.record(self.hashes(text), address(row)), shelf, text

    @rule(text=texts)
    def record_everywhere(self, text: str) -> None:
        for row, shelf in enumerate(self.shelves):
            shelf.record(prefixes(text))
            self.index.record(self.hashes(text), address(row))

    @rule(pick=consumes(picks))
    def take_back(self, pick: tuple[Callable[[], None], Shelf, str]) -> None:
        undo, shelf, text = pick
        undo()
        if shelf in self.shelves:
            shelf.take_back(prefixes(text))

    @rule(row=rows)
    def forget(self, row: int) -> None:
        self.index.forget(address(row))
        self.shelves[row] = Shelf()

    @rule()
    def scrape(self) -> None:
        self.pods = snapshot(*[P()] * PODS)

    @rule(text=texts)
    def match(self, text: str) -> None:
        self.check(text, self.pods)

    @invariant()
    def counts(self) -> None:
        assert self.index.entries == sum(len(shelf.order) for shelf in self.shelves)
        assert self.index.hashes_known == len({prefix for shelf in self.shelves for prefix in shelf.order})

    @invariant()
    def common_prompts(self) -> None:
        for text in ("aaaaa", "abaab"):
            self.check(text, self.pods)

    def check(self, text: str, pods: Snapshot) -> None:
        chain = self.hashes(text)
        wanted = [shelf.longest(prefixes(text)) / max(len(chain), 1) for shelf in self.shelves]
        assert self.index.match(chain, pods).tolist() == wanted


Machine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestPrefixIndex = Machine.TestCase
