"""What every source of pods has to keep to."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from scheduler.pool.discovery.base import Discovery
from scheduler.pool.discovery.dns import DnsDiscovery, Target
from scheduler.pool.discovery.static import StaticDiscovery
from scheduler.pool.discovery.union import UnionDiscovery
from scheduler.types import Pod

ADDRESSES = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
PODS = [Pod(f"{address}:8000") for address in ADDRESSES]


def answering(*addresses: str) -> Callable[[str], Awaitable[list[str]]]:
    async def resolve(_: str) -> list[str]:
        return list(addresses)

    return resolve


async def for_ever(_: float) -> None:
    await asyncio.Event().wait()


def dns(*addresses: str) -> DnsDiscovery:
    return DnsDiscovery([Target("pods.example", 8000)], resolve=answering(*addresses), sleep=for_ever)


SOURCES: dict[str, Callable[[], Discovery]] = {
    "static": lambda: StaticDiscovery([*PODS, PODS[0]]),
    "dns": lambda: dns(*ADDRESSES, ADDRESSES[0]),
    "union": lambda: UnionDiscovery([StaticDiscovery(PODS[:2]), dns(*ADDRESSES), UnionDiscovery([])]),
}


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> Discovery:
    made: Discovery = SOURCES[request.param]()
    return made


async def test_publishes_what_it_knows_before_it_says_so(source: Discovery) -> None:
    published: list[Sequence[Pod]] = []
    assert not source.first_sync.is_set()
    task = asyncio.create_task(source.run(lambda pods: published.append(list(pods))))
    await source.first_sync.wait()
    assert published
    assert published[-1] == PODS
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_runs_until_it_is_cancelled_and_leaves_nothing_behind(source: Discovery) -> None:
    task = asyncio.create_task(source.run(lambda _: None))
    await source.first_sync.wait()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_bug_of_whoever_is_told_is_not_hidden(source: Discovery) -> None:
    def publish(_: Sequence[Pod]) -> None:
        raise ZeroDivisionError

    with pytest.raises((ZeroDivisionError, ExceptionGroup)) as raised:
        await source.run(publish)
    error = raised.value
    while isinstance(error, ExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, ZeroDivisionError)
