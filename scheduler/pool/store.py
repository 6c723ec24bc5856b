# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""All that is known of the pods of a pool, and how it becomes a snapshot. Pure: `now` is passed, in monotonic seconds.

One thread only. Live counters change with every request and are written into the current snapshot; scraped values
change with a scrape, with time (they go stale) and with discovery, and make a new snapshot then, when it is next
asked for.
"""

from collections.abc import Callable, Iterable
from math import inf, nan
from typing import Any, cast

import numpy as np

from scheduler.pool.backlog import Waiting
from scheduler.pool.columns import Columns
from scheduler.pool.correction import corrected
from scheduler.pool.entry import Entry, is_another, statistics
from scheduler.pool.estimate import KNOWN_FOR, PooledSlope
from scheduler.pool.pace import Pace
from scheduler.pool.signals import Sample
from scheduler.types import NO_ADAPTERS, BoolArray, Pod, Snapshot

#: Where it follows, a sample holds for so many times from the last one to it, up to so many seconds: as many rounds of
#: the longest interval to which scrapes are stretched (5 s).
STALE_SAMPLES = 5
MOST_STALE = 25.0
#: Seconds after which outcomes of requests make a new snapshot. Their estimates move slowly (half-life 10 s), and
#: requests end far more often than pods are scraped.
OUTCOME_REFRESH = 0.1

#: Seconds after which requests sent or ended make a new snapshot while a pod is in trouble: whether it rests depends on
#: whether one of them is under way. Otherwise their counts are written into the current one, which stays.
TROUBLE_REFRESH = 0.01


#: Seconds for which a pod may ask to be left alone. Whole minutes are a quota's, not a queue's.
MOST_REFUSED = 30.0
#: Seconds for which a pod that does not know a model is not asked for it while others may know it: adapters are loaded
#: at run time.
MISSING_FOR = 30.0
#: Names of models that some pod did not know: clients make up any.
MOST_MISSING = 1000


#: Used share of a KV cache above which a request may have to wait for room in it.
FULL = 0.85


def _ignore(pod: Pod) -> None:
    pass


class PodStore:
    """The pods of a pool.

    Args:
        stale_after: seconds after which a scraped value is unknown.
        follows: whether that grows with the time between two samples of a pod, when it is scraped more rarely.
        on_left: called with each pod that left, or whose engine was restarted: everything remembered of it elsewhere is
            void.
    """

    def __init__(self, stale_after: float, on_left: Callable[[Pod], None] = _ignore, *, follows: bool = False) -> None:
        self._stale_after = stale_after
        self._follows = follows
        self._on_left = on_left
        #: By address: the pods, and those that left and have requests in flight.
        self._entries: dict[str, Entry] = {}
        self._columns = Columns(0)
        #: Time to first token over uncached tokens, of all pods.
        self._pooled = PooledSlope()
        #: Seconds per prompt token, of all pods; and whether it or a pod's changed since the columns were written.
        self._pace = Pace()
        self._pace_changed = False
        #: Pods at which a request failed and none was answered since.
        self._troubled: set[Entry] = set()
        #: Pods that want no request for now, and until when; and the same of pods and models, by model and address.
        self._refusing: dict[str, float] = {}
        self._missing: dict[str, dict[str, float]] = {}
        self._snapshot = self._columns.snapshot((), 0.0, 0.0)
        #: When the current snapshot ends to be true.
        self._deadline = inf

    # Discovery

    def set_pods(self, pods: Iterable[Pod], now: float) -> tuple[list[Pod], list[Pod]]:
        """Makes `pods` the pool, in this order; of equal addresses the first. Returns who joined and who left.

        A pod that stays keeps all that is known of it. Of one that left, or whose address another pod has now, only its
        requests in flight are still counted.
        """
        wanted: dict[str, Pod] = {}
        for pod in pods:
            wanted.setdefault(pod.address, pod)
        before, entries, old = self._snapshot.pods, self._entries, self._columns
        if tuple(wanted.values()) == before:
            return [], []
        left = [pod for pod in before if pod.address not in wanted]

        joined = []
        replaced = []
        columns = Columns(len(wanted))
        for row, (address, pod) in enumerate(wanted.items()):
            entry = entries.get(address)
            if entry is None or entry.row < 0:
                if entry is None:
                    entry = entries[address] = Entry(pod, self._pooled)
                joined.append(pod)
            elif is_another(entry.pod, pod):
                entry.forget()
                replaced.append(pod)
            else:
                columns.copy_measured(row, old, entry.row)
            entry.pod, entry.row = pod, row
            columns.in_flight[row] = entry.in_flight
            columns.in_flight_tokens[row] = entry.tokens
            columns.served[row] = entry.served
            self._publish_prefill(entry, columns)
        for pod in left:
            entry = entries[pod.address]
            entry.row = -1
            entry.forget()
            if not entry.in_flight:
                del entries[pod.address]
        self._columns = columns
        self._renew(tuple(wanted.values()), now)
        for pod in (*left, *replaced):
            self._on_left(pod)
        return joined, left

    # Scrapes

    def in_flight(self, address: str) -> int:
        """Requests in flight to a pod, known or not."""
        entry = self._entries.get(address)
        return 0 if entry is None else entry.in_flight

    def observe(self, address: str, sample: Sample, now: float, in_flight: int | None = None) -> None:
        """Takes in what a pod's engine reports. Ignored for a pod that has left.

        Args:
            address: of the pod.
            sample: the values on its metrics page.
            now: when the page was asked for, so that it never looks younger than it is.
            in_flight: `in_flight(address)` of that moment; what is left out is of now. A request that was sent while
                the page was made may not be on it, and is taken for one that is not.
        """
        entry = self._entries.get(address)
        if entry is None or entry.row < 0:
            return
        if sample.restarted:
            self.restarted(address)
        before = entry.scraped_at
        row, columns, until = entry.row, self._columns, now + self._lasts(entry, now)
        entry.seen = entry.in_flight if in_flight is None else in_flight
        entry.scraped_waiting = nan if sample.waiting is None else sample.waiting
        entry.scraped_running = nan if sample.running is None else sample.running
        entry.scraped_at = now
        entry.failures = 0
        entry.error = ""
        waiting, running = corrected(entry.scraped_waiting, entry.scraped_running, entry.seen, entry.in_flight)
        columns.waiting[row], columns.running[row] = waiting, running
        columns.kv_usage[row] = nan if sample.kv_usage is None else sample.kv_usage
        columns.adapters[row] = sample.adapters or NO_ADAPTERS
        if sample.kv_tokens is not None:
            columns.kv_tokens[row] = sample.kv_tokens
        columns.gauges_until[row] = until
        # Without new observations the last mean stays the last word, and grows old.
        if sample.ttft is not None:
            columns.engine_ttft.set(row, sample.ttft, now, until)
        if sample.tpot is not None:
            columns.engine_tpot.set(row, sample.tpot, now, until)
        if sample.first_tokens:
            self._first_tokens(entry, sample.first_tokens, before, now)
        self._deadline = -inf

    def _lasts(self, entry: Entry, now: float) -> float:
        """Seconds for which a sample of `now` holds. How often a pod is scraped is seen by its second sample."""
        if not self._follows or entry.failures:
            return self._stale_after
        return max(self._stale_after, min(STALE_SAMPLES * (now - entry.scraped_at), MOST_STALE))

    def observe_failure(self, address: str, now: float, error: str = "") -> None:
        """A scrape failed. Values of earlier ones stay until they are stale. Ignored for a pod that has left."""
        entry = self._entries.get(address)
        if entry is not None and entry.row >= 0:
            if not entry.failures:
                entry.failing_since = now
            entry.failures += 1
            entry.error = error

    def restarted(self, address: str) -> None:
        """The engine of a pod is a new process: nothing measured of the old one holds, and its caches are empty."""
        entry = self._entries.get(address)
        if entry is not None and entry.row >= 0:
            entry.forget()
            self._columns.forget(entry.row)
            self._refusing.pop(address, None)
            for addresses in self._missing.values():
                addresses.pop(address, None)
            self._deadline = -inf
            self._on_left(entry.pod)

    # Requests

    def acquire(self, pod: Pod, uncached_tokens: int, now: float) -> "Ticket":
        """Counts a request that was picked for `pod`, with the prompt tokens that its cache should not hold."""
        ticket = Ticket(self, pod, uncached_tokens)
        entry = self._entry_of(pod)
        entry.backlog.add(ticket, float(uncached_tokens), entry.pace.beside(self._pace), now)
        if entry.row >= 0 and self._snapshot.kv_usage[entry.row] > FULL:
            # The request may wait for something else than prefill: its first token is no measure of the pod's pace.
            ticket.ahead = nan
        self._take(ticket, entry)
        if self._troubled:
            self._refresh_by(now + TROUBLE_REFRESH)
        return ticket

    def observe_outcome(
        self,
        address: str,
        *,
        ttft: float | None,
        uncached_tokens: int,
        tpot: float | None,
        now: float,
        ahead: float = 0.0,
    ) -> None:
        """Takes in what a request took at the pod that answered it. Ignored for a pod that has left.

        Args:
            address: of the pod that answered.
            ttft: seconds to the first token, or None.
            uncached_tokens: prompt tokens that it had to compute.
            tpot: seconds per output token after the first, or None.
            now: when the request ended.
            ahead: prompt tokens of others that were ahead of it when it was sent (`Ticket.ahead`).
        """
        entry = self._entries.get(address)
        if entry is None or entry.row < 0:
            return
        row, columns = entry.row, self._columns
        if ttft is not None and 0 <= ttft < inf:
            line = entry.ttft
            line.observe(uncached_tokens, ttft, now)
            columns.own_ttft.set(row, line.mean_y, now, now + KNOWN_FOR)
            columns.own_tokens[row] = line.mean_x
            columns.own_slope[row] = line.slope()
            entry.exact = True
            self._learn(entry, ttft, uncached_tokens + ahead)
        if tpot is not None and 0 <= tpot < inf:
            entry.tpot.observe(tpot, now)
            columns.own_tpot.set(row, entry.tpot.value, now, now + KNOWN_FOR)
        self._refresh_by(now + OUTCOME_REFRESH)

    def observe_failure_of_request(self, address: str, now: float) -> bool:
        """A request failed at a pod, or did not reach it. Returns whether the pod is left alone from now on."""
        entry = self._entries.get(address)
        if entry is None or entry.row < 0:
            return False
        self._troubled.add(entry)
        if not entry.trouble.failed(now):
            return False
        self._deadline = -inf
        return True

    def observe_success_of_request(self, address: str) -> None:
        """A pod answered a request; with what, is not its fault."""
        entry = self._entries.get(address)
        if entry is not None and entry.trouble.succeeded():
            self._troubled.discard(entry)
            self._deadline = -inf

    def observe_refusal(self, address: str, seconds: float, now: float) -> None:
        """A pod has no room: it gets no request for so many seconds, `MOST_REFUSED` at most, while others take some."""
        if self.has(address):
            self._refusing[address] = max(self._refusing.get(address, 0.0), now + min(seconds, MOST_REFUSED))
            self._deadline = -inf

    def observe_missing(self, address: str, model: str, now: float) -> None:
        """A pod does not know a model: it is not asked for that for a while, while others may know it."""
        if model and self.has(address):
            pods = self._missing.pop(model, {})
            pods[address] = now + MISSING_FOR
            # The newest last.
            self._missing[model] = pods
            if len(self._missing) > MOST_MISSING:
                del self._missing[next(iter(self._missing))]
            self._deadline = -inf

    def moved(self, picked: str, served: str) -> None:
        """A request that is over, and was counted as served by the pod that was picked, was served by another."""
        for address, change in ((picked, -1), (served, 1)):
            entry = self._entries.get(address)
            if entry is not None and entry.row >= 0:
                entry.served = max(entry.served + change, 0)
                self._publish(entry)

    # What is asked

    def has(self, address: str) -> bool:
        """Whether the pod is in the pool, as far as this process knows."""
        entry = self._entries.get(address)
        return entry is not None and entry.row >= 0

    def snapshot(self, now: float) -> Snapshot:
        """The pool as it is at `now`. The same object until something scraped changed or became stale."""
        if now < self._deadline:
            return self._snapshot
        return self._renew(self._snapshot.pods, now)

    def statistics(self, now: float) -> list[dict[str, Any]]:
        """One row per pod for people, ready for JSON; None for what is unknown.

        Pods that left with requests in flight come last, with `ready` false.
        """
        snapshot = self.snapshot(now)
        gone = [entry for entry in self._entries.values() if entry.row < 0]
        here = [self._entries[pod.address] for pod in snapshot.pods]
        refusing = self._refusing
        return [statistics(entry, snapshot, now, refusing.get(entry.pod.address, 0.0)) for entry in here + gone]

    # Inside

    def _first_tokens(self, entry: Entry, count: float, before: float, now: float) -> None:
        """The engine produced so many first tokens between two pages, which were asked for at `before` and at `now`."""
        there = entry.scraped_running + (entry.scraped_waiting if entry.scraped_waiting > 0 else 0.0)
        # Where the engine does not say how many it serves, all are taken for ours.
        share = entry.seen / there if there > entry.seen else 1.0
        released = entry.backlog.counted(count, share, now)
        if not released:
            return
        if not entry.exact:
            # No signal reports each request: somewhere between the two pages, then.
            for request in released:
                sent_at = request.sent_at
                ticket = cast("Ticket", request)
                self._learn(entry, (max(before, sent_at) + now) / 2 - sent_at, ticket.tokens + ticket.ahead)
        self._publish_prefill(entry, self._columns)

    def _learn(self, entry: Entry, seconds: float, tokens: float) -> None:
        entry.pace.observe(seconds, tokens)
        self._pace.observe(seconds, tokens)
        self._pace_changed = True

    def _renew(self, pods: tuple[Pod, ...], now: float) -> Snapshot:
        if self._pace_changed:
            self._pace_changed = False
            paces = self._columns.prefill[2]
            for pod in pods:
                entry = self._entries[pod.address]
                paces[entry.row] = entry.pace.beside(self._pace)
        resting, until = self._resting(len(pods), now) if self._troubled else (None, inf)
        self._snapshot = snapshot = self._columns.snapshot(pods, now, self._pooled.mean_x, resting)
        self._deadline = min(self._columns.known_until(now), until)
        if self._refusing:
            self._refusing, snapshot.refusing = self._still(self._refusing, snapshot, now)
        if self._missing:
            missing: dict[str, dict[str, float]] = {}
            for model, addresses in self._missing.items():
                left, mask = self._still(addresses, snapshot, now)
                if mask is not None:
                    missing[model] = left
                    snapshot.missing[model] = mask
            self._missing = missing
        return snapshot

    def _still(
        self, until: dict[str, float], snapshot: Snapshot, now: float
    ) -> tuple[dict[str, float], BoolArray | None]:
        """The times by address that are not stale, and a mask of those pods; None for none."""
        rows = snapshot.rows
        left = {address: time for address, time in until.items() if time > now and address in rows}
        if not left:
            return left, None
        mask = np.zeros(len(snapshot.pods), np.bool_)
        mask[[rows[address] for address in left]] = True
        self._refresh_by(min(left.values()))
        return left, mask

    def _resting(self, size: int, now: float) -> tuple[BoolArray | None, float]:
        """Which rows rest, None for none; and when the next rest is over."""
        self._troubled = {entry for entry in self._troubled if entry.row >= 0 and entry.trouble.failures}
        resting: BoolArray | None = None
        next_end = inf
        for entry in self._troubled:
            trouble = entry.trouble
            if trouble.until > now:
                next_end = min(next_end, trouble.until)
            elif not (trouble.rest and entry.in_flight):
                # Well enough, or rested: one request may try. While that is under way, no other.
                continue
            if resting is None:
                resting = np.zeros(size, np.bool_)
            resting[entry.row] = True
        return resting, next_end

    def _refresh_by(self, time: float) -> None:
        if time < self._deadline:
            self._deadline = time

    def _entry_of(self, pod: Pod) -> Entry:
        entry = self._entries.get(pod.address)
        if entry is None:
            entry = self._entries[pod.address] = Entry(pod, self._pooled)
        return entry

    def _take(self, ticket: "Ticket", entry: Entry) -> None:
        ticket.entry = entry
        entry.in_flight += 1
        entry.tokens += ticket.tokens
        entry.served += 1
        self._publish(entry)

    def _begin(self, ticket: "Ticket", entry: Entry, now: float) -> None:
        entry.backlog.begin(ticket, now)
        self._publish_prefill(entry, self._columns)

    def _give_back(self, ticket: "Ticket", entry: Entry, now: float, *, served: bool) -> None:
        entry.backlog.begin(ticket, now)
        ticket.entry = None
        entry.in_flight -= 1
        entry.tokens -= ticket.tokens
        if not served:
            entry.served -= 1
        self._publish(entry)
        if entry.row < 0 and not entry.in_flight:
            del self._entries[entry.pod.address]

    def _publish(self, entry: Entry) -> None:
        """Writes a pod's live counters, and the counts that are corrected by them, into the current snapshot."""
        row = entry.row
        if row < 0:
            return
        columns, snapshot = self._columns, self._snapshot
        columns.in_flight[row] = entry.in_flight
        columns.in_flight_tokens[row] = entry.tokens
        columns.served[row] = entry.served
        self._publish_prefill(entry, columns)
        if entry.scraped_at == -inf:
            return
        waiting, running = corrected(entry.scraped_waiting, entry.scraped_running, entry.seen, entry.in_flight)
        columns.waiting[row], columns.running[row] = waiting, running
        # A value that the snapshot calls unknown, for its age, stays unknown there.
        if snapshot.waiting[row] >= 0:
            snapshot.waiting[row] = waiting
        if snapshot.running[row] >= 0:
            snapshot.running[row] = running

    def _publish_prefill(self, entry: Entry, columns: Columns) -> None:
        row = entry.row
        if row >= 0:
            prefill, backlog = columns.prefill, entry.backlog
            prefill[0, row] = backlog.seconds
            prefill[1, row] = backlog.at
            prefill[2, row] = entry.pace.beside(self._pace)


