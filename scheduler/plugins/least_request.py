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
        mask: BoolArray = pods.derive((self, "keep"), self._below_limit)
        return mask

    def score(self, request: Request, pods: Snapshot, cycle: Cycle) -> FloatArray:  # noqa: ARG002 - contract
        in_flight = pods.in_flight
        load: FloatArray = in_flight - pods.derive((self, "running"), _running_or_endless)
        np.maximum(load, 0.0, out=load)
        load *= QUEUED_WEIGHT
        load += in_flight
        most = float(np.maximum.reduce(load))
        if most <= 0:
            return np.full(len(pods), MAX_SCORE)
        np.subtract(most, load, out=load)
        load *= MAX_SCORE / most
        return load

    def _below_limit(self, pods: Snapshot) -> BoolArray:
        return ~(pods.waiting >= self._max_waiting)


def _running_or_endless(pods: Snapshot) -> FloatArray:
    """`running` with infinity for unknown: nothing is beyond it, so nothing counts as queued."""
    return np.where(np.isnan(pods.running), np.inf, pods.running)
