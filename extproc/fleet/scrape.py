"""Scrapes each pod's metrics page periodically. One loop per pod: a slow pod delays no other."""

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from functools import partial
from math import ceil
from types import TracebackType
from typing import Protocol
from zlib import crc32

import msgspec

from extproc.fetch import FetchError, Origin
from extproc.fleet.pace import Pace
from extproc.process.background import Background
from scheduler.pool.dialects import Dialect
from scheduler.pool.exposition import TooMuch
from scheduler.pool.signals import NOTHING, NotMetrics, Sample, SignalReader
from scheduler.types import Pod

log = logging.getLogger(__name__)

#: Seconds from one page of a pod to the next. An engine's queue builds in about as long as one prefill takes (0.1-1 s).
DEFAULT_INTERVAL = 0.2
#: Seconds for one page, connecting included. A healthy engine answers in milliseconds; a busy event loop may take
#: longer, and a page that took longer than this is of little worth.
DEFAULT_TIMEOUT = 1.0
#: Bytes. A vLLM page has 60-80 KB, one with 8 data-parallel ranks 400 KB; no engine is near this, and what a pod sends
#: is read by the process that decides requests.
MAX_PAGE = 2 * 1024 * 1024
#: Seconds to which failures stretch the interval, doubling it each time. A pod that is down costs one try a second,
#: and one that is back is seen within a second.
MAX_BACKOFF = 1.0
#: Seconds of CPU. A usual page takes a third of a millisecond; from here on a pod is scraped more rarely, and logged.
DEAR_PAGE = 0.02
#: Share of one core that the pages of such a pod may take.
DEAR_SHARE = 0.01
#: Seconds between two pages of such a pod at most: one that sends what it should again is seen within this.
MAX_STRETCH = 30.0
#: Bytes. A larger page is read in steps: others have their turn between them.
STEPPED_PAGE = 256 * 1024
#: Seconds over which the first scrapes of new pods are spread, where the interval is longer.
FIRST_SPREAD = 0.2

# Without this, engines answer in OpenMetrics with exemplars, which is larger. Compression would cost more than the
# bytes.
_HEADERS = (("accept", "text/plain;version=0.0.4"), ("accept-encoding", "identity"))


class FailureReason(StrEnum):
    """Why there is no sample."""

    HTTP_STATUS = "http_status"
    TIMEOUT = "timeout"
    CONNECT = "connect"
    TOO_LARGE = "too_large"
    NOT_METRICS = "not_metrics"


class ScrapeTarget(Protocol):
    """Where samples go: `PodStore`."""

    def in_flight(self, address: str) -> int: ...

    def observe(self, address: str, sample: Sample, now: float, in_flight: int | None = None) -> None: ...

    def observe_failure(self, address: str, now: float, error: str = "") -> None: ...


class ScrapeObserver(Protocol):
    """Receives scrapes to count."""

    def scraped(self, seconds: float) -> None:
        """A page was read."""
        ...

    def scrape_failed(self, reason: str) -> None:
        """There was none. `reason` is one of `FailureReason`."""
        ...


class _ScrapeError(Exception):
    """A scrape failed for a reason that has a name."""

    def __init__(self, reason: FailureReason, detail: str, *, refused: bool = False) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        #: The connection was refused.
        self.refused = refused


def backoff(interval: float, failures: int) -> float:
    """Seconds from one scrape to the next after so many failures in a row: the first changes nothing."""
    if failures < 2:
        return interval
    # The exponent is bounded because failures are not.
    return max(min(interval * 2.0 ** min(failures - 1, 16), MAX_BACKOFF), interval)


def stretch(period: float, cpu: float) -> float:
    """Seconds from one scrape to the next where a page took `cpu` seconds of CPU: more where that is dear."""
    return period if cpu < DEAR_PAGE else max(period, min(cpu / DEAR_SHARE, MAX_STRETCH))


class Cost:
    """Seconds of CPU that one page has taken, of this thread alone: a busy machine makes no page dear."""

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        self.cpu = 0.0
        self._clock = clock
        self._entered = 0.0

    def __enter__(self) -> None:
        self._entered = self._clock()

    def __exit__(self, *_: object) -> None:
        self.cpu += self._clock() - self._entered


