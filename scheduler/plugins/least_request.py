"""`least-request`: away from pods whose engine queues, towards pods with little in flight."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from scheduler.framework import MAX_SCORE, Cycle, PluginParams
from scheduler.types import BoolArray, FloatArray, Request, Snapshot

#: A request that the engine has not started weighs as much as this many that it computes: it waits for one of them to
#: end.
QUEUED_WEIGHT = 100.0


class LeastRequestParams(PluginParams):
    #: Requests in the engine's queue from which on a pod is left out.
    max_waiting_requests: int = Field(10, ge=1, alias="maxWaitingRequests")


class LeastRequest:
    """Filter: engine's waiting < maxWaitingRequests; unknown stays. Score: (max - load) / max, equal loads score equal.

    Load is in-flight + 100 for each in-flight request beyond those that the engine reports running. Where `running` is
    unknown, in-flight alone counts.
    """

    name: ClassVar[str] = "least-request"
    Params: ClassVar[type[PluginParams]] = LeastRequestParams

    def __init__(self, params: LeastRequestParams) -> None:
        self._max_waiting = params.max_waiting_requests

    def keep(self, request: Request, pods: Snapshot, cycle: Cycle) -> BoolArray:  # noqa: ARG002 - contract
        mask: BoolArray = ~(pods.waiting >= self._max_waiting)
        return mask

    def score(self, request: Request, pods: Snapshot, cycle: Cycle) -> FloatArray:  # noqa: ARG002 - contract
        in_flight = pods.in_flight
        load: FloatArray = in_flight - pods.running
        # Of a number and NaN the number: where `running` is unknown, nothing counts as queued.
        np.fmax(load, 0.0, out=load)
        load *= QUEUED_WEIGHT
        load += in_flight
        most: float = load.item(load.argmax())
        if most <= 0:
            idle: FloatArray = pods.derive(LeastRequest, _idle)
            return idle
        np.subtract(most, load, out=load)
        load *= MAX_SCORE / most
        return load


def _idle(pods: Snapshot) -> FloatArray:
    return np.full(len(pods), MAX_SCORE)
