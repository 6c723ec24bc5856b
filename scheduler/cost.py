# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""Cost of a request to all requests at each pod, in seconds. Run for each decision, and compiled: plugins are not."""

import numpy as np

from scheduler.types import Costs, FloatArray, Snapshot

#: Seconds of backlog that pass with each second until more is known. A pod that is believed half as fast again as it is
#: costs 20 % of the TTFT's 90th percentile, one that is believed a third slower than it is costs 2 %.
DRAIN = 0.75
#: Up to so many pods they are looked at one by one: each of numpy's calls costs the same for 1 pod as for 100.
_FEW = 16
_MAX_SCORE = 100.0


class Prices:
    """The values that do not change from request to request."""

    __slots__ = ("interference", "kv", "kv_from", "request")

    def __init__(self, interference: float, request: float, kv_from: float, kv: float) -> None:
        #: Share of a prefill by which it holds up each request in flight.
        self.interference = interference
        #: Seconds by which a request holds up each other in flight.
        self.request = request
        #: Used share of a KV cache from which on requests wait for room, and the seconds of a whole cache more.
        self.kv_from = kv_from
        self.kv = kv

    def rooms(self, pods: Snapshot) -> FloatArray:
        """Expected seconds until the engine has room for one more; unknown: 0. The same for all requests of a snapshot.

        A request that an engine does not admit waits until another request's answer ends.
        """
        return np.nan_to_num(self.kv * np.maximum(pods.kv_usage - self.kv_from, 0.0), nan=0.0)


def costs_of(
    prices: Prices, pods: Snapshot, tokens: float, held: FloatArray | None, now: float, half: float
) -> tuple[Costs, FloatArray]:
    """Costs and scores of a prompt of so many `tokens`, of which the pods hold `held`.

    `half`: seconds above the least cost at which a score is 50.
    """
    if len(pods.pods) > _FEW:
        return _of_many(prices, pods, tokens, held, now, half)
    rooms: list[float] = pods.derive((prices, "few"), lambda some: prices.rooms(some).tolist())
    rows: list[list[float]] = pods.prefill.tolist()
    backlogs, times, paces = rows[0], rows[1], rows[2]
    counts: list[int] = pods.in_flight.tolist()
    running: list[float] = pods.running.tolist()
    holds: list[float] = [] if held is None else held.tolist()
    waits: list[float] = []
    computes: list[float] = []
    others: list[float] = []
    totals: list[float] = []
    least = float("inf")
    for row in range(len(counts)):
        wait = backlogs[row]
        if wait > 0.0:
            wait -= (now - times[row]) * DRAIN
            if wait < 0.0:
                wait = 0.0
        own = tokens * paces[row] if held is None else (tokens - holds[row]) * paces[row]
        count = float(counts[row])
        if running[row] > count:
            # The engine serves others as well.
            count = running[row]
        other = (own * prices.interference + prices.request) * count
        total = wait + own + other + rooms[row]
        if total < least:
            least = total
        waits.append(wait)
        computes.append(own)
        others.append(other)
        totals.append(total)
    scores = [_MAX_SCORE * half / (half + total - least) for total in totals]
    return Costs(waits, computes, others, rooms), np.array(scores)


def _of_many(
    prices: Prices, pods: Snapshot, tokens: float, held: FloatArray | None, now: float, half: float
) -> tuple[Costs, FloatArray]:
    rooms: FloatArray = pods.derive((prices, "many"), prices.rooms)
    prefill = pods.prefill
    waits = np.maximum(prefill[0] - (now - prefill[1]) * DRAIN, 0.0)
    computes = prefill[2] * (tokens if held is None else tokens - held)
    others = (computes * prices.interference + prices.request) * np.fmax(pods.in_flight, pods.running)
    totals = waits + computes + others + rooms
    least = totals.min()
    scores: FloatArray = _MAX_SCORE * half / (half + totals - least)
    # As lists: they are read one by one for display.
    return Costs(waits.tolist(), computes.tolist(), others.tolist(), rooms.tolist()), scores
