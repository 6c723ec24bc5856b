"""`token-load`: towards the pod with the fewest prompt tokens to compute."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from scheduler.framework import MAX_SCORE, Cycle, PluginParams
from scheduler.types import FloatArray, Request, Snapshot


class TokenLoadParams(PluginParams):
    #: Tokens at which the score is 50. The default is about two seconds of prefill of a 32B model on two H100.
    half_score_tokens: int = Field(32_768, ge=1, alias="halfScoreTokens")


class TokenLoad:
    """Score: h / (h + load) * 100, where load is the in-flight tokens that no cache holds, this prompt's included.

    The curve has no end, so that even among overloaded pods the least loaded scores best. Equal loads score equal.
    """

    name: ClassVar[str] = "token-load"
    Params: ClassVar[type[PluginParams]] = TokenLoadParams

    def __init__(self, params: TokenLoadParams) -> None:
        self._half = float(params.half_score_tokens)

    def score(self, request: Request, pods: Snapshot, cycle: Cycle) -> FloatArray:
        tokens = request.prompt.tokens
        load = pods.in_flight_tokens + (tokens + self._half)
        if cycle.prefix_match is not None:
            load = load - cycle.prefix_match * (cycle.prefix_span * tokens)
        scores: FloatArray = np.divide(self._half * MAX_SCORE, load)
        return scores
