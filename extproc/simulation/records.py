"""How one request of a simulation went."""

from math import nan

from extproc.simulation.calls import Call


class Record:
    """Times are seconds since the beginning; NaN: it did not come to that."""

    __slots__ = (
        "arrived_at", "attempts", "cached_tokens", "ended_at", "first_at", "output_tokens", "pod", "prompt_tokens",
        "status", "tenant",
    )  # fmt: skip

    def __init__(self, call: Call, now: float) -> None:
        self.arrived_at = now
        self.prompt_tokens = call.prompt_tokens
        self.output_tokens = call.output_tokens
        self.tenant = call.tenant
        self.first_at = nan
        self.ended_at = nan
        #: 0 until the end.
        self.status = 0
        #: Name of the pod that had it last; empty: none.
        self.pod = ""
        self.attempts = 0
        self.cached_tokens = 0

    @property
    def served(self) -> bool:
        return self.status == 200

    @property
    def ttft(self) -> float:
        return self.first_at - self.arrived_at

    @property
    def tpot(self) -> float:
        """NaN for an answer of one token."""
        return (self.ended_at - self.first_at) / (self.output_tokens - 1) if self.output_tokens > 1 else nan

    @property
    def seconds(self) -> float:
        return self.ended_at - self.arrived_at
