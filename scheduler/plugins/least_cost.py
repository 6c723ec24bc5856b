"""`least-cost`: to the pod where a request costs everybody the least time."""

from typing import ClassVar

from pydantic import Field

from scheduler.cost import Prices, costs_of
from scheduler.framework import Cycle, PluginParams
from scheduler.types import FloatArray, Request, Snapshot


class LeastCostParams(PluginParams):
    #: Share of its prefill by which a request holds up each request in flight at the pod: while a chunk of a prompt is
    #: computed, every decode step takes as long.
    interference: float = Field(0.4, ge=0, allow_inf_nan=False, alias="interferenceShare")
    #: Seconds by which one more request slows down the rest, for each in flight at the pod.
    request: float = Field(0.05, ge=0, allow_inf_nan=False, alias="requestSeconds")
    #: Share of a KV cache from which on requests wait for room in it.
    kv_from: float = Field(0.7, ge=0, lt=1, allow_inf_nan=False, alias="kvUsageFrom")
    #: Seconds that the wait for room grows from there to one whole cache more.
    kv: float = Field(10.0, ge=0, allow_inf_nan=False, alias="kvUsageSeconds")
    #: Seconds above the least cost at which the score is 50.
    half_score: float = Field(1.0, gt=0, allow_inf_nan=False, alias="halfScoreSeconds")


class LeastCost:
    """Score: 100 * h / (h + cost - least cost), where cost = backlog + u*c*(1 + w*n) + d*n + k*max(0, KV - f).

    In seconds: the backlog is prefill that was sent to the pod without a first token yet (`scheduler.pool.backlog`); u
    are the prompt's tokens that the pod's cache does not hold, c its learnt seconds per token
    (`scheduler.pool.pace`); n are the requests in flight there, w `interferenceShare`, d `requestSeconds`; KV is the
    used share of its cache, 0 where unknown, f `kvUsageFrom`, k `kvUsageSeconds`; h `halfScoreSeconds`. The curve falls
    with every second and has no end, so that alone its order is that of the costs. Equal costs score equal.

    Source: measured, by discrete events, on a production trace of chats, on agents and on shared prefixes. Without w,
    agents pile onto the pods that hold their prompt, and shared prefixes are copied everywhere; without k, blocks run
    out on one pod while others have room.
    """

    name: ClassVar[str] = "least-cost"
    Params: ClassVar[type[PluginParams]] = LeastCostParams
    needs: ClassVar[tuple[str, ...]] = ("prefix-cache",)

    def __init__(self, params: LeastCostParams) -> None:
        self._half = params.half_score
        self._prices = Prices(params.interference, params.request, params.kv_from, params.kv)

    def score(self, request: Request, pods: Snapshot, cycle: Cycle) -> FloatArray:
        match, tokens = cycle.prefix_match, request.prompt.tokens
        held = None if match is None else match * (cycle.prefix_span * tokens)
        cycle.costs, scores = costs_of(self._prices, pods, float(tokens), held, cycle.now, self._half)
        return scores
