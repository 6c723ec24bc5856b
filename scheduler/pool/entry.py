# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""One pod of a pool: its live counters, and the measurements that go on as long as the pod stays."""

from math import inf, nan
from typing import Any

from scheduler.pool.backlog import Backlog
from scheduler.pool.estimate import DecayingLine, DecayingMean, PooledSlope
from scheduler.pool.pace import Pace
from scheduler.pool.trouble import Trouble
from scheduler.types import NO_ADAPTERS, FloatArray, Pod, Snapshot


class Entry:
    """One pod: its live counters, and what is needed to go on measuring it."""

    __slots__ = (
        "_pooled", "backlog", "error", "exact", "failing_since", "failures", "in_flight", "pace", "pod",
        "row", "scraped_at", "scraped_running", "scraped_waiting", "seen", "served", "tokens", "tpot", "trouble",
        "ttft",
    )  # fmt: skip

    def __init__(self, pod: Pod, pooled: PooledSlope) -> None:
        self.pod = pod
        self._pooled = pooled
        #: In the columns; -1 for a pod that is not in the pool.
        self.row = -1
        self.in_flight = 0
        self.tokens = 0
        self.served = 0
        self.backlog = Backlog()
        self.forget()

    def forget(self) -> None:
        """All that was measured."""
        self.seen = 0
        self.scraped_waiting = nan
        self.scraped_running = nan
        self.scraped_at = -inf
        self.failures = 0
        self.failing_since = -inf
        self.error = ""
        self.ttft = DecayingLine(self._pooled)
        self.tpot = DecayingMean()
        self.trouble = Trouble()
        self.backlog.clear()
        self.pace = Pace()
        #: Whether times to first token are seen of each request there.
        self.exact = False


def is_another(before: Pod, now: Pod) -> bool:
    """Whether an address was given to another pod: by its name, where both have one that is not the address again."""
    return before.name != now.name and before.name not in ("", before.address) and now.name not in ("", now.address)


def statistics(entry: Entry, snapshot: Snapshot, now: float, refused_until: float) -> dict[str, Any]:
    """The row of a pod for people: JSON values, None for what is not known; ages and rests in seconds."""

    def known(column: FloatArray) -> float | None:
        value = float(column[entry.row]) if ready else nan
        return value if value == value else None

    ready = entry.row >= 0
    adapters = snapshot.adapters[entry.row] if ready else NO_ADAPTERS
    return {
        "address": entry.pod.address,
        "name": entry.pod.name or entry.pod.address,
        "ready": ready,
        "in_flight": entry.in_flight,
        "in_flight_tokens": entry.tokens,
        "backlog": entry.backlog.by(now),
        "seconds_per_token": entry.pace.value if entry.pace.seen else None,
        "served": entry.served,
        "waiting": known(snapshot.waiting),
        "running": known(snapshot.running),
        "kv_usage": known(snapshot.kv_usage),
        "kv_tokens": known(snapshot.kv_tokens),
        "ttft": known(snapshot.ttft),
        "tpot": known(snapshot.tpot),
        "adapters": {
            "running": sorted(adapters.running),
            "waiting": sorted(adapters.waiting),
            "capacity": adapters.capacity,
        },
        "scrape_age": None if entry.scraped_at == -inf else now - entry.scraped_at,
        "resting_for": max(entry.trouble.until - now, refused_until - now, 0.0),
        "failed_requests": entry.trouble.failures,
        "failures": entry.failures,
        "failing_for": now - entry.failing_since if entry.failures else None,
        "error": entry.error,
    }
