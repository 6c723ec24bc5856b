import asyncio
from collections.abc import Sequence

from scheduler.pool.discovery.base import Publish
from scheduler.pool.discovery.union import UnionDiscovery
from scheduler.types import Pod

A, B, C = (Pod(f"10.0.0.{number}:80") for number in (1, 2, 3))


class Source:
    """Publishes what the test wants, when it wants."""

    def __init__(self) -> None:
        self.first_sync = asyncio.Event()
        self.started = asyncio.Event()
        self.publish: Publish = self._too_early

    def _too_early(self, pods: Sequence[Pod]) -> None:
        raise AssertionError

    async def run(self, publish: Publish) -> None:
        self.publish = publish
        self.started.set()
        await asyncio.Event().wait()


async def start(*sources: Source) -> tuple[UnionDiscovery, list[list[Pod]], asyncio.Task[None]]:
    union, published = UnionDiscovery(sources), []
    task = asyncio.create_task(union.run(lambda pods: published.append(list(pods))))
    for source in sources:
        await source.started.wait()
    return union, published, task


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_lists_of_all_in_the_order_of_the_sources() -> None:
    first, second = Source(), Source()
    _, published, task = await start(first, second)
    second.publish([C, B])
    first.publish([A])
    second.publish([B])
    first.publish([])
    await stop(task)
    assert published == [[C, B], [A, C, B], [A, B], [B]]


async def test_of_equal_addresses_that_of_the_first_source() -> None:
    first, second = Source(), Source()
    _, published, task = await start(first, second)
    named = Pod(A.address, "named")
    second.publish([A, B])
    first.publish([named])
    first.publish([])
    await stop(task)
    assert published == [[A, B], [named, B], [A, B]]


async def test_published_on_change_only() -> None:
    first, second = Source(), Source()
    _, published, task = await start(first, second)
    first.publish([A])
    second.publish([A])
    first.publish([A])
    second.publish([])
    await stop(task)
    assert published == [[A]]


async def test_an_empty_list_is_a_list() -> None:
    source = Source()
    _, published, task = await start(source)
    source.publish([])
    await stop(task)
    assert published == [[]]


async def test_synced_when_all_are() -> None:
    first, second = Source(), Source()
    union, _, task = await start(first, second)
    second.first_sync.set()
    waiting = asyncio.create_task(union.first_sync.wait())
    first_waiting = asyncio.create_task(first.first_sync.wait())
    done, _ = await asyncio.wait({waiting, first_waiting}, timeout=0, return_when=asyncio.FIRST_COMPLETED)
    assert not done
    first.first_sync.set()
    assert await waiting
    await first_waiting
    await stop(task)


async def test_of_nothing() -> None:
    union, published, task = await start()
    await union.first_sync.wait()
    await stop(task)
    assert published == []
