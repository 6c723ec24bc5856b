# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""Estimates from observations that come one by one and lose weight as they age.

An observation made one half-life ago counts half. Nothing here reads a clock: `now` is an argument, in monotonic
seconds; it may go back a little between calls (then nothing has aged).
"""

from math import inf, nan

#: Seconds. A queue builds and drains within seconds, and an estimate must follow it; one answer is very unlike the
#: next, and an estimate must average over them. With one request a second this averages over the last 14.
HALF_LIFE = 10.0

#: Seconds after the newest observation for which an estimate is known: three half-lives. Then the pod is unknown
#: again, so that one that was slow once gets another try, and one that was fast once does not live on its name.
KNOWN_FOR = 3 * HALF_LIFE

#: How many observations of a pod weigh as much as what all pods have in common (see `DecayingLine.slope`).
_PRIOR_OBSERVATIONS = 2.0

#: Square of x, i.e. square tokens. Prompts that are alike to a token give no slope: their variance is
#: rounding.
_LEAST_VARIANCE = 1.0


class DecayingMean:
    """The mean of what was observed lately."""

    __slots__ = ("at", "value", "weight")

    def __init__(self) -> None:
        #: When the newest observation was made.
        self.at = -inf
        self.value = nan
        self.weight = 0.0

    def observe(self, value: float, now: float) -> None:
        self.weight = self.weight * _decay(now - self.at) + 1.0
        self.at = now
        self.value = value if self.weight == 1.0 else self.value + (value - self.value) / self.weight


class PooledSlope:
    """The slope of the `DecayingLine`s of all pods together, and the mean x of all."""

    __slots__ = ("at", "covariance", "mean_x", "variance", "weight")

    def __init__(self) -> None:
        self.at = -inf
        self.weight = 0.0
        self.mean_x = 0.0
        #: Times the weight, and around the mean of the pod that each observation was made at: pods differ in what they
        #: pay for any request and in the prompts that they get, and neither must look like a slope.
        self.variance = 0.0
        self.covariance = 0.0

    def observe(self, x: float, variance: float, covariance: float, now: float) -> None:
        decay = _decay(now - self.at)
        self.at = now
        self.weight = self.weight * decay + 1.0
        self.mean_x += (x - self.mean_x) / self.weight
        self.variance = self.variance * decay + variance
        self.covariance = self.covariance * decay + covariance


class DecayingLine:
    """Least squares of y over x on what was observed lately: y = base + slope·x, with a slope of at least 0.

    For time to first token over the prompt tokens that no cache held: the slope is the time per token of prefill, the
    base is what every request pays (queue, scheduling, first decode).
    """

    __slots__ = ("_covariance", "_pooled", "_variance", "at", "mean_x", "mean_y", "weight")

    def __init__(self, pooled: PooledSlope) -> None:
        self._pooled = pooled
        self.at = -inf
        self.weight = 0.0
        self.mean_x = 0.0
        self.mean_y = 0.0
        # Both times the weight.
        self._variance = 0.0
        self._covariance = 0.0

    def observe(self, x: float, y: float, now: float) -> None:
        decay = _decay(now - self.at)
        self.at = now
        self.weight = weight = self.weight * decay + 1.0
        # West's update of weighted moments: no differences of large sums.
        before = x - self.mean_x
        self.mean_x += before / weight
        self.mean_y += (y - self.mean_y) / weight
        variance, covariance = before * (x - self.mean_x), before * (y - self.mean_y)
        self._variance = self._variance * decay + variance
        self._covariance = self._covariance * decay + covariance
        self._pooled.observe(x, variance, covariance, now)

    def slope(self) -> float:
        """Seconds per token, drawn towards that of all pods.

        A pod whose prompts were all of one length gives no slope, and with two of almost one length it gives an absurd
        one. The fewer and the more alike its prompts were, the more it is taken to be like the others.
        """
        pooled = self._pooled
        if pooled.weight == 0:
            return 0.0
        share = _PRIOR_OBSERVATIONS / pooled.weight
        variance = self._variance + share * pooled.variance
        covariance = self._covariance + share * pooled.covariance
        enough = variance > _LEAST_VARIANCE * (self.weight + _PRIOR_OBSERVATIONS)
        return max(covariance / variance, 0.0) if enough else 0.0


def _decay(age: float) -> float:
    """The weight that is left at `age` seconds (infinite before the first observation)."""
    return 1.0 if age <= 0 else 0.5 ** (age / HALF_LIFE)
