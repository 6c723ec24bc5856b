# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""Counters and histograms for the request path, exposed through prometheus_client.

Its own take 2 µs an update, with locks that one thread does not need; a request makes a dozen. These take a fifth
(`bench/hot_path.py`).
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Counters(Collector):
    """A counter with labels. `add` takes the label values as one tuple."""

    def __init__(self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry) -> None:
        self._name, self._text, self._labels = name, text, tuple(labels)
        self._values: dict[tuple[str, ...], float] = {} if labels else {(): 0.0}
        registry.register(self)

    def add(self, labels: tuple[str, ...], amount: float = 1.0) -> None:
        """Adds `amount`, which is not negative."""
        values = self._values
        values[labels] = values.get(labels, 0.0) + amount

    def forget(self, place: int, value: str) -> None:
        """Drops every count whose label at `place` has that value."""
        for labels in [labels for labels in self._values if labels[place] == value]:
            del self._values[labels]

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        yield family


class Distribution:
    """The observations of one histogram under one set of labels."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        #: Per bucket, not cumulated; the last is for what is over all bounds.
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class Histograms(Collector):
    """A histogram with labels. `of` gives the distribution under some: keep it, or ask again."""

    def __init__(
        self, name: str, text: str, bounds: Sequence[float], labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        self._name, self._text, self._labels = name, text, tuple(labels)
        self._bounds = tuple(bounds)
        self._marks = [*map(floatToGoString, self._bounds), "+Inf"]
        self._children: dict[tuple[str, ...], Distribution] = {}
        if not labels:
            self.of()
        registry.register(self)

    def of(self, *labels: str) -> Distribution:
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = Distribution(self._bounds)
        return child

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, child in self._children.items():
            seen = 0
            buckets = []
            for mark, count in zip(self._marks, child.counts, strict=True):
                seen += count
                buckets.append((mark, float(seen)))
            family.add_metric(labels, buckets, child.total)
        yield family
