"""Other gateways' rules, restated as scorers: what this one is compared with.

Each gives the pod of its choice 100 and the others 0. All see what a plugin sees: in-flight counts as they are, and
metrics as old as the last scrape. Their indexes hash the whole prompt, in blocks of 256 bytes; where theirs evict by
time, these evict by count. None of them is a plugin that a gateway should run.
"""

from math import sqrt
from random import Random
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from scheduler.framework import MAX_SCORE, Cycle, NoParams, PluginParams
from scheduler.prefix.index import PrefixIndex
from scheduler.types import FloatArray, Pod, Request, Snapshot, Undo

if TYPE_CHECKING:
    from scheduler.prefix.unit import Unit

#: Bytes of a block, and blocks of a prompt that are looked at: 16 MiB.
_BLOCK, _MAX_BLOCKS = 256, 1 << 16
#: Blocks remembered for each pod: 64 MiB of text, as vllm-router's default of 2^25 characters twice over.
_BLOCKS_PER_POD = 1 << 18


class _Remembered:
    """An index of what was sent where; at each pick it is noted."""

    def __init__(self) -> None:
        self._index = PrefixIndex(block_size=_BLOCK, max_blocks=_MAX_BLOCKS, max_blocks_per_pod=_BLOCKS_PER_POD, seed=1)

    def prepare(self, request: Request, pods: Snapshot, cycle: Cycle) -> None:
        units, span = self._index.hasher.hashes(request.model, request.prompt)
        cycle.state["peer"] = units
        cycle.prefix_match = self._index.match(units, pods)
        cycle.prefix_span = span

    def picked(self, request: Request, pod: Pod, cycle: Cycle) -> Undo | None:  # noqa: ARG002 - contract
        units: list[Unit] = cycle.state["peer"]
        return self._index.record(units, pod.address)

    def left(self, pod: Pod) -> None:
        self._index.forget(pod.address)


class CacheAwareParams(PluginParams):
    #: Share of the prompt from which on the pods that hold it are preferred.
    threshold: float = Field(0.3, ge=0, le=1)
    #: A pod with so many more requests than the mean, at the most, is passed over …
    absolute: int = Field(64, ge=0)
    #: … if it has so many times the mean as well.
    relative: float = Field(1.5, ge=1)


class CacheAware(_Remembered):
    """smg 1.13 `cache_aware`, with its gates for single requests.

    The pods that hold most of the prompt, at least `threshold` of it, are candidates. One is passed over where its
    requests exceed both the mean by A and `relative` times the mean; A is `absolute`, or two standard deviations of the
    mean (its root, twice) and at least four, whichever is less. Of the rest, or of all where none is left or matches,
    the one with the fewest requests. Pods with 8 waiting or 80 % of their cache in use take part only if all have.
    """

    name: ClassVar[str] = "smg-cache-aware"
    Params: ClassVar[type[PluginParams]] = CacheAwareParams

    def __init__(self, params: CacheAwareParams) -> None:
        super().__init__()
        self._threshold = params.threshold
        self._absolute = params.absolute
        self._relative = params.relative

    def score(self, request: Request, pods: Snapshot, cycle: Cycle) -> FloatArray:  # noqa: ARG002 - contract
        match = cycle.prefix_match
        assert match is not None  # noqa: S101 - `prepare` has set it
        loads: list[int] = pods.in_flight.tolist()
        free = ~((pods.waiting >= 8) | (pods.kv_usage >= 0.8))
        able = np.flatnonzero(free).tolist() if free.any() else range(len(loads))
        best = max(match[row] for row in able)
        rows = able
        if best > self._threshold:
            mean = sum(loads) / len(loads)
            over = min(float(self._absolute), max(2 * sqrt(mean), 4.0))
            holders = [row for row in able if match[row] == best]
            rows = [
                row for row in holders if not (loads[row] > mean + over and loads[row] > self._relative * mean)
            ] or able
        return _only(_least([float(load) for load in loads], rows, cycle.rng), len(loads))


class DynamoParams(PluginParams):
    #: What a block of prefill counts, against one of decode.
    prefill_weight: float = Field(1.0, ge=0, alias="prefillWeight")


class Dynamo(_Remembered):
    """NVIDIA Dynamo's KV router without events: `max(raw - credit, 0) * s + decode_blocks`, in blocks of 16 tokens.

    `raw` is the backlog of prompt tokens there and this prompt, `credit` what the pod is expected to hold of it,
    `decode_blocks` the blocks that requests there hold: here their share of the cache as scraped, times its size.
    """

    name: ClassVar[str] = "dynamo"
    Params: ClassVar[type[PluginParams]] = DynamoParams
    #: Blocks of 16 tokens in a cache of the 8B profile.
    _CACHE: ClassVar[int] = 27_000

    def __init__(self, params: DynamoParams) -> None:
        super().__init__()
        self._weight = params.prefill_weight

    def score(self, request: Request, pods: Snapshot, cycle: Cycle) -> FloatArray:
        match = cycle.prefix_match
        assert match is not None  # noqa: S101
        tokens = request.prompt.tokens
        backlog = (pods.in_flight_tokens + tokens - match * (cycle.prefix_span * tokens)) / 16
        decode = np.nan_to_num(pods.kv_usage) * self._CACHE
        cost = (np.maximum(backlog, 0.0) * self._weight + decode).tolist()
        return _only(_least(cost, range(len(cost)), cycle.rng), len(cost))


class LeastInFlight:
    """The fewest requests that this gateway has sent there and that have not ended."""

    name: ClassVar[str] = "least-in-flight"
    Params: ClassVar[type[PluginParams]] = NoParams

    def __init__(self, params: NoParams) -> None:
        pass

    def score(self, request: Request, pods: Snapshot, cycle: Cycle) -> FloatArray:  # noqa: ARG002 - contract
        loads: list[float] = pods.in_flight.tolist()
        return _only(_least(loads, range(len(loads)), cycle.rng), len(loads))


def _least(values: list[float], rows: "list[int] | range", rng: Random) -> int:
    """One of the least, by chance."""
    least = min(values[row] for row in rows)
    return rng.choice([row for row in rows if values[row] == least])


def _only(row: int, count: int) -> FloatArray:
    scores = np.zeros(count)
    scores[row] = MAX_SCORE
    return scores
