"""Several pools filled at once: what Envoy is told, and when."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.eventually import PATIENCE, eventually

from extproc.config import EndpointsConfig
from extproc.discovery.contact import Contact, Reason
from extproc.envoy.endpoints_file import EndpointsFile
from extproc.fleet.feeds import Feed, Feeds
from extproc.fleet.sources import DiscoveryError
from extproc.process.background import Background
from extproc.routing.pool import Pool
from scheduler.builder import build
from scheduler.config import SchedulerConfig
from scheduler.pool.store import PodStore
from scheduler.registry import in_tree_registry
from scheduler.types import Pod

#: Nothing listens there: scrapes fail at once.
ONE, TWO, THREE = (Pod(f"127.0.0.1:{port}") for port in (1, 2, 3))


class Source:
    """Says what it is told to, when it is told to."""

    def __init__(self) -> None:
        self.first_sync = asyncio.Event()
        self.contacts = [Contact("fake")]
        self.runs = 0
        self.publish: Callable[[Sequence[Pod]], None] = lambda _pods: None

    async def run(self, publish: Callable[[Sequence[Pod]], None]) -> None:
        self.publish = publish
        self.runs += 1
        self._end = asyncio.get_running_loop().create_future()
        await self._end

    def dies(self, error: Exception) -> None:
        self._end.set_exception(error)

    def says(self, *pods: Pod) -> None:
        self.publish(pods)
        self.first_sync.set()


class Counts:
    """Whom pods leave."""

    def __init__(self) -> None:
        self.left: list[str] = []

    def scraped(self, seconds: float) -> None: ...

    def scrape_failed(self, reason: str) -> None: ...

    def endpoints_not_written(self) -> None: ...

    def pod_left(self, address: str) -> None:
        self.left.append(address)


class World:
    """Feeds of some pools."""

    def __init__(self, feeds: Feeds, pools: Mapping[str, Pool], file: Path, counts: Counts) -> None:
        self.feeds, self.pools, self.counts = feeds, pools, counts
        self.sources = {name: Source() for name in pools}
        self._file = file

    def endpoints(self) -> dict[str, Any]:
        """Address → what the file says of it."""
        (assignment,) = json.loads(self._file.read_text())["resources"]
        return {
            "{address}:{port_value}".format(**one["endpoint"]["address"]["socket_address"]): one
            for one in assignment["endpoints"][0]["lb_endpoints"]
        }


@asynccontextmanager
async def feeding(folder: Path, names: str = "ab", **options: Any) -> AsyncIterator[World]:
    counts, path = Counts(), folder / "endpoints.yaml"
    file = EndpointsFile(path)
    file.keep_or_create()
    pools, feeds = {}, []
    for name in names:
        profile, _ = build(SchedulerConfig(), in_tree_registry())
        pools[name] = Pool(name, PodStore(2.0), profile)
        feeds.append(Feed(pools[name], EndpointsConfig(), counts, section=f"pools.{name}"))
    world = World(Feeds(feeds, file, counts, **options), pools, path, counts)
    for feed in feeds:
        feed.discovery = world.sources[feed.pool.name]
    async with world.feeds:
        await settled()
        yield world


async def settled() -> None:
    """Lets every task go as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_nothing_is_written_before_all_pools_are_known(tmp_path: Path) -> None:
    async with feeding(tmp_path) as world:
        world.sources["a"].says(ONE)
        await settled()
        assert world.endpoints() == {}
        assert world.feeds.not_ready() == "endpoints are not known yet"
        assert list(world.pools["a"].store.snapshot(0.0).pods) == [ONE]
        world.sources["b"].says(TWO)
        await asyncio.wait_for(world.feeds.known.wait(), PATIENCE)
        await settled()
        assert sorted(world.endpoints()) == [ONE.address, TWO.address]
        assert list(world.pools["b"].store.snapshot(0.0).pods) == [TWO]
        world.sources["b"].says(TWO, THREE)
        await eventually(lambda: len(world.endpoints()) == 3)


async def test_what_changes_at_once_is_written_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with feeding(tmp_path, "a") as world:
        world.sources["a"].says(ONE)
        await asyncio.wait_for(world.feeds.known.wait(), PATIENCE)
        for pods in ((ONE, TWO), (TWO,), (ONE, TWO, THREE)):
            world.sources["a"].says(*pods)
        await eventually(lambda: len(world.endpoints()) == 3)
        written = [record for record in caplog.records if record.message == "endpoints written"]
        assert len(written) <= 3  # the empty one of the start, the first, and the last


async def test_who_does_not_lead_writes_and_scrapes_nothing(tmp_path: Path) -> None:
    async with feeding(tmp_path, "a", leads=False) as world:
        world.sources["a"].says(ONE)
        await asyncio.wait_for(world.feeds.known.wait(), PATIENCE)
        await settled()
        assert world.endpoints() == {}
        assert world.feeds.not_ready() == ""
        world.feeds.lead()
        # It is to decide in the place of one that died: no time to get ready first.
        assert world.feeds.not_ready() == ""
        await eventually(lambda: list(world.endpoints()) == [ONE.address])


