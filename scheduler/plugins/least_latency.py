"""`least-latency`: towards the pods with the shortest measured TTFT and TPOT."""

from typing import ClassVar

from pydantic import Field

from scheduler.framework import Cycle, PluginParams
from scheduler.scaling import min_max
from scheduler.types import FloatArray, Request, Snapshot


class LeastLatencyParams(PluginParams):
    #: Share of TTFT in the score: 1 is TTFT only, 0 is TPOT only.
    weight_factor: float = Field(0.5, ge=0, le=1, allow_inf_nan=False, alias="TTFTTPOTWeightFactor")


class LeastLatency:
    """Score: TTFT and TPOT, each min-max scaled over the pods where it is known (elsewhere 50), then blended."""

    name: ClassVar[str] = "least-latency"
    Params: ClassVar[type[PluginParams]] = LeastLatencyParams
    scraped_only: ClassVar[bool] = True

    def __init__(self, params: LeastLatencyParams) -> None:
        self._factor = params.weight_factor

    def score(self, request: Request, pods: Snapshot, cycle: Cycle) -> FloatArray:  # noqa: ARG002 - contract
        # A mean of 0 seconds is an engine that has not answered yet, not one that is infinitely fast.
        ttft = min_max(pods.ttft, pods.ttft > 0)
        tpot = min_max(pods.tpot, pods.tpot > 0)
        return ttft * self._factor + tpot * (1 - self._factor)
