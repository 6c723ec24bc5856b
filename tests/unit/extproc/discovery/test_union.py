import asyncio
from collections.abc import Sequence

import pytest

from extproc.discovery.base import Publish
from extproc.discovery.contact import Contact
from extproc.discovery.union import UnionDiscovery
from extproc.process.background import Background
from scheduler.types import Pod

A, B, C = (Pod(f"10.0.0.{number}:80") for number in (1, 2, 3))


class Source:
    """Publishes what the test wants, when it wants."""

    contacts: Sequence[Contact] = ()

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


class Patience:
    """Is over when the test says so."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.over = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await self.over.wait()


async def start(
    *sources: Source, patience: Patience | None = None
) -> tuple[UnionDiscovery, list[list[Pod]], asyncio.Task[None]]:
    union, published = UnionDiscovery(sources, 7.0, sleep=patience or Patience()), []
    task = asyncio.create_task(union.run(lambda pods: published.append(list(pods))))
    for source in sources:
        await source.started.wait()
    return union, published, task


async def synced(*sources: Source) -> tuple[UnionDiscovery, list[list[Pod]], asyncio.Task[None]]:
    """Begun, and every source has answered."""
    union, published, task = await start(*sources)
    for source in sources:
        source.first_sync.set()
    await union.first_sync.wait()
    return union, published, task


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_lists_of_all_in_the_order_of_the_sources() -> None:
    first, second = Source(), Source()
    _, published, task = await synced(first, second)
    second.publish([C, B])
    first.publish([A])
    second.publish([B])
    first.publish([])
    await stop(task)
    assert published == [[C, B], [A, C, B], [A, B], [B]]


async def test_of_equal_addresses_that_of_the_first_source() -> None:
    first, second = Source(), Source()
    _, published, task = await synced(first, second)
    named = Pod(A.address, "named")
    second.publish([A, B])
    first.publish([named])
    first.publish([])
    await stop(task)
    assert published == [[A, B], [named, B], [A, B]]


async def test_published_on_change_only() -> None:
    first, second = Source(), Source()
    _, published, task = await synced(first, second)
    first.publish([A])
    second.publish([A])
    first.publish([A])
    second.publish([])
    await stop(task)
    assert published == [[A]]


async def test_an_empty_list_is_a_list() -> None:
    source = Source()
    _, published, task = await synced(source)
    source.publish([])
    await stop(task)
    assert published == [[]]


async def test_synced_when_all_are() -> None:
    first, second = Source(), Source()
    union, published, task = await start(first, second)
    first.publish([A])
    second.publish([B])
    second.first_sync.set()
    waiting = asyncio.create_task(union.first_sync.wait())
    first_waiting = asyncio.create_task(first.first_sync.wait())
    done, _ = await asyncio.wait({waiting, first_waiting}, timeout=0, return_when=asyncio.FIRST_COMPLETED)
    assert not done
    # Half a list is none.
    assert published == []
    first.first_sync.set()
    assert await waiting
    await first_waiting
    assert published == [[A, B]]
    await stop(task)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_pods_of_one_wait_for_the_other_only_so_long(caplog: pytest.LogCaptureFixture) -> None:
    first, second, patience = Source(), Source(), Patience()
    union, published, task = await start(first, second, patience=patience)
    first.publish([A])
    first.first_sync.set()
    await settle()
    assert not union.first_sync.is_set()
    assert patience.seconds == [7.0]
    assert published == []
    patience.over.set()
    await union.first_sync.wait()
    assert [record.message for record in caplog.records] == [
        "1 of 2 sources of pods did not answer yet; starting without"
    ]
    # The other comes later.
    second.publish([B])
    second.first_sync.set()
    await settle()
    assert published == [[A], [A, B]]
    await stop(task)


async def test_without_a_pod_there_is_nothing_to_start_with() -> None:
    first, second, patience = Source(), Source(), Patience()
    union, _, task = await start(first, second, patience=patience)
    first.publish([])
    first.first_sync.set()
    patience.over.set()
    await settle()
    assert not union.first_sync.is_set()
    first.publish([A])
    await union.first_sync.wait()
    await stop(task)


async def test_in_sync_with_no_pods_where_all_say_so(caplog: pytest.LogCaptureFixture) -> None:
    source, patience = Source(), Patience()
    union, published, task = await start(source, patience=patience)
    source.publish([])
    source.first_sync.set()
    await union.first_sync.wait()
    patience.over.set()
    await settle()
    assert published == [[]]
    assert not caplog.records
    await stop(task)


async def test_of_nothing() -> None:
    union, published, task = await start()
    await union.first_sync.wait()
    await stop(task)
    assert published == []


async def test_a_source_that_dies_is_away_and_starts_again() -> None:
    class Dies(Source):
        def __init__(self) -> None:
            super().__init__()
            self.contact = Contact("file a")
            self.contacts = (self.contact,)
            self.runs = 0

        async def run(self, publish: Publish) -> None:
            self.runs += 1
            if self.runs == 1:
                self.contact.reached()
                raise ValueError("a fault")
            await super().run(publish)

    dies, well, pause = Dies(), Source(), Patience()
    background = Background(sleep=pause)
    published: list[list[Pod]] = []
    union = UnionDiscovery((dies, well), sleep=Patience(), background=background)
    task = asyncio.create_task(union.run(lambda pods: published.append(list(pods))))
    await well.started.wait()
    await settle()
    row = dies.contact.statistics()
    assert (row["up"], row["reason"], row["error"]) == (False, "fault", "ValueError: a fault")
    assert list(background.deaths()) == [("discovery", 1)]
    assert union.contacts == [dies.contact]
    # The other does not notice.
    well.publish([B])
    pause.over.set()
    await dies.started.wait()
    dies.publish([A])
    for source in (dies, well):
        source.first_sync.set()
    await union.first_sync.wait()
    await stop(task)
    assert published == [[A, B]]
