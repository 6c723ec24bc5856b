"""Turns of pods, by a clock of the test's own."""

import asyncio
import logging

import pytest

from extproc.fleet.pace import (
    FIRST_COST,
    GIVE_WAY,
    LATE,
    MAX_INTERVAL,
    SHARE,
    STARTING_SHARE,
    Pace,
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    made = Pace(clock)
    made.started()
    return made


def waiting(pace: Pace, *busy: bool) -> list[asyncio.Task[None]]:
    return [asyncio.ensure_future(pace.turn(busy=one)) for one in busy]


def still(pace: Pace) -> None:
    """The event loop's own time is none of the tests'."""
    if pace._timer is not None:
        pace._timer.cancel()


async def granted(pace: Pace, clock: Clock, tasks: list[asyncio.Task[None]], *, late: float = 0.0) -> int:
    """Which of the tasks gets the next turn; None of the others does."""
    before = {n for n, task in enumerate(tasks) if task.done()}
    clock.now = max(clock.now, pace._next) + late
    still(pace)
    pace._grant()
    still(pace)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    (found,) = {n for n, task in enumerate(tasks) if task.done()} - before
    return found


def test_few_pods_are_asked_as_often_as_they_should(pace: Pace) -> None:
    pace.pods(8, 0.2)
    assert pace.interval == 0.2


def test_the_share_of_the_thread_is_kept_to(pace: Pace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    pace.pods(2000, 0.2)
    assert pace.interval == pytest.approx(2000 * FIRST_COST / SHARE)
    pace.pods(2001, 0.2)
    assert [one.message.partition(":")[0] for one in caplog.records] == ["metrics are read more rarely"]
    # Pages that are dearer than was thought.
    for _ in range(1000):
        pace.took(2 * FIRST_COST)
    pace.pods(1000, 0.2)
    assert pace.interval == pytest.approx(1000 * 2 * FIRST_COST / SHARE, rel=0.01)


def test_the_interval_has_an_end(pace: Pace) -> None:
    pace.pods(1_000_000, 0.2)
    assert pace.interval == pytest.approx(MAX_INTERVAL)
    pace.pods(10, 60.0)
    assert pace.interval == 60.0


def test_before_everybody_was_asked_turns_come_faster(clock: Clock) -> None:
    pace = Pace(clock)
    pace.pods(2000, 0.2)
    assert pace.interval == pytest.approx(2000 * FIRST_COST / STARTING_SHARE)


async def test_turns_come_one_by_one(pace: Pace, clock: Clock) -> None:
    pace.pods(2000, 0.2)
    tasks = waiting(pace, True, True, True)
    await asyncio.sleep(0)
    assert [task.done() for task in tasks] == [True, False, False]
    assert [await granted(pace, clock, tasks) for _ in range(2)] == [1, 2]
    # An hour later nothing is owed.
    clock.now += 3600
    tasks = waiting(pace, True, True)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [task.done() for task in tasks] == [True, False]
    tasks[1].cancel()


async def test_pods_with_requests_in_flight_come_first_but_not_always(pace: Pace, clock: Clock) -> None:
    pace.pods(2000, 0.2)
    tasks = waiting(pace, True, False, True, False, True)
    await asyncio.sleep(0)
    assert [await granted(pace, clock, tasks) for _ in range(3)] == [2, 4, 1]
    clock.now += 3.0
    tasks += waiting(pace, True)
    await asyncio.sleep(0)
    assert await granted(pace, clock, tasks) == 3
    assert await granted(pace, clock, tasks) == 5


async def test_who_leaves_takes_no_turn(pace: Pace, clock: Clock) -> None:
    pace.pods(2000, 0.2)
    tasks = waiting(pace, True, True, True)
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(tasks[1], return_exceptions=True)
    clock.now += 1
    pace._grant()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert tasks[2].done()


async def test_pages_give_way_to_requests_and_come_back(pace: Pace, clock: Clock) -> None:
    pace.pods(200, 0.2)
    usual = pace.gap
    tasks = waiting(pace, *[True] * 60)
    await asyncio.sleep(0)
    for _ in range(20):
        await granted(pace, clock, tasks, late=2 * LATE)
    assert pace.gap == pytest.approx(usual * GIVE_WAY**20)
    for _ in range(39):
        await granted(pace, clock, tasks)
    assert usual <= pace.gap < usual * 1.5
