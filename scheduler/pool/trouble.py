# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""A pod that fails is left alone for a while: it would have the fewest requests in flight, and be picked for it.

Consecutive failures trip a pod, as in Envoy's outlier detection, which cannot help here: a pod that is named is used.
It rests, is tried with one request when the rest is over, and rests twice as long if that fails too.
"""

#: Failures in a row. One or two may be the request's own fault.
TRIP = 3
#: Seconds of the first rest: an engine that crashed takes longer to come back, a hiccup less.
FIRST_REST = 2.0
#: Seconds of the longest rest. A pod that is well again is noticed within this.
MAX_REST = 60.0


class Trouble:
    """Failures of one pod. All times are monotonic seconds."""

    __slots__ = ("failures", "rest", "until")

    def __init__(self) -> None:
        #: In a row.
        self.failures = 0
        #: The last rest, or 0 for a pod that had none since it was last well.
        self.rest = 0.0
        #: Until when it rests.
        self.until = 0.0

    def failed(self, now: float) -> bool:
        """A request failed at the pod. Returns whether a rest begins."""
        self.failures += 1
        if now < self.until or (self.failures < TRIP and not self.rest):
            # Requests that were under way when the rest began are no new evidence.
            return False
        self.rest = min(self.rest * 2, MAX_REST) if self.rest else FIRST_REST
        self.until = now + self.rest
        return True

    def succeeded(self) -> bool:
        """A request was answered. Returns whether there was any trouble."""
        if not self.failures:
            return False
        self.failures = 0
        self.rest = self.until = 0.0
        return True