class Scraper:
    """Scrapes the pods of the last update. An async context manager: it scrapes from entering to leaving.

    Args:
        target: where samples and failures go.
        dialect: how a pod's engine names its signals, and where its page is.
        interval: seconds from one page of a pod to the next.
        timeout: seconds for one page.
        scheme: "http" or "https"; the certificate must be good for the pod's address.
        observer: receives each scrape.
        clock: monotonic seconds.
        cpu_clock: seconds of CPU of this thread.
        sleep: waits between scrapes.
        max_page: bytes that are read of a page at most.
        background: starts a loop again that died.
        pace: gives turns to all pods of this process; None: no pod waits for another.
    """

    def __init__(
        self,
        target: ScrapeTarget,
        dialect: Callable[[Pod], Dialect],
        *,
        interval: float = DEFAULT_INTERVAL,
        timeout: float = DEFAULT_TIMEOUT,
        scheme: str = "http",
        observer: ScrapeObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        max_page: int = MAX_PAGE,
        background: Background | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._pace = pace
        self._background = background or Background()
        self._target = target
        self._dialect = dialect
        self._interval = interval
        self._timeout = timeout
        self._scheme = scheme
        #: Of all pods: to read the system's authorities takes some milliseconds.
        self._tls = ssl.create_default_context() if scheme == "https" else None
        self._observer = observer
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._sleep = sleep
        self._max_page = max_page
        self._loops: dict[str, asyncio.Task[None]] = {}
        #: Cancelled, and not yet at their end.
        self._ending: set[asyncio.Task[None]] = set()
        self._untried: set[str] = set()
        #: Set once each pod of the first list has been tried, with success or without.
        self.ready = asyncio.Event()

    async def __aenter__(self) -> "Scraper":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for address in list(self._loops):
            self._stop(address)
        await asyncio.gather(*self._ending, return_exceptions=True)

    def set_pods(self, pods: Iterable[Pod]) -> None:
        """Scrapes these pods from now on, and no others. Call it between entering and leaving."""
        wanted = {pod.address: pod for pod in pods}
        for address in self._loops.keys() - wanted.keys():
            self._stop(address)
        for address, pod in wanted.items():
            if address not in self._loops:
                self._untried.add(address)
                self._loops[address] = self._background.start("scrape", partial(self._loop, pod), of=address)
        self._check_ready()

    def _stop(self, address: str) -> None:
        task = self._loops.pop(address)
        self._untried.discard(address)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        task.cancel()

    @property
    def pods(self) -> int:
        """How many are scraped."""
        return len(self._loops)

    def _check_ready(self) -> None:
        if not self._untried:
            self.ready.set()

    async def _loop(self, pod: Pod) -> None:
        """Scrapes one pod until it is cancelled."""
        with Origin(f"{self._scheme}://{pod.address}", _HEADERS, tls=self._tls) as origin:
            await self._ask(pod.address, origin, self._dialect(pod))

    async def _ask(self, address: str, origin: Origin, dialect: Dialect) -> None:
        interval, reader = self._interval, SignalReader(dialect)
        # The same pod has the same phase in each replica and after each start; different pods have different ones.
        phase = crc32(address.encode()) / 2**32
        due = self._clock() + phase * min(interval, FIRST_SPREAD)
        failures, silent, dear, gone = 0, False, False, False
        while True:
            await self._sleep(max(due - self._clock(), 0.0))
            if self._pace is not None:
                await self._pace.turn(busy=self._target.in_flight(address) > 0)
            cost = Cost(self._cpu_clock)
            try:
                sample = await self._scrape(address, origin, dialect.path, reader, cost, gone=gone)
            except _ScrapeError as error:
                failures += 1
                # The next process to listen there is another one. Not every engine reports its start time.
                gone = gone or error.refused
                self._failed(address, error, first=failures == 1)
            except Exception:
                # From the target or the observer: a bug there must not end the scraping of this pod for good.
                log.exception("scrape of %s broke", address)
                failures += 1
            else:
                if failures:
                    log.info("%s is scraped again", address)
                failures, gone = 0, False
                was_silent, silent = silent, sample == NOTHING
                if silent and not was_silent:
                    log.warning("%s has none of the metrics of %s on %s", address, dialect.name, dialect.path)
            if self._pace is not None:
                self._pace.took(cost.cpu)
            self._untried.discard(address)
            self._check_ready()
            was_dear, dear = dear, cost.cpu >= DEAR_PAGE
            if dear and not was_dear:
                log.warning("the page of %s is dear: asking it more rarely", address, extra={"cpu": round(cost.cpu, 3)})
            period = stretch(backoff(interval, failures), cost.cpu)
            # The next multiple that is not past: a slow page skips beats, and never shifts them.
            due += period * max(ceil((self._clock() - due) / period), 1)

    async def _scrape(
        self, address: str, origin: Origin, path: str, reader: SignalReader, cost: Cost, *, gone: bool
    ) -> Sample:
        asked = self._clock()
        in_flight = self._target.in_flight(address)
        page = await self._get(origin, path, cost)
        try:
            sample = await self._read(page, reader, cost)
        except NotMetrics as error:
            raise _ScrapeError(FailureReason.NOT_METRICS, str(error)) from None
        except TooMuch as error:
            raise _ScrapeError(FailureReason.TOO_LARGE, str(error)) from None
        told = msgspec.structs.replace(sample, restarted=True) if gone else sample
        self._target.observe(address, told, asked, in_flight)
        if self._observer is not None:
            self._observer.scraped(self._clock() - asked)
        return sample

    async def _read(self, page: bytes, reader: SignalReader, cost: Cost) -> Sample:
        steps = reader.steps(page)
        while True:
            with cost:
                try:
                    next(steps)
                    while len(page) <= STEPPED_PAGE:
                        next(steps)
                except StopIteration as end:
                    sample: Sample = end.value
                    return sample
            await asyncio.sleep(0)

    def _failed(self, address: str, error: _ScrapeError, *, first: bool) -> None:
        if first:
            log.warning("cannot scrape %s: %s", address, error)
        self._target.observe_failure(address, self._clock(), str(error))
        if self._observer is not None:
            self._observer.scrape_failed(error.reason)

    async def _get(self, origin: Origin, path: str, cost: Cost) -> bytes:
        """The page.

        Raises:
            _ScrapeError: there is none.
        """
        try:
            async with asyncio.timeout(self._timeout), origin.get(path) as answer:
                try:
                    if answer.status != 200:
                        raise _ScrapeError(FailureReason.HTTP_STATUS, str(answer.status))
                    return await answer.body(self._max_page)
                finally:
                    cost.cpu += answer.cpu
        except TimeoutError:
            raise _ScrapeError(FailureReason.TIMEOUT, "") from None
        except FetchError as error:
            raise _ScrapeError(FailureReason(error.reason), str(error), refused=error.refused) from None
