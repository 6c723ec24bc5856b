"""`kv-cache`: towards the pods whose KV cache has most room."""

from typing import ClassVar

import numpy as np

from scheduler.framework import MAX_SCORE, NEUTRAL_SCORE, Cycle, NoParams, PluginParams
from scheduler.types import FloatArray, Request, Snapshot


class KvCache:
    """Score: (1 - KV usage) * 100; unknown: 50. Equal usage scores equal."""

    name: ClassVar[str] = "kv-cache"
    Params: ClassVar[type[PluginParams]] = NoParams
    scraped_only: ClassVar[bool] = True

    def __init__(self, params: NoParams) -> None:
        pass

    def score(self, request: Request, pods: Snapshot, cycle: Cycle) -> FloatArray:  # noqa: ARG002 - contract
        free = (1.0 - np.clip(pods.kv_usage, 0.0, 1.0)) * MAX_SCORE
        return np.where(np.isnan(free), NEUTRAL_SCORE, free)