class Ticket(Waiting):
    """One request in flight. `release` it by the first sign that it is over; `move` it when another pod served it."""

    __slots__ = ("_store", "entry", "pod", "tokens")

    def __init__(self, store: PodStore, pod: Pod, tokens: int) -> None:
        super().__init__()
        self._store = store
        #: Where it counts, or counted last.
        self.pod = pod
        self.tokens = tokens
        #: The store's own.
        self.entry: Entry | None = None

    def begin(self, now: float) -> None:
        """The answer's first token came: no request waits for its prefill any more. Further calls do nothing."""
        if self.waits and self.entry is not None:
            self._store._begin(self, self.entry, now)  # noqa: SLF001 - one module, one idea

    def release(self, now: float) -> None:
        """Counts the request no more. Further calls do nothing."""
        if self.entry is not None:
            store = self._store
            store._give_back(self, self.entry, now, served=True)  # noqa: SLF001
            if store._troubled:  # noqa: SLF001
                store._refresh_by(now + TROUBLE_REFRESH)  # noqa: SLF001

    def move(self, pod: Pod, now: float) -> None:
        """Counts the request at `pod` instead, which has answered; of one that was released, it was served there."""
        picked, self.pod = self.pod, pod
        if pod.address == picked.address:
            return
        if self.entry is None:
            self._store.moved(picked.address, pod.address)
            return
        self._store._give_back(self, self.entry, now, served=False)  # noqa: SLF001
        self._store._take(self, self._store._entry_of(pod))  # noqa: SLF001
