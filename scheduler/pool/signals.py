"""A pod's metrics pages to samples, by the dialect of its engine."""

import math
import re
from collections.abc import Generator, Mapping

import msgspec

from scheduler.pool.dialects import Dialect
from scheduler.pool.exposition import Family, Page, Series, is_exposition, labels
from scheduler.types import NO_ADAPTERS, Adapters

#: Seconds by which an engine's start time must move to be another start. Some client libraries compute it anew for each
#: page from the machine's boot time, which follows corrections of the clock.
RESTART_TOLERANCE = 1.0

_OPENMETRICS_END = b"# EOF\n"
_WHOLE = re.compile("[0-9]{1,9}")


class NotMetrics(ValueError):
    """The page is no exposition at all: HTML, JSON, binary."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """The values on one page. None: the page does not have the value."""

    #: Requests, at least 0.
    waiting: float | None = None
    running: float | None = None
    #: Used share of the KV cache, 0-1.
    kv_usage: float | None = None
    #: Mean time to first token and per output token of what the engine observed since the previous page, seconds.
    ttft: float | None = None
    tpot: float | None = None
    #: First tokens that the engine produced since the previous page.
    first_tokens: float | None = None
    adapters: Adapters | None = None
    #: Tokens that the KV cache has room for.
    kv_tokens: float | None = None
    #: The engine is another process than on the previous page: its caches are empty.
    restarted: bool = False


NOTHING = Sample()


class SignalReader:
    """Reads the pages of one pod in their order. Keeps what is needed to compare a page with the one before."""

    __slots__ = (
        "_adapters",
        "_kv_tokens",
        "_kv_usage",
        "_last_adapters",
        "_running",
        "_started",
        "_started_at",
        "_tpot",
        "_ttft",
        "_waiting",
    )

    def __init__(self, dialect: Dialect) -> None:
        self._waiting = _Gauge(dialect.waiting)
        self._running = _Gauge(dialect.running)
        self._kv_usage = _Gauge(dialect.kv_usage)
        self._ttft = _Histogram(dialect.ttft)
        self._tpot = _Histogram(dialect.tpot)
        self._adapters = _Gauge(dialect.adapters)
        self._kv_tokens = _Gauge(dialect.kv_tokens)
        self._last_adapters: tuple[bytes, Adapters] = (b"", NO_ADAPTERS)
        self._started = _Gauge(dialect.started)
        self._started_at = math.nan

    def read(self, page: bytes) -> Sample:
        """The values on the page. A signal that is not there, is no number or makes no sense is None.

        Raises:
            NotMetrics: no signal was found, and the page does not look like an exposition either.
            TooMuch: the page is larger, in whatever way, than any engine's.
        """
        steps = self.steps(page)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                sample: Sample = end.value
                return sample

    def steps(self, page: bytes) -> Generator[None, None, Sample]:
        """As `read`, in steps between which others may have their turn. Each goes over the page a few times at most."""
        text = Page(page)
        ttft, first_tokens, ttft_reset = yield from self._ttft.read(text)
        tpot, _, tpot_reset = yield from self._tpot.read(text)
        waiting = yield from self._waiting.read(text)
        running = yield from self._running.read(text)
        kv_usage = yield from self._kv_usage.read(text)
        adapters = yield from self._adapters.read(text)
        kv_tokens = yield from self._kv_tokens.read(text)
        started = yield from self._started.read(text)
        sample = Sample(
            waiting=_total(waiting),
            running=_total(running),
            kv_usage=_share(kv_usage),
            ttft=ttft,
            tpot=tpot,
            first_tokens=first_tokens,
            adapters=self._newest_adapters(text, adapters),
            kv_tokens=_tokens(text, kv_tokens),
            restarted=self._restarted(started) or ttft_reset or tpot_reset,
        )
        if sample == NOTHING and not is_exposition(page):
            raise NotMetrics("the page is not in Prometheus' text format")
        return sample

    def _newest_adapters(self, page: Page, found: list[Series]) -> Adapters | None:
        if not found:
            return None
        # An engine leaves a series behind for each combination of adapters that it ever ran. On equal times the later
        # line holds, as it does for a gauge that is set twice.
        newest, newest_at = b"", -math.inf
        for raw, at in found:
            if at >= newest_at:
                newest, newest_at = raw, at
        if newest != self._last_adapters[0]:
            self._last_adapters = (newest, _parse_adapters(page.labels(newest)))
        return self._last_adapters[1]

    def _restarted(self, found: list[Series]) -> bool:
        """Whether the start time moved. Where a page has several, the newest counts."""
        at = max((value for _, value in found if math.isfinite(value)), default=math.nan)
        before = self._started_at
        if at == at:
            self._started_at = at
        return abs(at - before) > RESTART_TOLERANCE


class _Name:
    """A metric name of a dialect, with the labels that its series must have."""

    __slots__ = ("_escaped", "_family", "_wanted")

    def __init__(self, text: str) -> None:
        name, brace, rest = text.partition("{")
        self._family = Family(name)
        self._escaped = name.replace(":", "_").encode() if ":" in name else b""
        self._wanted = labels((brace + rest).encode()).items()

    def series(self, page: Page, suffix: bytes = b"") -> list[Series]:
        block = self._family.locate(page.text)
        found = [] if block is None else page.series(self._family.name + suffix, *block)
        if not found and self._escaped and page.text.endswith(_OPENMETRICS_END):
            # Where it writes OpenMetrics, the Python client puts an underscore for each colon of a sample's name.
            found = page.series(self._escaped + suffix, 0, len(page.text))
        if self._wanted:
            return [one for one in found if self._wanted <= page.labels(one[0]).items()]
        return found


class _Gauge:
    """The series of the first of several names that is on the page."""

    __slots__ = ("_names",)

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = [_Name(name) for name in names]

    def read(self, page: Page) -> Generator[None, None, list[Series]]:
        for name in self._names:
            found = name.series(page)
            yield
            if found:
                _prefer(name, self._names)
                return found
        return []


class _Histogram:
    """The mean of what a histogram observed from one page to the next."""

    __slots__ = ("_before", "_names")

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = [_Name(name) for name in names]
        #: Name, sum and count on the previous page that had them.
        self._before: tuple[_Name, float, float] | None = None

    def read(self, page: Page) -> Generator[None, None, tuple[float | None, float | None, bool]]:
        """The mean, or None where nothing new was observed; how many observations are new; whether it started anew.

        None for the first page too: its mean is of all that the engine did since it started, which may be days.
        """
        now = yield from self._totals(page)
        if now is None:
            return None, None, False
        before, self._before = self._before, now
        if before is None or before[0] is not now[0]:
            return None, None, False
        total, count = now[1] - before[1], now[2] - before[2]
        # Seconds add up: a sum that falls is of another start, however many requests it had by then.
        reset = count < 0 or total < 0
        if reset:
            # The engine started anew: everything on the page is new.
            total, count = now[1], now[2]
        return (total / count if count > 0 else None), count or None, reset

    def _totals(self, page: Page) -> Generator[None, None, tuple[_Name, float, float] | None]:
        for name in self._names:
            count = _total(name.series(page, b"_count"))
            yield
            if count is None:
                continue
            total = _total(name.series(page, b"_sum"))
            yield
            if total is not None:
                _prefer(name, self._names)
                return name, total, count
        return None


def _prefer(name: _Name, names: list[_Name]) -> None:
    """Looks for `name` first on the next page: engines do not change names, and one in vain costs a whole page."""
    if names[0] is not name:
        names.remove(name)
        names.insert(0, name)


def _total(found: list[Series]) -> float | None:
    if not found:
        return None
    total = sum([value for _, value in found])
    # Comparisons with NaN are false.
    return total if 0 <= total < math.inf else None


def _share(found: list[Series]) -> float | None:
    total = _total(found)
    return None if total is None else min(total / len(found), 1.0)


#: Labels that hold the size of a KV cache, as blocks of so many tokens and their number.
_SIZES = (("block_size", "num_gpu_blocks"), ("page_size", "num_pages"))


def _tokens(page: Page, found: list[Series]) -> float | None:
    """Tokens of KV cache, in all series; None where one of them lacks it."""
    total = 0.0
    for raw, value in found:
        told = page.labels(raw) if raw else {}
        for each, count in _SIZES:
            if each in told or count in told:
                if not (_WHOLE.fullmatch(told.get(each, "")) and _WHOLE.fullmatch(told.get(count, ""))):
                    return None
                total += int(told[each]) * int(told[count])
                break
        else:
            total += value
    # An information metric without those labels has the value 1.
    return total if 1.0 < total < math.inf else None


def _parse_adapters(found: Mapping[str, str]) -> Adapters:
    capacity = found.get("max_lora", "")
    return Adapters(
        running=_names(found.get("running_lora_adapters", "")),
        waiting=_names(found.get("waiting_lora_adapters", "")),
        capacity=int(capacity) if _WHOLE.fullmatch(capacity) else 0,
    )


def _names(text: str) -> frozenset[str]:
    return frozenset([name for part in text.split(",") if (name := part.strip())])
