import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from scheduler.cost import DRAIN
from scheduler.pool.backlog import Backlog, Waiting

PACE = 1e-4


def sent(backlog: Backlog, *tokens: int, now: float = 0.0) -> list[Waiting]:
    requests = []
    for count in tokens:
        requests.append(Waiting())
        backlog.add(requests[-1], count, PACE, now)
    return requests


def test_what_was_sent_and_what_is_ahead() -> None:
    backlog = Backlog()
    first, second = sent(backlog, 10_000, 5_000)
    assert backlog.by(0.0) == pytest.approx(1.5)
    assert (first.ahead, second.ahead) == (0, pytest.approx(10_000))


def test_the_first_token_takes_it_off_once() -> None:
    backlog = Backlog()
    first, second = sent(backlog, 10_000, 5_000)
    backlog.begin(first, 0.0)
    backlog.begin(first, 0.0)
    assert backlog.by(0.0) == pytest.approx(0.5)
    backlog.begin(second, 0.0)
    assert (backlog.by(0.0), backlog.waiting) == (0.0, 0)


def test_the_model_works_off_the_oldest() -> None:
    backlog = Backlog()
    first, second = sent(backlog, 10_000, 5_000)
    half = 0.5 / DRAIN
    assert backlog.by(half) == pytest.approx(1.0)
    # What is taken off is what the model has left of it.
    backlog.begin(first, half)
    assert backlog.by(half) == pytest.approx(0.5)
    backlog.begin(second, 100.0)
    assert backlog.by(100.0) == 0.0


def test_the_model_works_off_one_to_the_last_bit() -> None:
    backlog = Backlog()
    first, second = Waiting(), Waiting()
    for request in (first, second):
        backlog.add(request, 1, DRAIN, 0.0)
    backlog.begin(first, 1.0)
    assert (first.left, second.left) == (0.0, DRAIN)
    assert backlog.by(1.0) == DRAIN


def test_those_that_ended_do_not_pile_up_behind_one_that_waits() -> None:
    backlog = Backlog()
    (oldest,) = sent(backlog, 10_000)
    for _ in range(1000):
        (other,) = sent(backlog, 20_000)
        backlog.begin(other, 0.0)
    assert max(len(backlog._waiting), len(backlog._undone)) < 100
    # And the one is still there, for the model and for a page of metrics.
    assert backlog.by(0.0) == pytest.approx(1.0)
    (newest,) = sent(backlog, 40_000, now=0.5 / DRAIN)
    assert (oldest.left, newest.left) == (pytest.approx(0.5), pytest.approx(4.0))
    assert backlog.counted(1001, 1.0, 0.0) == [oldest]
    assert backlog.by(0.5 / DRAIN) == pytest.approx(4.0)


def test_time_that_goes_back_changes_nothing() -> None:
    backlog = Backlog()
    sent(backlog, 10_000, now=5.0)
    assert backlog.by(4.0) == pytest.approx(1.0)
    sent(backlog, 10_000, now=4.0)
    assert backlog.by(5.0) == pytest.approx(2.0)


class TestCounted:
    def test_takes_the_oldest(self) -> None:
        backlog = Backlog()
        requests = sent(backlog, 10_000, 20_000, 40_000)
        assert backlog.counted(2, 1.0, 1.0) == requests[:2]
        assert backlog.by(0.0) == pytest.approx(4.0)

    def test_what_is_known_already_is_among_those(self) -> None:
        backlog = Backlog()
        requests = sent(backlog, 10_000, 20_000, 40_000)
        backlog.begin(requests[1], 0.0)
        assert backlog.counted(2, 1.0, 1.0) == requests[:1]
        assert backlog.counted(1, 1.0, 1.0) == requests[2:]

    def test_others_raise_it_too(self) -> None:
        backlog = Backlog()
        requests = sent(backlog, 10_000, 20_000, 40_000)
        released = [backlog.counted(1, 0.25, 1.0) for _ in range(8)]
        assert [len(some) for some in released] == [0, 0, 0, 1, 0, 0, 0, 1]
        assert requests[2].waits

    def test_not_what_was_sent_after_the_page(self) -> None:
        backlog = Backlog()
        sent(backlog, 10_000, now=2.0)
        assert backlog.counted(5, 1.0, 1.0) == []
        assert backlog.waiting == 1

    def test_an_engine_that_is_gone(self) -> None:
        backlog = Backlog()
        (request,) = sent(backlog, 10_000)
        backlog.clear()
        backlog.begin(request, 1.0)
        assert (backlog.by(0.0), backlog.waiting) == (0.0, 0)


class Machine(RuleBasedStateMachine):
    """Whatever comes in whatever order: never less than nothing, and nothing with nothing in flight."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.backlog = Backlog()
        self.flying: list[Waiting] = []

    @rule(tokens=st.integers(0, 10**7), pace=st.floats(1e-6, 0.1))
    def send(self, tokens: int, pace: float) -> None:
        self.flying.append(Waiting())
        self.backlog.add(self.flying[-1], tokens, pace, self.now)

    @rule(seconds=st.floats(-0.1, 50))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(which=st.integers(0, 50))
    def begin(self, which: int) -> None:
        if self.flying:
            self.backlog.begin(self.flying[which % len(self.flying)], self.now)

    @rule(which=st.integers(0, 50))
    def end(self, which: int) -> None:
        if self.flying:
            self.backlog.begin(self.flying.pop(which % len(self.flying)), self.now)

    @rule(count=st.integers(0, 30), share=st.floats(0, 1), age=st.floats(0, 5))
    def scrape(self, count: int, share: float, age: float) -> None:
        self.backlog.counted(count, share, self.now - age)

    @rule()
    def restart(self) -> None:
        self.backlog.clear()

    @invariant()
    def holds(self) -> None:
        waiting = [one for one in self.flying if one.waits]
        assert self.backlog.waiting == len(waiting)
        left = sum(one.left for one in waiting)
        assert self.backlog.seconds == pytest.approx(left, rel=1e-6, abs=1e-6)
        assert self.backlog.by(self.now) >= 0
        if not waiting:
            assert self.backlog.seconds == 0


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=100, stateful_step_count=40)
