"""Bodies that wait to become whole: the bound, and that somebody can always go on."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from extproc.transport.budget import FREE, BodyBudget

LIMIT = 4 * FREE
#: Largest message, and largest body.
MESSAGE = FREE
BODY = 3 * FREE


class Calls:
    """Streams by name, and who was told to go on."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.budget = BodyBudget(limit)
        self.gone_on: list[str] = []

    def add(self, stream: str, size: int) -> bool:
        """Whether the stream may be read from; if not, it waits."""
        goes_on = self.budget.add(stream, size)
        if not goes_on:
            self.budget.wait(stream, lambda: self.gone_on.append(stream))
        return goes_on


def test_within_the_limit_nobody_waits() -> None:
    calls = Calls()
    assert calls.add("a", 2 * FREE)
    assert calls.add("b", 2 * FREE)
    assert calls.budget.total == LIMIT
    calls.budget.drop("a")
    calls.budget.drop("a")
    calls.budget.drop("never seen")
    assert calls.budget.total == 2 * FREE


def test_over_the_limit_the_oldest_goes_on_and_small_ones_do() -> None:
    calls = Calls()
    assert calls.add("old", LIMIT)
    assert calls.add("small", FREE)
    assert calls.add("old", FREE)
    assert not calls.add("small", 1)
    assert not calls.add("large", FREE + 1)
    assert calls.gone_on == []
    calls.budget.drop("old")
    # What is left is within the limit: all of them.
    assert sorted(calls.gone_on) == ["large", "small"]


def test_while_it_is_still_too_much_only_the_oldest_is_told() -> None:
    calls = Calls()
    assert calls.add("first", FREE)
    assert not calls.add("second", 5 * FREE)
    assert not calls.add("third", 5 * FREE)
    calls.budget.drop("first")
    assert calls.gone_on == ["second"]
    # It is the oldest now, and is not stopped again.
    assert calls.add("second", FREE)
    calls.budget.drop("third")
    assert calls.gone_on == ["second"]
    calls.budget.drop("second")
    assert calls.budget.total == 0


def test_the_end_of_a_young_one_tells_nobody_while_it_is_too_much() -> None:
    calls = Calls()
    assert calls.add("first", 5 * FREE)
    assert not calls.add("second", 2 * FREE)
    assert calls.add("third", FREE)
    calls.budget.drop("third")
    assert calls.gone_on == []


def test_exactly_at_the_limit_all_go_on() -> None:
    calls = Calls()
    assert calls.add("a", FREE)
    assert calls.add("b", 2 * FREE)
    assert calls.add("c", FREE)
    assert not calls.add("b", FREE)  # the limit is 4
    assert calls.add("c", 0)
    assert not calls.add("d", 2 * FREE)
    calls.budget.drop("b")
    assert calls.budget.total == LIMIT
    assert calls.gone_on == ["d"]


def test_one_that_waits_may_go_away() -> None:
    calls = Calls()
    assert calls.add("old", LIMIT)
    assert not calls.add("new", FREE + 1)
    calls.budget.drop("new")
    calls.budget.drop("old")
    assert calls.gone_on == []


class Machine(RuleBasedStateMachine):
    """Any streams, in any order. A stream that was stopped sends nothing until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = Calls()
        self.held: dict[int, int] = {}
        self.stopped: set[int] = set()

    def running(self) -> list[int]:
        return [stream for stream in self.held if stream not in self.stopped]

    @rule(stream=st.integers(0, 9), size=st.integers(1, MESSAGE))
    def sends(self, stream: int, size: int) -> None:
        held = self.held.get(stream, 0)
        if stream in self.stopped or held + size > BODY:
            return
        self.held[stream] = held + size
        if not self.calls.add(str(stream), size):
            self.stopped.add(stream)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def ends(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from(sorted(self.held)))
        self.calls.budget.drop(str(stream))
        del self.held[stream]
        self.stopped.discard(stream)
        self.stopped -= {int(name) for name in self.calls.gone_on}
        assert len(set(self.calls.gone_on)) == len(self.calls.gone_on)
        self.calls.gone_on.clear()

    @invariant()
    def counts_are_true(self) -> None:
        assert self.calls.budget.total == sum(self.held.values())

    @invariant()
    def what_is_held_is_bounded(self) -> None:
        others = max(0, len(self.held) - 1)
        assert self.calls.budget.total <= LIMIT + BODY + others * max(FREE, MESSAGE)

    @invariant()
    def somebody_can_always_go_on(self) -> None:
        assert self.running() or not self.held

    @invariant()
    def nobody_waits_without_need(self) -> None:
        assert not self.stopped or self.calls.budget.total > LIMIT - MESSAGE


Machine.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
test_any_order = Machine.TestCase
