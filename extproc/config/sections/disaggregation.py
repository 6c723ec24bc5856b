"""Prompts computed by other pods than those that answer."""

from typing import TYPE_CHECKING

from pydantic import Field

from extproc.config.fields import Section, Text

if TYPE_CHECKING:
    from scheduler.disaggregation import Disaggregation


class DisaggregationConfig(Section):
    """Pods that compute prompts for others (prefill), and pods that answer (decode). On with `thresholdTokens`."""

    threshold_tokens: int | None = Field(
        default=None,
        ge=0,
        le=10**9,
        description="Prompt tokens: requests of which the pod that answers would have to compute more go through a"
        " prefill pod. Left out: none does.",
    )
    label: Text = Field(
        default="llm-d.ai/role",
        description="Label of pods whose value is their role: prefill, decode or both. Without it, a pod does both.",
    )

    def roles(self) -> "Disaggregation | None":
        """None: each request is one pod's."""
        from scheduler.disaggregation import Disaggregation

        threshold = self.threshold_tokens
        return None if threshold is None else Disaggregation(label=self.label, threshold=threshold)
