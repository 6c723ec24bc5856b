"""`random`: no preference at all. The yardstick that every other scorer has to beat."""

from typing import ClassVar

import numpy as np

from scheduler.framework import MAX_SCORE, Cycle, NoParams, PluginParams
from scheduler.types import FloatArray, Request, Snapshot


class Random:
    """Score: uniform in 0-100. Beside other scorers it would only be noise, so the builder removes it there."""

    name: ClassVar[str] = "random"
    Params: ClassVar[type[PluginParams]] = NoParams
    alone: ClassVar[bool] = True

    def __init__(self, params: NoParams) -> None:
        pass

    def score(self, request: Request, pods: Snapshot, cycle: Cycle) -> FloatArray:  # noqa: ARG002 - contract
        drawn = np.frombuffer(cycle.rng.randbytes(4 * len(pods)), np.uint32)
        scores: FloatArray = drawn * np.float64(MAX_SCORE / 2**32)
        return scores
