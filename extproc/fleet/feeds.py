"""What fills the pools: where their pods are, what the pods report, and the file by which Envoy learns of them all."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, Self

from extproc.config import EndpointsConfig
from extproc.discovery.union import PATIENCE
from extproc.envoy.endpoints_file import EndpointsFile
from extproc.fleet import sources as discovery
from extproc.fleet.endpoints_writer import Content, EndpointsWriter
from extproc.fleet.pace import Pace
from extproc.fleet.scrape import ScrapeObserver, Scraper
from extproc.process.background import Background
from extproc.routing.pool import Pool
from scheduler.types import Pod

log = logging.getLogger(__name__)

#: Seconds that the pods of some pools wait for the others' first answer: more than the sources of one pool wait.
POOLS_PATIENCE = PATIENCE + 2.0


class Observer(ScrapeObserver, Protocol):
    """Receives events to count: `Metrics`."""

    def pod_left(self, address: str) -> None:
        """The pod is in no pool any more."""
        ...

    def endpoints_not_written(self) -> None:
        """Envoy's endpoints file could not be written."""
        ...


class Feed:
    """What fills one pool.

    Raises:
        DiscoveryError: a source of pods cannot work here.
    """

    def __init__(
        self,
        pool: Pool,
        endpoints: EndpointsConfig,
        observer: Observer,
        *,
        section: str,
        background: Background | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.pool = pool
        self.interval = endpoints.scrape.interval
        self.pods: Sequence[Pod] = ()
        dialect = endpoints.dialect()
        self.discovery = discovery.build(endpoints, section=section, background=background)
        self.scraper = Scraper(
            pool.store,
            lambda _pod: dialect,
            interval=endpoints.scrape.interval,
            timeout=endpoints.scrape.timeout,
            scheme=endpoints.scrape.scheme,
            observer=observer,
            background=background,
            pace=pace,
        )


class Feeds:
    """The feeds of all pools. An async context manager: they run from entering to leaving.

    The file is not written before every pool is known, or for so long that one is waited for no more: what an earlier
    process wrote there is not replaced by half of it.

    Args:
        feeds: one a pool.
        file: of Envoy's endpoints.
        observer: receives scrapes, and pods that left.
        patience: seconds.
        leads: whether this process scrapes and writes the file. One of several does, the others hear of it.
        background: starts what dies again.
        pace: of the feeds' scrapers.
    """

    def __init__(
        self,
        feeds: Sequence[Feed],
        file: EndpointsFile,
        observer: Observer,
        *,
        patience: float = POOLS_PATIENCE,
        leads: bool = True,
        background: Background | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._background = background or Background()
        self._pace = pace
        self._leads = leads
        self._was_ready = False
        self._feeds = feeds
        self._writer = EndpointsWriter(file, self._content, observer.endpoints_not_written)
        self._observer = observer
        self._patience = patience
        self._any_pod = asyncio.Event()
        #: Set once the pods are known.
        self.known = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._scrapers = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        for feed in self._feeds:
            await self._scrapers.enter_async_context(feed.scraper)
            run = partial(feed.discovery.run, partial(self._publish, feed))
            self._tasks.append(self._background.start("discovery", run, of=f"pool {feed.pool.name}", needed=True))
        self._tasks.append(self._background.start("first pods", self._wait, needed=True, once=True))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._scrapers.aclose()

    def not_ready(self) -> str:
        """Why requests should not come yet; empty when they may, from then on.

        One that takes over the scraping from a process that died is needed just then.
        """
        if not self._was_ready:
            if reason := self._missing():
                return reason
            self._was_ready = True
            if self._pace is not None:
                self._pace.started()
        return self._writer.not_ready() if self._leads else ""

    def behind(self) -> float:
        """Seconds for which what Envoy should know of the pods could not be written; 0: it is."""
        return self._writer.behind() if self._leads else 0.0

    def contacts(self) -> list[dict[str, Any]]:
        """How the sources of pods are reached: a row for each."""
        return [
            {"pool": feed.pool.name, **contact.statistics()}
            for feed in self._feeds
            for contact in feed.discovery.contacts
        ]

    def _missing(self) -> str:
        if not self.known.is_set():
            errors = [f"{contact['source']}: {contact['error']}" for contact in self.contacts() if contact["error"]]
            return "; ".join(["endpoints are not known yet", *errors])
        known = [feed for feed in self._feeds if feed.discovery.first_sync.is_set()]
        if self._leads and not all(feed.scraper.ready.is_set() for feed in known):
            return "not every pod was asked for its metrics yet"
        return ""

    def lead(self) -> None:
        """From now on this process scrapes, and writes the file."""
        self._leads = True
        for feed in self._feeds:
            # An empty list counts as scraped.
            if feed.pods or feed.discovery.first_sync.is_set():
                feed.scraper.set_pods(feed.pods)
        self._paced()
        if self.known.is_set():
            self._write()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._patience):
                for feed in self._feeds:
                    await feed.discovery.first_sync.wait()
        except TimeoutError:
            await self._any_pod.wait()
            away = [feed.pool.name for feed in self._feeds if not feed.discovery.first_sync.is_set()]
            if away:
                log.warning("starting without pools that are not known yet", extra={"pools": away})
        self.known.set()
        self._write()

    def _paced(self) -> None:
        if self._pace is not None:
            asked = [feed for feed in self._feeds if feed.scraper.pods]
            count = sum(feed.scraper.pods for feed in asked)
            self._pace.pods(count, min((feed.interval for feed in asked), default=0.0))

    def _publish(self, feed: Feed, pods: Sequence[Pod]) -> None:
        _, left = feed.pool.store.set_pods(pods, time.monotonic())
        feed.pods = pods
        if self._leads:
            feed.scraper.set_pods(pods)
            self._paced()
        if pods:
            self._any_pod.set()
        if left:
            here = {pod.address for one in self._feeds for pod in one.pods}
            for pod in left:
                if pod.address not in here:
                    self._observer.pod_left(pod.address)
        if self.known.is_set():
            self._write()

    def _write(self) -> None:
        """Soon, and once for all that changes until then."""
        if self._leads:
            self._writer.changed()

    def _content(self) -> Content:
        pods, pools = _union((feed.pool.name, feed.pods) for feed in self._feeds)
        return pods, pools if len(self._feeds) > 1 else {}


def _union(pools: Iterable[tuple[str, Sequence[Pod]]]) -> tuple[list[Pod], Mapping[str, Sequence[str]]]:
    """Every pod once, and by its address the names of its pools."""
    pods: dict[str, Pod] = {}
    names: dict[str, list[str]] = {}
    for name, some in pools:
        for pod in some:
            pods.setdefault(pod.address, pod)
            names.setdefault(pod.address, []).append(name)
    return list(pods.values()), names
