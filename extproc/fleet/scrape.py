"""Asks each pod for its metrics page, again and again. One loop per pod: a slow one delays nobody else."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from math import ceil
from types import TracebackType
from typing import Protocol
from zlib import crc32

import aiohttp

from scheduler.pool.dialects import Dialect
from scheduler.pool.signals import NOTHING, NotMetrics, Sample, SignalReader
from scheduler.types import Pod

log = logging.getLogger(__name__)

#: Seconds from one page of a pod to the next. An engine's queue builds in about as long as one prefill takes (0.1-1 s).
DEFAULT_INTERVAL = 0.2
#: Seconds for one page, connecting included. A healthy engine answers in milliseconds; a busy event loop may take
#: longer, and a page that took longer than this is of little worth.
DEFAULT_TIMEOUT = 1.0
#: Bytes. A vLLM page has 60-80 KB, one with 8 data-parallel ranks 400 KB; no engine is near this, and a pod that sends
#: without end must not fill the memory.
MAX_PAGE = 8 * 1024 * 1024
#: Seconds to which failures stretch the interval, doubling it each time. A pod that is down costs one try a second,
#: and one that is back is seen within a second.
MAX_BACKOFF = 1.0
#: Seconds over which the first scrapes of new pods are spread, where the interval is longer.
FIRST_SPREAD = 0.2

# Without this, engines answer in OpenMetrics with exemplars, which is larger. Compression would cost more than the
# bytes.
_HEADERS = {"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "identity"}
#: Bytes of the receive buffer: a usual page in one piece.
_BUFFER = 256 * 1024


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
    """Who counts scrapes."""

    def scraped(self, seconds: float) -> None:
        """A page was read."""
        ...

    def scrape_failed(self, reason: str) -> None:
        """There was none. `reason` is one of `FailureReason`."""
        ...


class _ScrapeError(Exception):
    """A scrape failed for a reason that has a name."""

    def __init__(self, reason: FailureReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


def backoff(interval: float, failures: int) -> float:
    """Seconds from one scrape to the next after so many failures in a row: the first changes nothing."""
    if failures < 2:
        return interval
    # The exponent is bounded because failures are not.
    return max(min(interval * 2.0 ** min(failures - 1, 16), MAX_BACKOFF), interval)


class Scraper:
    """Scrapes the pods that it was last told of. An async context manager: it scrapes from entering to leaving.

    Args:
        target: where samples and failures go.
        dialect: how a pod's engine names its signals, and where its page is.
        interval: seconds from one page of a pod to the next.
        timeout: seconds for one page.
        scheme: "http" or "https"; the certificate must be good for the pod's address.
        observer: is told of each scrape.
        clock: monotonic seconds.
        sleep: waits between scrapes.
        max_page: bytes that are read of a page at most.
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
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        max_page: int = MAX_PAGE,
    ) -> None:
        self._target = target
        self._dialect = dialect
        self._interval = interval
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._scheme = scheme
        self._observer = observer
        self._clock = clock
        self._sleep = sleep
        self._max_page = max_page
        self._session: aiohttp.ClientSession | None = None
        self._loops: dict[str, asyncio.Task[None]] = {}
        #: Cancelled, and not yet at their end.
        self._ending: set[asyncio.Task[None]] = set()
        self._untried: set[str] = set()
        #: Set once each pod of the first list has been tried, with success or without.
        self.ready = asyncio.Event()

    async def __aenter__(self) -> "Scraper":
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=_BUFFER,
            headers=_HEADERS,
            timeout=self._timeout,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for address in list(self._loops):
            self._stop(address)
        await asyncio.gather(*self._ending, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def set_pods(self, pods: Iterable[Pod]) -> None:
        """Scrapes these pods from now on, and no others. Call it between entering and leaving."""
        wanted = {pod.address: pod for pod in pods}
        for address in self._loops.keys() - wanted.keys():
            self._stop(address)
        for address, pod in wanted.items():
            if address not in self._loops:
                self._untried.add(address)
                self._loops[address] = asyncio.create_task(self._loop(pod), name=f"scrape {address}")
        self._check_ready()

    def _stop(self, address: str) -> None:
        task = self._loops.pop(address)
        self._untried.discard(address)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        task.cancel()

    def _check_ready(self) -> None:
        if not self._untried:
            self.ready.set()

    async def _loop(self, pod: Pod) -> None:
        """Scrapes one pod until it is cancelled."""
        address, interval = pod.address, self._interval
        dialect = self._dialect(pod)
        url, reader = f"{self._scheme}://{address}{dialect.path}", SignalReader(dialect)
        # The same pod has the same phase in each replica and after each start; different pods have different ones.
        phase = crc32(address.encode()) / 2**32
        due = self._clock() + phase * min(interval, FIRST_SPREAD)
        failures, silent = 0, False
        while True:
            await self._sleep(max(due - self._clock(), 0.0))
            try:
                sample = await self._scrape(address, url, reader)
            except _ScrapeError as error:
                failures += 1
                self._failed(address, error, first=failures == 1)
            except Exception:
                # Of whoever is told: a bug there must not end the scraping of this pod for good.
                log.exception("scrape of %s broke", address)
                failures += 1
            else:
                if failures:
                    log.info("%s is scraped again", address)
                failures = 0
                was_silent, silent = silent, sample == NOTHING
                if silent and not was_silent:
                    log.warning("%s has none of the metrics of %s on %s", address, dialect.name, dialect.path)
            self._untried.discard(address)
            self._check_ready()
            period = backoff(interval, failures)
            # The next multiple that is not past: a slow page skips beats, and never shifts them.
            due += period * max(ceil((self._clock() - due) / period), 1)

    async def _scrape(self, address: str, url: str, reader: SignalReader) -> Sample:
        asked = self._clock()
        in_flight = self._target.in_flight(address)
        page = await self._get(url)
        try:
            sample = reader.read(page)
        except NotMetrics as error:
            raise _ScrapeError(FailureReason.NOT_METRICS, str(error)) from None
        self._target.observe(address, sample, asked, in_flight)
        if self._observer is not None:
            self._observer.scraped(self._clock() - asked)
        return sample

    def _failed(self, address: str, error: _ScrapeError, *, first: bool) -> None:
        if first:
            log.warning("cannot scrape %s: %s", address, error)
        self._target.observe_failure(address, self._clock(), str(error))
        if self._observer is not None:
            self._observer.scrape_failed(error.reason)

    async def _get(self, url: str) -> bytes:
        """The page.

        Raises:
            _ScrapeError: there is none.
        """
        assert self._session is not None  # noqa: S101 - pods are set after entering
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                if response.status != 200:
                    raise _ScrapeError(FailureReason.HTTP_STATUS, str(response.status))
                return await self._read(response)
        except TimeoutError:
            raise _ScrapeError(FailureReason.TIMEOUT, "") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Refused, reset, cut off, no HTTP; ValueError for an address that cannot be in a URL.
            raise _ScrapeError(FailureReason.CONNECT, str(error) or type(error).__name__) from None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        chunks, size = [], 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > self._max_page:
                # The rest would have to be read before the connection can be used again.
                response.close()
                raise _ScrapeError(FailureReason.TOO_LARGE, f"more than {self._max_page} bytes")
            chunks.append(chunk)
        return b"".join(chunks)
