"""The pods of a simulation: engines that come, fail and go, and what their metrics pages say."""

from collections.abc import Callable, Mapping, Sequence
from math import inf

import msgspec

from extproc.simulation.engine import BEGAN, Engine, Job
from extproc.simulation.events import Events
from modelsim.profile import BLOCK_SIZE, EngineConfig
from scheduler.pool.signals import Sample
from scheduler.types import Adapters, Pod


class PodPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One pod, and what becomes of it. Times are seconds since the beginning; infinite: never."""

    name: str
    engine: EngineConfig
    labels: Mapping[str, str] = {}
    #: Is there, empty, from then on.
    joins: float = 0.0
    #: Gets nothing new from then on; what it has, it ends.
    leaves: float = inf
    #: Crashes: everything that it has is lost, connections are refused …
    fails: float = inf
    #: … until then, when it is there again, empty.
    returns: float = inf


class Refused(Exception):
    """No process listens at the pod's address."""


class SimulatedPod:
    """An engine under an address.

    Args:
        pod: as discovery knows it.
        config: of its engine.
        events: the simulation's.
        told: called with each job at its first token (True) and at its end (False).
        lost: called with each job that a crash ended.
    """

    def __init__(
        self,
        pod: Pod,
        config: EngineConfig,
        events: Events,
        told: Callable[[Job, bool], None],
        lost: Callable[[Job], None],
    ) -> None:
        self.pod = pod
        self.engine = Engine(config)
        self.alive = True
        self.served = 0
        #: Time since which nothing that was asked for counts: a crash makes it another engine.
        self.starts = 0
        self._events = events
        self._told = told
        self._lost = lost
        self._jobs: dict[Job, None] = {}
        self._wake_at = inf

    def submit(self, job: Job) -> None:
        """Raises Refused where it is down."""
        if not self.alive:
            raise Refused(self.pod.address)
        self._jobs[job] = None
        self.served += 1
        self.engine.submit(job, self._events.now)
        self._pump()

    def abort(self, job: Job) -> None:
        if self._jobs.pop(job, self) is None:
            self.engine.abort(job, self._events.now)
            self._pump()

    def crash(self) -> None:
        self.alive = False
        self.starts += 1
        jobs, self._jobs = self._jobs, {}
        self.engine = Engine(self.engine.config)
        self._wake_at = inf
        for job in jobs:
            self._lost(job)

    def come_back(self) -> None:
        self.alive = True

    def _pump(self) -> None:
        for what, job, _ in self.engine.advance(self._events.now):
            first = what == BEGAN
            if not first:
                del self._jobs[job]
            self._told(job, first)
        moment = self.engine.next_event()
        if moment != self._wake_at:
            self._wake_at = moment
            self._events.at(moment, self._wake, moment, self.starts)

    def _wake(self, moment: float, starts: int) -> None:
        # Another moment may have taken this one's place.
        if moment == self._wake_at and starts == self.starts:
            self._wake_at = inf
            self._pump()


class PageReader:
    """What a gateway's scrapes say of one pod: the page of its engine, compared with the page before.

    It is what `scheduler.pool.signals.SignalReader` reads of `modelsim`'s page, without writing the page.
    """

    def __init__(self, pod: SimulatedPod) -> None:
        self._pod = pod
        self._starts = -1
        self._before = (0, 0.0, 0, 0.0)

    def read(self, now: float) -> Sample:
        """Raises Refused where the pod is down."""
        pod = self._pod
        if not pod.alive:
            raise Refused(pod.pod.address)
        engine = pod.engine
        engine.settle(now)
        before, totals = self._before, (engine.ttft_count, engine.ttft_sum, engine.tpot_count, engine.tpot_sum)
        first, self._starts, self._before = self._starts < 0, pod.starts, totals
        # As by the page's histograms: the engine is known to be another by a count that went back.
        restarted = not first and (totals[0] < before[0] or totals[2] < before[2])
        adapters = None
        if engine.config.max_loras:
            running, waiting = engine.adapters
            adapters = _adapters(tuple(running), tuple(waiting), engine.config.max_loras)
        return Sample(
            waiting=float(engine.waiting),
            running=float(engine.running),
            kv_usage=engine.kv.usage,
            ttft=None if first else _mean(totals[1], totals[0], before[1], before[0]),
            tpot=None if first else _mean(totals[3], totals[2], before[3], before[2]),
            first_tokens=None if first else _new(totals[0], before[0]),
            kv_tokens=float(engine.config.num_blocks * BLOCK_SIZE),
            adapters=adapters,
            restarted=restarted,
        )


#: By capacity: the usual answer, made once.
_NO_ADAPTERS_OF: dict[int, Adapters] = {}


def addresses(count: int) -> Sequence[str]:
    """An address for each of `count` pods, never connected to."""
    return [f"127.0.{1 + index // 250}.{1 + index % 250}:8000" for index in range(count)]


def _mean(total: float, count: int, total_before: float, count_before: int) -> float | None:
    if count < count_before:
        total_before, count_before = 0.0, 0
    return (total - total_before) / (count - count_before) if count > count_before else None


def _new(count: int, before: int) -> float | None:
    return float(count if count < before else count - before) or None


def _adapters(running: tuple[str, ...], waiting: tuple[str, ...], capacity: int) -> Adapters:
    if running or waiting:
        return Adapters(running=frozenset(running), waiting=frozenset(waiting), capacity=capacity)
    if capacity not in _NO_ADAPTERS_OF:
        _NO_ADAPTERS_OF[capacity] = Adapters(capacity=capacity)
    return _NO_ADAPTERS_OF[capacity]
