# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""The result of a configuration: the plugins that take part in a cycle, and how they are run.

A plugin's mistakes stop here. It may raise, answer nonsense or take milliseconds: the cycle goes on without it, and
`on_fault` gets its name, the phase and the error.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from scheduler.framework import Cycle, Filter, PodWatcher, Preparer, Recorder, Reporter, Scorer
from scheduler.types import FloatArray, Pod, Request

#: Seconds. In-tree plugins take microseconds; all streams of the process wait while a plugin computes.
SLOW_SECONDS = 0.005
#: Slow runs in a row that bench a plugin. One or two are common when the machine is busy or memory is collected.
SLOW_RUNS = 3
#: A benched plugin rests for so many times as long as it last took: it costs the process at most 1 % of its time.
REST_FACTOR = 100.0

PREPARE, FILTER, SCORE, PICKED, LEFT = "prepare", "filter", "score", "picked", "left"


class SlowPlugin(Exception):
    """A plugin took longer than `SLOW_SECONDS`, once, or so often that it is left out for a while."""

    def __init__(self, seconds: float, rest: float) -> None:
        self.left_out = rest > 0
        super().__init__(f"took {seconds * 1000:.1f} ms" + (f"; left out for {rest:.1f} s" if rest else ""))


class BadAnswer(Exception):
    """A plugin answered what its contract does not allow."""


class OnFault(Protocol):
    def __call__(self, name: str, phase: str, error: Exception, /) -> None: ...


class Observe(Protocol):
    """Gives, once for each plugin and phase, what is to be called with the seconds of every run."""

    def __call__(self, name: str, phase: str, /) -> Callable[[float], None]: ...


def ignore_fault(name: str, phase: str, error: Exception, /) -> None:
    """For profiles whose faults are not reported."""


class Member:
    """One plugin in one phase."""

    __slots__ = ("benched_until", "call", "name", "observe", "phase", "scraped_only", "slow_runs")

    def __init__(self, name: str, phase: str, call: Callable[..., Any], *, scraped_only: bool = False) -> None:
        self.name = name
        self.phase = phase
        self.call = call
        #: The answer depends on scraped columns alone: one for all requests of a snapshot.
        self.scraped_only = scraped_only
        #: Takes the seconds of each run.
        self.observe: Callable[[float], None] | None = None
        self.slow_runs = 0
        self.benched_until = float("-inf")


#: Result of `Profile.run` for a plugin without a valid answer.
FAULTY: Any = object()


