"""Priorities of requests, by the objective that a header names."""

from pydantic import Field

from extproc.config.fields import Section
from scheduler.config import BOUNDS, Bounds


class ObjectivesConfig(Section):
    """How urgent requests are behind a foreign data plane: x-llm-d-inference-objective names their objective."""

    priorities: dict[str, int] = Field(
        default={},
        description="Objective → priority, 0 where it is not known. Below 0: its requests get a 429 while every pod"
        " is over a bound. They come before what `watch` finds.",
    )
    watch: bool = Field(
        default=False,
        description="Whether InferenceObjectives are watched, in the namespace and at the API server of"
        " endpoints.kubernetes.",
    )
    max_waiting: float = Field(
        default=BOUNDS.waiting, ge=0, le=1e6, description="Bound: requests that wait in the engine of a pod."
    )
    max_kv_usage: float = Field(
        default=BOUNDS.kv_usage, ge=0, le=1, description="Bound: used share of a pod's KV cache, 0-1."
    )

    def bounds(self) -> Bounds:
        """What a pod may have on hand."""
        return Bounds(self.max_waiting, self.max_kv_usage)
