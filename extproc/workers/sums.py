"""Pages of metrics of several processes as one.

Counters and histograms are added up; of a gauge, which shows one process's view, the largest is taken, except where
each process sees its own share. What a process counted before it was started again stays in the sums, also while it
is away: a counter that falls would be taken for one that began anew, and its whole value for new requests.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Final

#: Gauges of which the least is taken: one process that is cut off is to be seen.
_LEAST: Final = frozenset({"infer_gateway_sharing_up", "infer_gateway_discovery_up"})
#: Gauges of which each process has its own part.
_SHARES: Final = frozenset({"infer_gateway_streams", "infer_gateway_body_bytes"})
_COUNTED: Final = frozenset({"counter", "histogram", "summary"})
#: The gauge that has a series for every pod that is in the pool, or has requests in flight.
_PODS: Final = "infer_gateway_pod_in_flight"
_POD: Final = re.compile(r'[{,]pod="([^"]*)"')

Samples = dict[str, float]


class Sums:
    """Adds up, and remembers what processes that ended had counted."""

    def __init__(self) -> None:
        #: By process: which run of it was seen last, and what that had counted, by family.
        self._last: dict[str, tuple[str, dict[str, Samples]]] = {}
        #: What runs that are over had counted, by family.
        self._before: dict[str, Samples] = {}

    def page(self, pages: Mapping[str, tuple[str, str]]) -> str:
        """The page of all.

        Args:
            pages: by name of the process: identifier of its run, and its page in Prometheus' text
                format without time stamps.
        """
        families: dict[str, _Family] = {}
        for name, (run, text) in pages.items():
            counted = _read(text, families)
            last = self._last.get(name)
            if last is not None and last[0] != run:
                self._remember(last[1])
            self._last[name] = run, counted
        away = [counted for name, (_, counted) in self._last.items() if name not in pages]
        self._forget_pods(families, [self._before, *away])
        lines: list[str] = []
        for name, family in families.items():
            lines += family.comments
            samples = family.samples
            for gone in (self._before, *away):
                for series, value in gone.get(name, {}).items():
                    samples[series] = samples.get(series, 0.0) + value
            lines += [f"{series} {value!r}" for series, value in samples.items()]
        return "\n".join(lines) + "\n"

    def _remember(self, counted: Mapping[str, Samples]) -> None:
        for name, samples in counted.items():
            before = self._before.setdefault(name, {})
            for series, value in samples.items():
                before[series] = before.get(series, 0.0) + value

    def _forget_pods(self, families: "Mapping[str, _Family]", counted: Iterable[Mapping[str, Samples]]) -> None:
        """Series of pods that left must not pile up."""
        if _PODS not in families:
            return
        known = {found[1] for found in map(_POD.search, families[_PODS].samples) if found}
        for samples in chain.from_iterable(of.values() for of in counted):
            for series in [one for one in samples if (pod := _POD.search(one)) and pod[1] not in known]:
                del samples[series]


def restarts_page(restarts: Mapping[str, int]) -> str:
    """How often each process was started again, as a page."""
    name = "infer_gateway_process_restarts_total"
    lines = [
        f"# HELP {name} Times a process of the gateway ended by itself and was started again.",
        f"# TYPE {name} counter",
        *(f'{name}{{process="{process}"}} {count}' for process, count in restarts.items()),
    ]
    return "\n".join(lines) + "\n"


class _Family:
    __slots__ = ("comments", "counted", "least", "samples", "share")

    def __init__(self, name: str, kind: str, comments: list[str]) -> None:
        self.comments = comments
        self.counted = kind in _COUNTED
        self.share = name in _SHARES
        self.least = name in _LEAST
        self.samples: Samples = {}

    def add(self, series: str, value: float) -> None:
        before = self.samples.get(series)
        if before is None:
            self.samples[series] = value
        elif self.counted or self.share:
            self.samples[series] = before + value
        else:
            self.samples[series] = min(before, value) if self.least else max(before, value)


def _read(text: str, families: dict[str, _Family]) -> dict[str, Samples]:
    """Adds a page to `families`; returns what it counted, by family."""
    counted: dict[str, Samples] = {}
    comments: list[str] = []
    name = ""
    # Not `splitlines`, which also ends them at characters that a model's name may have.
    for line in text.rstrip("\n").split("\n"):
        if line.startswith("#"):
            comments.append(line)
            if line.startswith("# TYPE "):
                name, kind = line.removeprefix("# TYPE ").split(" ", 1)
                if name not in families:
                    families[name] = _Family(name, kind, comments)
                comments = []
            continue
        series, _, number = line.rpartition(" ")
        family = families[name]
        family.add(series, float(number))
        if family.counted:
            counted.setdefault(name, {})[series] = float(number)
    return counted
