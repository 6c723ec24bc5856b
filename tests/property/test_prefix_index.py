"""The prefix index against a model of it that is too simple to be wrong."""

from collections import Counter
from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from support.snapshots import P, address, snapshot

from scheduler.prefix import TOUCHES_PER_BLOCK, PrefixIndex
from scheduler.types import Prompt, Snapshot

PODS = 20
CAPACITY = 7
MAX_BLOCKS = 5

texts = st.text("ab", max_size=7)
rows = st.integers(0, PODS - 1)


class Shelf:
    """Prefixes of one pod, three times over: the rule to the letter, a plain LRU, and every pick that stands."""

    def __init__(self) -> None:
        self.touches: list[str] = []
        self.held: Counter[str] = Counter()
        #: Least recently touched first; the same as `held` while nothing was taken back and touches are few.
        self.lru: list[str] = []
        self.plain = True
        self.standing: list[str] = []

    def record(self, prompt: str) -> None:
        for prefix in reversed(prefixes(prompt)):
            self.touches.append(prefix)
            self.held[prefix] += 1
            if prefix in self.lru:
                self.lru.remove(prefix)
            self.lru.append(prefix)
        del self.lru[:-CAPACITY]
        self.plain = self.plain and len(self.touches) <= TOUCHES_PER_BLOCK * CAPACITY
        while len(self.held) > CAPACITY or len(self.touches) > TOUCHES_PER_BLOCK * CAPACITY:
            self._lower(self.touches.pop(0))
        self.standing.append(prompt)

    def take_back(self, prompt: str) -> None:
        for prefix in prefixes(prompt):
            self._lower(prefix)
            self.plain = False
        self.standing.remove(prompt)

    def check(self) -> None:
        if self.plain:
            assert set(self.held) == set(self.lru)
        # Never too much: whatever is claimed was sent, and stands.
        assert set(self.held) <= {prefix for prompt in self.standing for prefix in prefixes(prompt)}

    def longest(self, prompt: str) -> int:
        for length, prefix in enumerate(prefixes(prompt)):
            if prefix not in self.held:
                return length
        return len(prefixes(prompt))

    def _lower(self, prefix: str) -> None:
        if prefix in self.held:
            self.held[prefix] -= 1
            if not self.held[prefix]:
                del self.held[prefix]


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
        shelf.record(text)
        return self.index.record(self.hashes(text), address(row)), shelf, text

    @rule(text=texts)
    def record_everywhere(self, text: str) -> None:
        for row, shelf in enumerate(self.shelves):
            shelf.record(text)
            self.index.record(self.hashes(text), address(row))

    @rule(pick=consumes(picks))
    def take_back(self, pick: tuple[Callable[[], None], Shelf, str]) -> None:
        undo, shelf, text = pick
        undo()
        if shelf in self.shelves:
            shelf.take_back(text)

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
        for shelf in self.shelves:
            shelf.check()
        assert self.index.entries == sum(len(shelf.held) for shelf in self.shelves)
        assert self.index.hashes_known == len({prefix for shelf in self.shelves for prefix in shelf.held})

    @invariant()
    def common_prompts(self) -> None:
        for text in ("aaaaa", "abaab"):
            self.check(text, self.pods)

    def check(self, text: str, pods: Snapshot) -> None:
        chain = self.hashes(text)
        wanted = [shelf.longest(text) / max(len(chain), 1) for shelf in self.shelves]
        assert self.index.match(chain, pods).tolist() == wanted


Machine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestPrefixIndex = Machine.TestCase
