"""The reflector against an API server that does what API servers do, and then some."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from support.discovered import Naps
from support.eventually import PATIENCE
from support.kube_api import KubeApi, pod

from extproc.discovery.kubernetes.api import ApiServer
from extproc.discovery.kubernetes.credentials import Cluster, Credentials
from extproc.discovery.kubernetes.objects import PodObject
from extproc.discovery.kubernetes.reflector import MAX_BACKOFF, MIN_BACKOFF, Reflector, Resource, backoff

LOGGER = "extproc.discovery.kubernetes.reflector"
PODS = Resource(name="pods", path="/api/v1/namespaces/default/pods", parameters={"labelSelector": "app=vllm"})


@pytest.fixture
async def api() -> AsyncIterator[KubeApi]:
    fake = KubeApi()
    await fake.start()
    yield fake
    await fake.kill()


class Mirror:
    """A reflector that runs, and what it knows."""

    def __init__(self, server: ApiServer, naps: Naps, silence: float, **limits: Any) -> None:
        self.changes = 0
        self.naps = naps
        self._condition = asyncio.Event()
        #: Every watch is taken for one that lived, unless a test says otherwise.
        self.clock = Clock()
        self.reflector = Reflector(
            server,
            PODS,
            PodObject,
            self._changed,
            rng=random.Random(1),
            sleep=naps,
            **limits,
            clock=self.clock,
            watch_silence=silence,
        )

    def _changed(self) -> None:
        self.changes += 1
        self._condition.set()

    @property
    def known(self) -> dict[str, str]:
        return {one.metadata.name: one.status.pod_ip for one in self.reflector.store.objects}

    async def until(self, **pods: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.known != pods:
                self._condition.clear()
                await self._condition.wait()


class Clock:
    """Each look is `step` seconds later."""

    def __init__(self) -> None:
        self.now, self.step = 0.0, 10.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@asynccontextmanager
async def mirror(api: KubeApi, *, silence: float = 60.0, **limits: Any) -> AsyncIterator[Mirror]:
    async with ApiServer(Credentials(Cluster(server=api.url, token=b"t"))) as server:
        one = Mirror(server, Naps(), silence, **limits)
        task = asyncio.create_task(one.reflector.run())
        try:
            yield one
            assert not task.done(), task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_lists_then_watches_from_there(api: KubeApi) -> None:
    api.put("pods", pod("a", "10.0.0.1"))
    api.put("pods", pod("other", "10.0.0.9", labels={"app": "web"}))
    async with mirror(api) as one:
        await one.until(a="10.0.0.1")
        await api.wait_for_watches()
        api.put("pods", pod("b", "10.0.0.2"))
        api.put("pods", pod("a", "10.0.0.3"))
        await one.until(a="10.0.0.3", b="10.0.0.2")
        api.delete("pods", "b")
        await one.until(a="10.0.0.3")
        # What leaves the selector is deleted, as far as we see.
        api.put("pods", pod("a", "10.0.0.3", labels={"app": "old"}))
        api.put("pods", pod("other", "10.0.0.9"))
        await one.until(other="10.0.0.9")
    (_, _, listed), (_, _, watched) = api.asked
    assert listed == {"labelSelector": "app=vllm", "limit": "500"}
    assert 240 <= int(watched.pop("timeoutSeconds")) <= 480
    assert watched == {
        "labelSelector": "app=vllm",
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": "102",
    }
    assert set(api.authorizations) == {"Bearer t"}
    assert one.naps.slept == []


async def test_changes_between_list_and_watch_are_not_lost(api: KubeApi) -> None:
    api.put("pods", pod("a", "10.0.0.1"))
    async with mirror(api) as one:
        await one.until(a="10.0.0.1")
        api.delete("pods", "a")
        api.put("pods", pod("b", "10.0.0.2"))
        await one.until(b="10.0.0.2")


async def test_a_list_in_pages(api: KubeApi) -> None:
    for number in range(5):
        api.put("pods", pod(f"p{number}", f"10.0.0.{number}"))
    async with mirror(api, page=2) as one:
        await one.until(**{f"p{number}": f"10.0.0.{number}" for number in range(5)})
        assert api.count("list") == 3
        assert one.changes == 1


async def test_a_page_that_is_too_old_begins_the_list_again(api: KubeApi) -> None:
    api.put("pods", pod("a", "10.0.0.1"))
    api.put("pods", pod("b", "10.0.0.2"))
    api.faults = [0, 410]
    async with mirror(api, page=1) as one:
        await one.until(a="10.0.0.1", b="10.0.0.2")
    assert ["continue" in query for verb, _, query in api.asked if verb == "list"] == [False, True, False, True]


async def test_a_list_without_end_ends_at_the_limit(api: KubeApi) -> None:
    for number in range(9):
        api.put("pods", pod(f"p{number}", f"10.0.0.{number}"))
    async with mirror(api, page=2) as one:
        one.reflector.store.limit = 3
        await one.until(p0="10.0.0.0", p1="10.0.0.1", p2="10.0.0.2")
        await api.wait_for_watches()
        assert api.count("list") == 2


async def test_a_page_has_a_limit(api: KubeApi, caplog: pytest.LogCaptureFixture) -> None:
    api.put("pods", pod("a", "10.0.0.1"))
    async with mirror(api, max_page=100) as one:
        await api.wait_for(lambda: api.count("list") == 3)
        one.reflector._max_page = 100_000
        await one.until(a="10.0.0.1")
    assert "a page of a list of more than 100 bytes; keeping 0 known" in caplog.text


@pytest.mark.parametrize("piece", [1, 7, 1000])
async def test_events_in_pieces(api: KubeApi, piece: int) -> None:
    api.piece = piece
    async with mirror(api) as one:
        await api.wait_for_watches()
        api.put("pods", pod("a", "10.0.0.1"))
        api.put("pods", pod("b", "10.0.0.2"))
        await one.until(a="10.0.0.1", b="10.0.0.2")


@pytest.mark.parametrize("how", ["cut", "end_watches"])
async def test_after_a_watch_it_goes_on_where_it_was(api: KubeApi, how: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    api.put("pods", pod("a", "10.0.0.1"))
    async with mirror(api) as one:
        for number in range(2, 6):
            await api.wait_for_watches()
            # What follows happens while nobody watches.
            getattr(api, how)()
            api.put("pods", pod("a", f"10.0.0.{number}"))
            await one.until(a=f"10.0.0.{number}")
        assert api.count("list") == 1
    assert not caplog.records
    assert all(nap <= MIN_BACKOFF for nap in one.naps.slept)


async def test_a_bookmark_spares_a_list(api: KubeApi) -> None:
    async with mirror(api) as one:
        await api.wait_for_watches()
        api.version += 1000
        api.bookmark()
        api.end_watches()
        await api.wait_for(lambda: api.count("watch") == 2)
        assert api.asked[-1][2]["resourceVersion"] == str(api.version)
        await api.wait_for_watches()
        api.put("pods", pod("a", "10.0.0.1"))
        await one.until(a="10.0.0.1")
        assert api.count("list") == 1


@pytest.mark.parametrize("as_status", [True, False])
async def test_410_lists_again_and_replaces_everything(api: KubeApi, as_status: bool) -> None:
    api.gone_as_status = as_status
    for name in ("a", "b"):
        api.put("pods", pod(name, "10.0.0.1"))
    async with mirror(api) as one:
        await one.until(a="10.0.0.1", b="10.0.0.1")
        await api.wait_for_watches()
        api.answering.clear()
        api.cut()
        await api.wait_for(lambda: api.count("watch") == 2)
        # While it is away; and no watch can ever tell of it.
        api.delete("pods", "b")
        api.put("pods", pod("c", "10.0.0.3"))
        api.compact()
        api.answering.set()
        await one.until(a="10.0.0.1", c="10.0.0.3")
        assert api.count("list") == 2


async def test_after_it_was_away_410_does_not_wait(api: KubeApi) -> None:
    api.put("pods", pod("a", "10.0.0.1"))
    async with mirror(api) as one:
        one.clock.step = 0.0
        await api.wait_for_watches()
        await api.kill()
        async with asyncio.timeout(PATIENCE):
            while len(one.naps.slept) < 10:
                await asyncio.sleep(0)
        api.delete("pods", "a")
        api.compact()
        await api.start()
        await one.until()
        assert one.naps.slept[-1] <= MIN_BACKOFF


async def test_a_server_that_forgets_at_once_is_not_asked_without_pause(api: KubeApi) -> None:
    async with mirror(api) as one:
        one.clock.step = 0.0
        for number in range(1, 7):
            await api.wait_for(partial(lambda number: api.count("watch") >= number and bool(api.watches), number))
            api.send_error(410, "too old resource version")
            api.watches.clear()
        await api.wait_for(lambda: api.count("list") >= 7)
        assert one.naps.slept[5] >= MAX_BACKOFF / 2


async def test_killed_and_started_again_on_its_port(api: KubeApi, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    api.put("pods", pod("a", "10.0.0.1"))
    api.put("pods", pod("b", "10.0.0.2"))
    async with mirror(api) as one:
        await one.until(a="10.0.0.1", b="10.0.0.2")
        await api.wait_for_watches()
        await api.kill()
        async with asyncio.timeout(PATIENCE):
            while len(one.naps.slept) < 20:
                await asyncio.sleep(0)
        # However long it is away, what was known stays known.
        assert one.known == {"a": "10.0.0.1", "b": "10.0.0.2"}
        assert one.changes == 1
        api.delete("pods", "b")
        await api.start()
        await one.until(a="10.0.0.1")
        assert api.count("list") == 1
    assert max(one.naps.slept) <= MAX_BACKOFF
    assert min(one.naps.slept[8:]) >= MAX_BACKOFF / 2
    lost, found = [record.message for record in caplog.records]
    assert lost.startswith("kubernetes: cannot watch pods: cannot connect to 127.0.0.1:")
    assert lost.endswith("; keeping 2 known")
    assert found == "kubernetes: watching pods again"


async def test_away_at_the_start(api: KubeApi, caplog: pytest.LogCaptureFixture) -> None:
    await api.kill()
    async with mirror(api) as one:
        async with asyncio.timeout(PATIENCE):
            while len(one.naps.slept) < 3:
                await asyncio.sleep(0)
        assert one.changes == 0
        assert len(caplog.records) == 1
        api.put("pods", pod("a", "10.0.0.1"))
        await api.start()
        await one.until(a="10.0.0.1")


async def test_silence_is_the_end_of_a_watch(api: KubeApi) -> None:
    async with mirror(api, silence=0.05) as one:
        await api.wait_for(lambda: api.count("watch") >= 2)
        api.put("pods", pod("a", "10.0.0.1"))
        await one.until(a="10.0.0.1")
        assert api.count("list") == 1


async def test_an_answer_that_does_not_come(api: KubeApi) -> None:
    api.answering.clear()
    api.put("pods", pod("a", "10.0.0.1"))
    async with mirror(api, list_silence=0.05) as one:
        await api.wait_for(lambda: api.count("list") >= 3)
        one.reflector._list_silence = PATIENCE
        api.answering.set()
        await one.until(a="10.0.0.1")


async def test_what_may_not_be_watched_is_listed_again_and_again(
    api: KubeApi, caplog: pytest.LogCaptureFixture
) -> None:
    api.forbidden.add(("watch", "pods"))
    async with mirror(api) as one:
        await api.wait_for(lambda: api.count("watch") >= 3)
        assert api.count("list") == 3
        api.put("pods", pod("a", "10.0.0.1"))
        await one.until(a="10.0.0.1")
    (record,) = caplog.records
    assert 'cannot watch pods: 403 pods is forbidden: User "reader" cannot watch' in record.message


async def test_what_may_not_be_listed(api: KubeApi, caplog: pytest.LogCaptureFixture) -> None:
    api.forbidden.add(("list", "pods"))
    async with mirror(api):
        await api.wait_for(lambda: api.count("list") >= 5)
        assert api.count("watch") == 0
    assert len(caplog.records) == 1


async def test_a_kind_that_is_not_installed(api: KubeApi, caplog: pytest.LogCaptureFixture) -> None:
    api.unknown.add("pods")
    async with mirror(api) as one:
        await api.wait_for(lambda: api.count("list") >= 2)
        api.put("pods", pod("a", "10.0.0.1"))
        api.unknown.clear()
        await one.until(a="10.0.0.1")
    assert caplog.records[0].message == "kubernetes: cannot watch pods: 404 Not Found; keeping 0 known"


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_server_that_is_busy_is_not_asked_for_a_list(api: KubeApi, status: int) -> None:
    async with mirror(api) as one:
        await api.wait_for_watches()
        api.faults = [status]
        api.cut()
        api.put("pods", pod("a", "10.0.0.1"))
        await one.until(a="10.0.0.1")
        assert (api.count("list"), api.count("watch")) == (1, 3)


async def test_a_version_that_the_server_never_comes_to_know(api: KubeApi) -> None:
    """As after its data were restored from a backup: it sends nothing, and does not say why."""
    async with mirror(api, silence=0.05) as one:
        await api.wait_for_watches()
        api.version = 50
        api.log.clear()
        api.put("pods", pod("a", "10.0.0.1"))
        await one.until(a="10.0.0.1")
        assert (api.count("list"), api.count("watch")) == (2, 3)


async def test_a_server_that_stays_busy_is_asked_for_a_list_in_the_end(api: KubeApi) -> None:
    async with mirror(api) as one:
        await api.wait_for_watches()
        api.faults = [504] * 2
        api.cut()
        api.put("pods", pod("a", "10.0.0.1"))
        await one.until(a="10.0.0.1")
        assert api.count("list") == 2


async def test_an_error_in_a_watch_lists_again_after_what_came_before_it(api: KubeApi) -> None:
    async with mirror(api) as one:
        await api.wait_for_watches()
        api.forbidden.add(("list", "pods"))
        api.put("pods", pod("a", "10.0.0.1"))
        api.send_error(500, "etcd event received with PrevKv=nil")
        await one.until(a="10.0.0.1")
        await api.wait_for(lambda: api.count("list") >= 2)
        api.delete("pods", "a")
        api.forbidden.clear()
        await one.until()


async def test_watches_that_end_at_once_do_not_spin(api: KubeApi, caplog: pytest.LogCaptureFixture) -> None:
    async with mirror(api) as one:
        one.clock.step = 0.0
        for number in range(1, 6):
            await api.wait_for(partial(lambda number: api.count("watch") == number and bool(api.watches), number))
            api.end_watches()
            await api.wait_for(partial(lambda number: api.count("watch") > number, number))
    assert api.count("list") == 2
    assert len(one.naps.slept) >= 5
    assert one.naps.slept[3] > MIN_BACKOFF * 4 / 2
    assert "the watch ended at once" in caplog.text


async def test_an_object_that_cannot_be_read_is_said_once(api: KubeApi, caplog: pytest.LogCaptureFixture) -> None:
    async with mirror(api) as one:
        await api.wait_for_watches()
        for _ in range(3):
            api.put("pods", {**pod("broken", "10.0.0.9"), "status": 5})
        api.put("pods", pod("a", "10.0.0.1"))
        await one.until(a="10.0.0.1")
    (record,) = caplog.records
    assert record.message.startswith("kubernetes: pods: default/broken cannot be read: Expected `object`, got `int`")


async def test_a_thousand_changes(api: KubeApi) -> None:
    rng = random.Random(7)
    truth: dict[str, str] = {}
    async with mirror(api) as one:
        await api.wait_for_watches()
        for number in range(1000):
            name = f"p{rng.randrange(40)}"
            if name in truth and rng.random() < 0.4:
                del truth[name]
                api.delete("pods", name)
            else:
                truth[name] = f"10.0.{number // 250}.{number % 250}"
                api.put("pods", pod(name, truth[name]))
            if number % 100 == 99:
                await asyncio.sleep(0)
            if number % 250 == 249:
                await api.wait_for_watches()
                [api.cut, api.end_watches, api.bookmark, api.compact][number // 250]()
        await one.until(**truth)
        # Those that arrived together were told together.
        assert one.changes < 1000


def test_backoff_doubles_up_to_a_bound_and_is_spread() -> None:
    rng = random.Random(0)
    for failures in (1, 2, 5, 10, 10_000):
        longest = min(MIN_BACKOFF * 2 ** (failures - 1), MAX_BACKOFF) if failures < 50 else MAX_BACKOFF
        drawn = [backoff(failures, rng) for _ in range(100)]
        assert longest / 2 <= min(drawn) < max(drawn) <= longest
