"""Two summaries of the admin pages, some seconds apart, become the numbers of one frame."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import nan
from typing import Any

Summary = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PodRow:
    """One pod: the row of the summary, and its share (0-1) of the requests picked in the interval; NaN: none were."""

    row: Mapping[str, Any]
    share: float

    @property
    def worry(self) -> str:
        """The fault of the pod, or ""."""
        row = self.row
        if not row["ready"]:
            return "leaving"
        if row["resting_for"] > 0:
            return "resting"
        return f"no metrics: {row['error']}" if row["failures"] else ""


@dataclass(frozen=True, slots=True)
class Frame:
    """The values shown. Rates are per second; NaN where there is only one summary yet, or nothing to divide by."""

    now: Summary
    seconds: float
    pods: tuple[PodRow, ...]
    #: Status -> rate, of requests that went to a pod.
    outcomes: Mapping[str, float]
    #: "status reason" -> rate, of requests that the gateway answered itself.
    refusals: Mapping[str, float]
    #: Kind -> rate.
    tokens: Mapping[str, float]
    #: Name -> growth in the interval.
    counts: Mapping[str, float]
    #: Name -> mean of what was observed in the interval; where nothing was, since the start.
    means: Mapping[str, float]

    @property
    def pools(self) -> frozenset[str]:
        return frozenset([pod.row["pool"] for pod in self.pods])

    @property
    def requests(self) -> float:
        return sum(self.outcomes.values()) + sum(self.refusals.values())

    @property
    def in_flight(self) -> int:
        return sum(pod.row["in_flight"] for pod in self.pods)


def frame(before: Summary | None, now: Summary, seconds: float) -> Frame:
    """The frame of `now`, `seconds` (> 0) after `before`. A sidecar that began anew between them has no before."""
    if before is not None and before["uptime"] > now["uptime"]:
        before = None
    old: Summary = now if before is None else before
    per = nan if before is None else 1 / seconds
    return Frame(
        now=now,
        seconds=seconds,
        pods=_pods(old, now),
        outcomes=_rates(old["requests"], now["requests"], lambda row: row["status"], ("pod", "status"), per),
        refusals=_rates(
            old["refusals"],
            now["refusals"],
            lambda row: f"{row['status']} {row['reason']}",
            ("status", "reason"),
            per,
        ),
        tokens={kind: _grown(count, old["tokens"].get(kind, 0)) * per for kind, count in now["tokens"].items()},
        counts={name: _grown(count, old["counts"][name]) for name, count in now["counts"].items()},
        means={name: _mean(old["means"][name], value) for name, value in now["means"].items()},
    )


def _grown(now: float, before: float) -> float:
    # A count may fall: a retry moves a request to another pod, and the counts of a pod that left are forgotten.
    return max(now - before, 0.0)


def _pods(old: Summary, now: Summary) -> tuple[PodRow, ...]:
    # A pod may be in several pools.
    served = {(row["pool"], row["address"]): row["served"] for row in old["pods"]}
    picked = [_grown(row["served"], served.get((row["pool"], row["address"]), 0)) for row in now["pods"]]
    total = sum(picked)
    return tuple([PodRow(row, count / total if total else nan) for row, count in zip(now["pods"], picked, strict=True)])


def _rates(
    old: Iterable[Mapping[str, Any]],
    now: Iterable[Mapping[str, Any]],
    name: Callable[[Mapping[str, Any]], str],
    key: tuple[str, str],
    per: float,
) -> dict[str, float]:
    """Rates summed by name; every count is compared with its own earlier value."""
    counts = {(row[key[0]], row[key[1]]): row["count"] for row in old}
    rates: dict[str, float] = {}
    for row in now:
        more = _grown(row["count"], counts.get((row[key[0]], row[key[1]]), 0)) * per
        rates[name(row)] = rates.get(name(row), 0.0) + more
    return dict(sorted(rates.items()))


def _mean(old: Mapping[str, float], now: Mapping[str, float]) -> float:
    count = now["count"] - old["count"]
    if count > 0:
        return (now["sum"] - old["sum"]) / count
    return now["sum"] / now["count"] if now["count"] else nan
