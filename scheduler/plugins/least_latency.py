"""`least-latency`: towards the pods with the shortest measured TTFT and TPOT."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from scheduler.framework import MAX_SCORE, NEUTRAL_SCORE, Cycle, PluginParams
from scheduler.types import FloatArray, Request, Snapshot


class LeastLatencyParams(PluginParams):
    #: Share of TTFT in the score: 1 is TTFT only, 0 is TPOT only.
    weight_factor: float = Field(0.5, ge=0, le=1, allow_inf_nan=False, alias="TTFTTPOTWeightFactor")


class LeastLatency:
    """Score: of TTFT and of TPOT, 100 * least / own, then blended; unknown: 50. Equal latencies score equal.

    Points are in proportion to the latencies: a pod that takes twice as long has half of them, and one that differs by
    milliseconds has almost as many. The documented page has no formula.
    """

    name: ClassVar[str] = "least-latency"
    Params: ClassVar[type[PluginParams]] = LeastLatencyParams
    scraped_only: ClassVar[bool] = True

    def __init__(self, params: LeastLatencyParams) -> None:
        self._factor = params.weight_factor

    def score(self, request: Request, pods: Snapshot, cycle: Cycle) -> FloatArray:  # noqa: ARG002 - contract
        # A mean of 0 seconds is an engine that has not answered yet, not one that is infinitely fast.
        return _points(pods.ttft) * self._factor + _points(pods.tpot) * (1 - self._factor)


def _points(latency: FloatArray) -> FloatArray:
    known = latency > 0
    points = np.full(len(latency), NEUTRAL_SCORE)
    measured = latency[known]
    if len(measured):
        points[known] = MAX_SCORE * (float(measured.min()) / measured)
    return points
