"""`queue`: towards the shortest engine queue."""

from typing import ClassVar

import numpy as np

from scheduler.framework import Cycle, NoParams, PluginParams
from scheduler.scaling import min_max
from scheduler.types import FloatArray, Request, Snapshot


class Queue:
    """Score: waiting requests, min-max scaled; all equal: 100, unknown: 50."""

    name: ClassVar[str] = "queue"
    Params: ClassVar[type[PluginParams]] = NoParams

    def __init__(self, params: NoParams) -> None:
        pass

    def score(self, request: Request, pods: Snapshot, cycle: Cycle) -> FloatArray:  # noqa: ARG002 - contract
        return _scores(pods)


def _scores(pods: Snapshot) -> FloatArray:
    return min_max(pods.waiting, np.isfinite(pods.waiting))
