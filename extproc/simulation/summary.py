"""Figures of simulations: of one run, over seeds, and of one configuration beside another."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import msgspec
import numpy as np

from extproc.simulation.records import Record

#: What is compared, and in which direction it is good: less is better, but for these.
_MORE_IS_BETTER = frozenset({"hit_rate", "requests_per_second"})
#: Share by which medians over seeds must differ, at the least, to be called different.
MARGIN = 0.02


class Times(msgspec.Struct, frozen=True):
    """Seconds. NaN where nothing was measured."""

    mean: float
    p50: float
    p90: float
    p99: float


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One run, or a part of its requests."""

    requests: int
    served: int
    #: Refused by the gateway (429), and failed in any other way.
    refused: int
    failed: int
    ttft: Times
    tpot: Times
    #: From the request to the end of its answer.
    seconds: Times
    #: Share of the prompt tokens of served requests that the engine had in its cache.
    hit_rate: float
    requests_per_second: float
    #: Requests of the busiest pod over the mean of all.
    spread: float

    def figures(self) -> dict[str, float]:
        """What is compared, by name."""
        found = {
            f"{name}_{which}": getattr(getattr(self, name), which)
            for name in ("ttft", "tpot", "seconds")
            for which in Times.__struct_fields__
        }
        return {
            **found,
            "refused": float(self.refused),
            "failed": float(self.failed),
            "hit_rate": self.hit_rate,
            "requests_per_second": self.requests_per_second,
            "spread": self.spread,
        }


def summarize(records: Sequence[Record], seconds: float, pods: int) -> Summary:
    """The figures of a run that took `seconds` on so many pods."""
    served = [record for record in records if record.served]
    prompt = sum(record.prompt_tokens for record in served)
    per_pod: dict[str, int] = {}
    for record in served:
        per_pod[record.pod] = per_pod.get(record.pod, 0) + 1
    return Summary(
        requests=len(records),
        served=len(served),
        refused=sum(1 for record in records if record.status == 429),
        failed=sum(1 for record in records if record.status not in (200, 429)),
        ttft=_times([record.ttft for record in served]),
        tpot=_times([record.tpot for record in served]),
        seconds=_times([record.seconds for record in served]),
        hit_rate=sum(record.cached_tokens for record in served) / prompt if prompt else 0.0,
        requests_per_second=len(served) / seconds if seconds > 0 else 0.0,
        spread=max(per_pod.values(), default=0) * pods / len(served) if served else 0.0,
    )


def by_tenant(records: Iterable[Record], seconds: float, pods: int) -> dict[str, Summary]:
    """The figures of each tenant, where there are several."""
    parts: dict[str, list[Record]] = {}
    for record in records:
        parts.setdefault(record.tenant, []).append(record)
    if len(parts) < 2:
        return {}
    return {name: summarize(part, seconds, pods) for name, part in sorted(parts.items())}


class Figure(msgspec.Struct, frozen=True):
    """A figure over seeds."""

    median: float
    least: float
    most: float


def over_seeds(summaries: Sequence[Summary]) -> dict[str, Figure]:
    """Each figure: median, least and most over runs of different seeds."""
    rows = [summary.figures() for summary in summaries]
    return {
        name: Figure(median(values), min(values), max(values))
        for name in rows[0]
        for values in ([row[name] for row in rows],)
    }


def better(name: str, mine: Figure, other: Figure) -> bool | None:
    """Whether `mine` is better in that figure than `other`; None where the seeds do not decide.

    They decide only where every seed of one lies on the same side of every seed of the other, by `MARGIN` at least.
    """
    more = name in _MORE_IS_BETTER
    if more:
        if mine.least > other.most * (1 + MARGIN):
            return True
        return False if mine.most * (1 + MARGIN) < other.least else None
    if mine.most * (1 + MARGIN) < other.least:
        return True
    return False if mine.least > other.most * (1 + MARGIN) else None


def ratio(mine: float, other: float) -> float:
    """`mine / other`; 1 where both are 0, infinite where only the other is."""
    if other:
        return mine / other
    return 1.0 if not mine else float("inf")


def plain(figures: Mapping[str, Figure]) -> dict[str, Any]:
    """For JSON, which knows no NaN."""
    return {
        name: {"median": _number(one.median), "least": _number(one.least), "most": _number(one.most)}
        for name, one in figures.items()
    }


def _number(value: float) -> float | None:
    return round(value, 6) if value == value and abs(value) != float("inf") else None


def _times(values: list[float]) -> Times:
    array = np.array(values, np.float64)
    array = array[np.isfinite(array)]
    if not array.size:
        return Times(*[float("nan")] * 4)
    p50, p90, p99 = np.percentile(array, [50, 90, 99]).tolist()
    return Times(float(array.mean()), p50, p90, p99)