class Profile:
    """The plugins of one configuration, ready for `scheduler.cycle.schedule`. One thread only."""

    def __init__(
        self,
        *,
        plugins: Mapping[str, Any],
        arguments: Mapping[str, object] | None = None,
        filters: Sequence[str] = (),
        scorers: Sequence[tuple[str, float]] = (),
        on_fault: OnFault = ignore_fault,
        observe: Observe | None = None,
        clock: Callable[[], float] | None = None,
        cpu_clock: Callable[[], float] | None = None,
    ) -> None:
        """Puts plugins together.

        Args:
            plugins: every plugin that was built, by name. All of them prepare, record and watch, if they can.
            arguments: those that each plugin was built with, by name.
            filters: names, in the order in which they run; those that only prefer run last.
            scorers: names and weights.
            on_fault: called with every fault of a plugin.
            observe: gives for each plugin the observer of the time of its runs; needs `clock`.
            clock: monotonic seconds. Without one, slow plugins are not detected and nothing is measured.
            cpu_clock: seconds of CPU of this thread. With it, a plugin that was slow once is slow again only where it
                computed for so long: what a busy machine, or a collection of garbage, takes is not its doing.

        Raises:
            ValueError: `observe` without `clock`.
        """
        if observe is not None and clock is None:
            raise ValueError("observe needs a clock")
        self.plugins = dict(plugins)
        self.arguments = dict(arguments or {})
        self.on_fault = on_fault
        self.clock = clock
        self.cpu_clock = cpu_clock
        every = self.plugins.items()
        self.preparers = [Member(name, PREPARE, p.prepare) for name, p in every if isinstance(p, Preparer)]
        self.filters = [Member(name, FILTER, _filter(plugins[name])) for name in filters if not _prefers(plugins[name])]
        #: Filters that only prefer. They run after the others, whatever order they are written in.
        self.preferences = [Member(name, FILTER, _filter(plugins[name])) for name in filters if _prefers(plugins[name])]
        self.scorers = [
            Member(name, SCORE, _scorer(plugins[name]), scraped_only=_scraped_only(plugins[name]))
            for name, _ in scorers
        ]
        self.recorders = [Member(name, PICKED, p.picked) for name, p in every if isinstance(p, Recorder)]
        self.watchers = [Member(name, LEFT, p.left) for name, p in every if isinstance(p, PodWatcher)]
        if observe is not None:
            for member in (*self.preparers, *self.filters, *self.preferences, *self.scorers, *self.recorders):
                member.observe = observe(member.name, member.phase)
        self.weights: dict[str, float] = dict(scorers)
        self.scorer_names = tuple(self.weights)
        #: Column of weights, or None where each is 1 and multiplying would change nothing.
        self.weight_column: FloatArray | None = None
        if any(weight != 1 for weight in self.weights.values()):
            self.weight_column = np.array([*self.weights.values()], np.float64).reshape(-1, 1)

    def run(self, member: Member, request: Request, subject: object, cycle: Cycle) -> Any:
        """The plugin's answer, or `FAULTY` where it raised or is benched for being slow."""
        clock = self.clock
        if clock is None:
            try:
                return member.call(request, subject, cycle)
            except Exception as error:  # noqa: BLE001 - whatever a plugin raises, the request is to be served
                self.on_fault(member.name, member.phase, error)
                return FAULTY
        started = clock()
        if started < member.benched_until:
            return FAULTY
        # Read only for a suspected plugin: the reading costs as much as a small plugin.
        cpu_clock = self.cpu_clock if member.slow_runs else None
        cpu = cpu_clock() if cpu_clock is not None else 0.0
        try:
            answer = member.call(request, subject, cycle)
        except Exception as error:  # noqa: BLE001 - as above
            self.on_fault(member.name, member.phase, error)
            answer = FAULTY
        ended = clock()
        seconds = ended - started
        if member.observe is not None:
            member.observe(seconds)
        if seconds < SLOW_SECONDS or (cpu_clock is not None and cpu_clock() - cpu < SLOW_SECONDS):
            member.slow_runs = 0
        else:
            self._slow(member, seconds, ended)
        return answer

    def left(self, pod: Pod) -> None:
        """Notifies the plugins that a pod is gone or was restarted."""
        for member in self.watchers:
            try:
                member.call(pod)
            except Exception as error:  # noqa: BLE001 - as above
                self.on_fault(member.name, LEFT, error)

    def statistics(self) -> dict[str, Mapping[str, float]]:
        """Gauges of the plugins that have any, by plugin: `{"prefix-cache": {"entries": 1200.0, …}}`."""
        return {name: plugin.statistics() for name, plugin in self.plugins.items() if isinstance(plugin, Reporter)}

    def _slow(self, member: Member, seconds: float, now: float) -> None:
        member.slow_runs += 1
        rest = seconds * REST_FACTOR if member.slow_runs >= SLOW_RUNS else 0.0
        if rest:
            member.benched_until = now + rest
        self.on_fault(member.name, member.phase, SlowPlugin(seconds, rest))


def _filter(plugin: Filter) -> Callable[..., Any]:
    return plugin.keep


def _prefers(plugin: Filter) -> bool:
    return bool(getattr(plugin, "prefers", False))


def _scorer(plugin: Scorer) -> Callable[..., Any]:
    return plugin.score


def _scraped_only(plugin: Scorer) -> bool:
    return bool(getattr(plugin, "scraped_only", False))
