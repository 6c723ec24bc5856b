"""`queue`: towards the shortest engine queue."""

from typing import ClassVar

from scheduler.framework import Cycle, NoParams, PluginParams
from scheduler.scaling import fewest
from scheduler.types import FloatArray, Request, Snapshot


class Queue:
    """Score: waiting requests, min-max scaled; all equal: 100, unknown: 50."""

    name: ClassVar[str] = "queue"
    Params: ClassVar[type[PluginParams]] = NoParams

    def __init__(self, params: NoParams) -> None:
        pass

    def score(self, request: Request, pods: Snapshot, cycle: Cycle) -> FloatArray:  # noqa: ARG002 - contract
        return fewest(pods.waiting)
