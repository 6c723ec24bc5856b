"""`prefix-affinity`: sticky until saturated. To the pods that hold the prompt, unless waiting costs more."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from scheduler.framework import Cycle, PluginParams
from scheduler.types import BoolArray, Request, Snapshot


class PrefixAffinityParams(PluginParams):
    #: Share of the prompt's blocks that a pod must hold to be kept.
    threshold: float = Field(0.8, gt=0, le=1, allow_inf_nan=False, alias="affinityThreshold")
    #: Prompt tokens a second that a pod computes when it does nothing else. The default is what the reference endpoint
    #: picker measured with a 32B model on two H100; measure yours.
    prefill_throughput: float = Field(15_928.0, gt=0, allow_inf_nan=False, alias="peakPrefillThroughput")
    #: Seconds by which the affine pod may be slower than the best other one. Recomputing elsewhere also takes room in a
    #: cache and time from others, so staying is worth more than a tie. In-flight tokens count until a request ends,
    #: which overstates the work before a new request: another reason for patience.
    max_penalty: float = Field(18.0, ge=0, allow_inf_nan=False, alias="maxPenaltySeconds")
    #: Requests in the engine's queue from which on an affine pod is passed over while a pod below that is left. A queue
    #: waits for an answer to end, which no cached prefix makes shorter.
    spill_at_waiting: int = Field(1, ge=1, alias="spillAtWaiting")


class PrefixAffinity:
    """Filter: keeps the pods with a match of at least `affinityThreshold`; all pods where there is none.

    It spills in two cases. When each affine pod queues `spillAtWaiting` requests while some other pod does not, the
    pods that do not are kept. When the affine pod with the least work before the answer's first token (in-flight tokens
    that no cache holds, and this prompt's) is behind the best other pod by more than `maxPenaltySeconds` of prefill,
    all pods are kept. Both are asked for each request, so it is never the whole fleet that loses its affinity.
    """

    name: ClassVar[str] = "prefix-affinity"
    Params: ClassVar[type[PluginParams]] = PrefixAffinityParams
    needs: ClassVar[tuple[str, ...]] = ("prefix-cache",)
    prefers: ClassVar[bool] = True

    def __init__(self, params: PrefixAffinityParams) -> None:
        self._threshold = params.threshold
        self._patience = params.max_penalty * params.prefill_throughput
        self._spill_at = params.spill_at_waiting

    def keep(self, request: Request, pods: Snapshot, cycle: Cycle) -> BoolArray:
        match = cycle.prefix_match
        everyone: BoolArray = pods.derive((self, "all"), _everyone)
        if match is None:
            return everyone
        affine: BoolArray = match >= self._threshold
        if np.count_nonzero(affine) in (0, len(pods)):
            return everyone
        kept = affine
        # Not queueing, as far as is known.
        below: BoolArray = ~(pods.waiting >= self._spill_at)
        if not below.all():
            free = affine & below
            if free.any():
                kept = free
            elif below.any():
                return below
        work = pods.in_flight_tokens - match * (cycle.prefix_span * request.prompt.tokens)
        if work[kept].min() - work[~affine].min() > self._patience:
            return everyone
        return kept


def _everyone(pods: Snapshot) -> BoolArray:
    return np.ones(len(pods), np.bool_)
