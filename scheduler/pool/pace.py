# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""How long a pod computes a prompt token, learnt from the times to first token that were seen there.

An observation is the time to first token over the tokens that had to be computed before it: the request's own, and
those ahead of it. What is kept is the running lower quartile of these rates, moved by a step of a fixed ratio per
observation: a request that waited for room in the KV cache, or behind traffic that the gateway does not know of, counts
as one observation too slow, however slow it was, and three of four may wait so. Were the pace taken from those, what a
cache holds would look dearer than any wait, and the pods that are full would get more. The speed of a machine does not
go out of date, so nothing ages.
"""

from math import exp

#: Seconds per token while nothing was observed in the whole pool: between an 8B model on one H100 that is busy and a
#: 32B model on two that does nothing else (1/15,928 s). The first observation replaces it.
UNKNOWN = 1e-4
#: Bounds of what is believed: from twenty times the fastest engine measured to a model on a CPU.
LEAST, MOST = 2e-6, 0.1
#: Tokens at which an observation counts half. What every request pays, however short (33 to 65 ms), is as much as some
#: hundred tokens' prefill: long ones are better evidence.
HALF_TOKENS = 2048.0
#: Least step, as logarithm of a ratio. 5 % follow a change of load within some 20 requests, and err by less than that.
STEP = 0.05
#: Steps up are so much of a step down: what the quartile balances, with one observation below it for three above.
RISE = 1.0 / 3.0
#: A pod within this ratio of the pool's pace is given the pool's: noise must not make one of equal pods the fastest,
#: to which all new prompts would go.
ALIKE = 1.25


class Pace:
    """Seconds per token of one pod, or of all."""

    __slots__ = ("seen", "value")

    def __init__(self) -> None:
        self.value = UNKNOWN
        #: Sum of the weights of the observations, 0-1 each.
        self.seen = 0.0

    def observe(self, seconds: float, tokens: float) -> None:
        """A first token came after `seconds`, before which `tokens` had to be computed."""
        if not (tokens > 0.0 and seconds > 0.0):
            # Or one of them is unknown.
            return
        rate = min(max(seconds / tokens, LEAST), MOST)
        weight = tokens / (tokens + HALF_TOKENS)
        if self.seen == 0.0:
            self.value = rate
        else:
            step = weight * max(1.0 / (self.seen + 1.0), STEP)
            # Not past the observation.
            if rate > self.value:
                self.value = min(self.value * exp(step * RISE), rate)
            else:
                self.value = max(self.value * exp(-step), rate)
        self.seen += weight

    def beside(self, pooled: "Pace") -> float:
        """The pace to use for this pod of a pool."""
        if self.seen < 1.0 or 1.0 / ALIKE < self.value / pooled.value < ALIKE:
            return pooled.value
        return self.value
