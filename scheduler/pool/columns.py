# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""The pool as arrays: a row per pod, an array per signal."""

import numpy as np

from scheduler.types import NO_ADAPTERS, Adapters, BoolArray, FloatArray, IntArray, Pod, Snapshot

# How the one array that holds all floats is divided. Values are NaN where they never were measured, times minus
# infinity.
_GAUGES, _MEASURED, _OWN = 3, 4, 3
_VALUES = _GAUGES + _MEASURED + _OWN
_UNTIL = slice(_VALUES, _VALUES + 1 + _MEASURED)
_ROWS = _VALUES + 1 + 2 * _MEASURED


class Measured:
    """A signal that has a time of its own: value, when it was measured, and up to when it counts as known."""

    __slots__ = ("at", "until", "value")

    def __init__(self, value: FloatArray, until: FloatArray, at: FloatArray) -> None:
        self.value = value
        self.until = until
        self.at = at

    def set(self, row: int, value: float, at: float, until: float) -> None:
        self.value[row] = value
        self.at[row] = at
        self.until[row] = until


class Columns:
    """Values known of the pods, current or not: `snapshot` leaves out values that are too old.

    Attributes are views into larger arrays: write to their elements.
    """

    __slots__ = (
        "_floats", "adapters", "engine_tpot", "engine_ttft", "gauges_until", "in_flight", "in_flight_tokens",
        "kv_tokens", "kv_usage", "own_slope", "own_tokens", "own_tpot", "own_ttft", "prefill", "running",
        "served", "waiting",
    )  # fmt: skip

    def __init__(self, size: int) -> None:
        self._floats = floats = np.full((_ROWS, size), np.nan)
        floats[_VALUES:] = -np.inf
        values, gauges_until, *times = floats[:_VALUES], floats[_VALUES], *floats[_VALUES + 1 :]
        #: The engine's gauges, the first two corrected for what happened since the scrape; and up to when they are
        #: known.
        self.waiting, self.running, self.kv_usage = values[:_GAUGES]
        self.gauges_until = gauges_until
        #: Means by the engine's histograms, and by what the gateway saw itself. `own_ttft` is the mean at a mean of
        #: `own_tokens` uncached tokens, and changes by `own_slope` per token.
        self.engine_ttft, self.engine_tpot, self.own_ttft, self.own_tpot = map(
            Measured, values[_GAUGES : _GAUGES + _MEASURED], times[:_MEASURED], times[_MEASURED:]
        )
        #: And the size of the KV cache, which does not go out of date while the engine runs.
        self.own_tokens, self.own_slope, self.kv_tokens = values[_GAUGES + _MEASURED :]
        self.adapters = [NO_ADAPTERS] * size
        counters: IntArray = np.zeros((3, size), np.int64)
        self.in_flight, self.in_flight_tokens, self.served = counters
        self.prefill: FloatArray = np.zeros((3, size))

    def forget(self, row: int) -> None:
        """All that was measured of a pod."""
        self._floats[:_VALUES, row] = np.nan
        self._floats[_VALUES:, row] = -np.inf
        self.adapters[row] = NO_ADAPTERS

    def copy_measured(self, row: int, other: "Columns", other_row: int) -> None:
        """All that was measured of a pod, from its row in other columns."""
        self._floats[:, row] = other._floats[:, other_row]  # noqa: SLF001 - of the same class
        self.adapters[row] = other.adapters[other_row]

    def known_until(self, now: float) -> float:
        """When the next of the values that are known at `now` ceases to be; infinity where none is."""
        until = self._floats[_UNTIL]
        until = until[until > now]
        return float(until.min()) if until.size else float("inf")

    def snapshot(self, pods: tuple[Pod, ...], now: float, tokens: float, resting: BoolArray | None = None) -> Snapshot:
        """The pods as they are at `now`, with `own_ttft` as for a request of so many uncached `tokens`."""
        fresh = self.gauges_until > now
        own_ttft = np.maximum(self.own_ttft.value + self.own_slope * (tokens - self.own_tokens), 0.0)
        return Snapshot(
            pods,
            waiting=np.where(fresh, self.waiting, np.nan),
            running=np.where(fresh, self.running, np.nan),
            kv_usage=np.where(fresh, self.kv_usage, np.nan),
            kv_tokens=self.kv_tokens.copy(),
            ttft=_newer(self.engine_ttft, self.engine_ttft.value, self.own_ttft, own_ttft, now),
            tpot=_newer(self.engine_tpot, self.engine_tpot.value, self.own_tpot, self.own_tpot.value, now),
            adapters=self._adapters_where(fresh),
            in_flight=self.in_flight,
            in_flight_tokens=self.in_flight_tokens,
            served=self.served,
            prefill=self.prefill,
            resting=resting,
        )

    def _adapters_where(self, fresh: BoolArray) -> tuple[Adapters, ...]:
        if fresh.all():
            return tuple(self.adapters)
        return tuple(
            [mine if known else NO_ADAPTERS for mine, known in zip(self.adapters, fresh.tolist(), strict=True)]
        )


def _newer(engine: Measured, engine_value: FloatArray, own: Measured, own_value: FloatArray, now: float) -> FloatArray:
    """Of two measurements of one signal, what is known and was measured last; NaN where neither is known."""
    engine_known, own_known = engine.until > now, own.until > now
    own_wins = own_known & ~(engine_known & (engine.at >= own.at))
    return np.where(own_wins, own_value, np.where(engine_known, engine_value, np.nan))
