import ast
import asyncio
from collections.abc import Awaitable, Callable

import pytest
from support.house import ROOT, files

from extproc.process.background import FIRST_BACKOFF, LAST_BACKOFF, NOT_READY_AFTER, WELL_AFTER, Background

#: Where a task is made by other means, with the reason.
ELSEWHERE = {
    "extproc/process/background.py": "the one place",
    "extproc/discovery/union.py": "a group within a supervised task: what runs in it is kept, or ends it",
    "extproc/discovery/kubernetes/discovery.py": "a group within a supervised task, which dies with each of its members",
    "extproc/discovery/kubernetes/objectives.py": "likewise",
    "extproc/transport/http2/call.py": "of one request, guarded there",
    "extproc/transport/listener.py": "of one connection, guarded there",
    "extproc/transport/grpcio.py": "within the stop, which waits for them",
    "extproc/workers/supervisor.py": "within the run, which waits for it",
    "extproc/demo/": "not of a gateway",
    "extproc/simulation/": "not of a gateway",
}


class Time:
    """Seconds that pass only in sleep."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


def dying(time: Time, *lives: float | None) -> tuple[Callable[[], Awaitable[None]], asyncio.Event]:
    """What dies after so many seconds each time; at None it stays, and the event is set."""
    left, stays = list(lives), asyncio.Event()

    async def run() -> None:
        life = left.pop(0)
        if life is None:
            stays.set()
            await asyncio.Event().wait()
            return
        time.now += life
        raise ZeroDivisionError(f"life {life:g}")

    return run, stays


async def test_a_death_is_told_counted_and_made_up_for(caplog: pytest.LogCaptureFixture) -> None:
    time = Time()
    background = Background(clock=time, sleep=time.sleep)
    run, stays = dying(time, 0.0, 0.0, None)
    task = background.start("discovery", run, of="dns")
    await stays.wait()
    assert dict(background.deaths()) == {"discovery": 2}
    assert [(record.message, vars(record)["task"], vars(record)["of"]) for record in caplog.records] == [
        ("background task died", "discovery", "dns")
    ] * 2
    assert all(record.exc_info and record.exc_info[0] is ZeroDivisionError for record in caplog.records)
    assert time.slept == [FIRST_BACKOFF, 2 * FIRST_BACKOFF]
    assert not task.done()
    task.cancel()
    assert await asyncio.gather(task, return_exceptions=True) != [None]


async def test_the_wait_grows_and_a_long_life_begins_it_anew() -> None:
    time = Time()
    background = Background(clock=time, sleep=time.sleep)
    run, stays = dying(time, *[0.0] * 30, WELL_AFTER, None)
    task = background.start("a", run)
    await stays.wait()
    assert max(time.slept) == time.slept[-2] == LAST_BACKOFF
    assert time.slept[-1] == FIRST_BACKOFF
    task.cancel()


async def test_readiness_ends_only_for_what_is_needed_and_keeps_dying() -> None:
    time = Time()
    background = Background(clock=time, sleep=time.sleep)
    seen: list[str] = []

    async def dies() -> None:
        seen.append(background.not_ready())
        if len(seen) > 12:
            await asyncio.Event().wait()
        raise ZeroDivisionError

    other = Background(clock=time, sleep=time.sleep)
    task = background.start("discovery", dies, of="dns", needed=True)
    while len(seen) <= 12:
        await asyncio.sleep(0)
    assert seen[0] == seen[1] == ""
    assert seen[-1] == "a background task keeps dying: discovery dns: ZeroDivisionError"
    # It runs now, and is believed when it has for a while.
    time.now += WELL_AFTER
    assert background.not_ready() == ""
    assert other.not_ready() == ""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    run, stays = dying(time, *[0.0] * 10, None)
    task = background.start("configuration", run)
    await stays.wait()
    assert background.not_ready() == ""
    task.cancel()


async def test_one_death_ends_no_readiness() -> None:
    time = Time()
    background = Background(clock=time, sleep=time.sleep)
    run, stays = dying(time, 0.0, None)
    task = background.start("a", run, needed=True)
    await stays.wait()
    for _ in range(int(2 * (NOT_READY_AFTER + WELL_AFTER))):
        time.now += 0.5
        assert background.not_ready() == ""
    task.cancel()


async def test_a_return_is_a_death_unless_it_is_meant() -> None:
    time = Time()
    background = Background(clock=time, sleep=time.sleep)
    runs = 0

    async def returns() -> None:
        nonlocal runs
        runs += 1
        if runs == 3:
            await asyncio.Event().wait()

    await background.keep("a", returns, once=True)
    assert (runs, dict(background.deaths())) == (1, {"a": 0})
    task = background.start("b", returns)
    while runs < 3:
        await asyncio.sleep(0)
    assert dict(background.deaths()) == {"a": 0, "b": 1}
    task.cancel()


async def test_a_cancelled_wait_is_a_death_and_its_own_cancellation_is_not() -> None:
    time = Time()
    background = Background(clock=time, sleep=time.sleep)
    again = asyncio.Event()
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            waited = asyncio.get_running_loop().create_future()
            waited.cancel()
            await waited
        again.set()
        await asyncio.Event().wait()

    task = background.start("a", run)
    await again.wait()
    assert dict(background.deaths()) == {"a": 1}
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_no_task_is_made_by_other_means() -> None:
    makers = {"create_task", "ensure_future", "TaskGroup"}
    wrong = []
    for path in files(".py"):
        if not path.startswith("extproc/") or path.startswith(tuple(ELSEWHERE)):
            continue
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in makers:
                wrong.append(f"{path}:{node.lineno}: {ast.unparse(node)}")
    assert not wrong, "by Background.start, so that it cannot die unseen:\n" + "\n".join(wrong)