async def test_who_leads_before_it_was_ready_waits_for_the_first_scrapes(tmp_path: Path) -> None:
    async with feeding(tmp_path, "a", leads=False) as world:
        assert world.feeds.not_ready() == "endpoints are not known yet"
        world.feeds.lead()
        world.sources["a"].says(ONE)
        await asyncio.wait_for(world.feeds.known.wait(), PATIENCE)
        assert world.feeds.not_ready() == "not every pod was asked for its metrics yet"
        await eventually(lambda: not world.feeds.not_ready())


async def test_who_leads_where_there_is_no_pod_is_ready(tmp_path: Path) -> None:
    async with feeding(tmp_path, "a", leads=False) as world:
        world.sources["a"].says()
        await asyncio.wait_for(world.feeds.known.wait(), PATIENCE)
        world.feeds.lead()
        assert world.feeds.not_ready() == ""


async def test_a_pool_that_is_away_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    async with feeding(tmp_path, patience=0.0) as world:
        await settled()
        assert not world.feeds.known.is_set()  # there is no pod yet
        world.sources["b"].says(TWO)
        await asyncio.wait_for(world.feeds.known.wait(), PATIENCE)
        await settled()
        assert sorted(world.endpoints()) == [TWO.address]


async def test_a_pod_in_two_pools_is_listed_once_with_both(tmp_path: Path) -> None:
    async with feeding(tmp_path) as world:
        world.sources["a"].says(ONE, TWO)
        world.sources["b"].says(TWO)
        await asyncio.wait_for(world.feeds.known.wait(), PATIENCE)
        await settled()
        pools = {address: one["metadata"]["filter_metadata"]["envoy.lb"] for address, one in world.endpoints().items()}
        assert pools == {ONE.address: {"x-gateway-pool": ["a"]}, TWO.address: {"x-gateway-pool": ["a", "b"]}}
        # It is forgotten when it has left both.
        world.sources["a"].says(ONE)
        assert world.counts.left == []
        world.sources["b"].says()
        assert world.counts.left == [TWO.address]


async def test_one_pool_is_told_as_if_there_were_none(tmp_path: Path) -> None:
    async with feeding(tmp_path, "a") as world:
        world.sources["a"].says(ONE)
        await asyncio.wait_for(world.feeds.known.wait(), PATIENCE)
        await settled()
        assert set(world.endpoints()[ONE.address]) == {"endpoint"}


async def test_readiness_waits_for_the_first_scrapes(tmp_path: Path) -> None:
    async with feeding(tmp_path) as world:
        world.sources["a"].says(ONE)
        world.sources["b"].says()
        await asyncio.wait_for(world.feeds.known.wait(), PATIENCE)
        assert world.feeds.not_ready() == "not every pod was asked for its metrics yet"
        await eventually(lambda: not world.feeds.not_ready())


async def test_a_full_disk_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with feeding(tmp_path) as world:
        (tmp_path / "endpoints.yaml").unlink()
        (tmp_path / "endpoints.yaml").mkdir()
        world.sources["a"].says(ONE)
        world.sources["b"].says()
        await asyncio.wait_for(world.feeds.known.wait(), PATIENCE)
        await settled()
        assert "endpoints file not written" in caplog.text
        assert len(world.pools["a"].store.snapshot(0.0).pods) == 1


async def test_a_source_that_dies_is_run_again_and_told_of(tmp_path: Path) -> None:
    """An unforeseen exception of a source's task, as it comes: nobody awaits it."""
    background = Background()
    async with feeding(tmp_path, "a", background=background) as world:
        source = world.sources["a"]
        source.says(ONE)
        await eventually(lambda: list(world.endpoints()) == [ONE.address])
        source.dies(ZeroDivisionError("injected"))
        await eventually(lambda: source.runs == 2)
        assert dict(background.deaths())["discovery"] == 1
        # And its changes are heard of again.
        source.says(TWO)
        await eventually(lambda: list(world.endpoints()) == [TWO.address])


async def test_why_a_source_has_no_answer_is_why_the_start_is_not_ready(tmp_path: Path) -> None:
    async with feeding(tmp_path, "a") as world:
        (contact,) = world.sources["a"].contacts
        contact.failed(Reason.FORBIDDEN, "403 pods is forbidden")
        assert world.feeds.not_ready() == "endpoints are not known yet; fake: 403 pods is forbidden"
        (row,) = world.feeds.contacts()
        assert (row["pool"], row["source"], row["up"], row["failures"]) == ("a", "fake", False, {"forbidden": 1})


def test_mistakes_are_told_by_the_pools_name() -> None:
    profile, _ = build(SchedulerConfig(), in_tree_registry())
    section = EndpointsConfig.model_validate({"kubernetes": {"service": {"name": "x"}, "kubeconfig": "/none"}})
    with pytest.raises(DiscoveryError, match=r"^pools\.a\.kubernetes: "):
        Feed(Pool("a", PodStore(2.0), profile), section, Counts(), section="pools.a")
