"""What is simulated, as values that can be sent to another process: a workload, a fleet, configurations, seeds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from inspect import signature
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec

from extproc.config import GatewayConfig
from extproc.simulation import trace, workloads
from extproc.simulation.calls import Workload
from extproc.simulation.run import FleetPlan, Result, Simulation
from extproc.simulation.summary import Summary, by_tenant, summarize
from extproc.simulation.trace import BLOCK_TOKENS, Trace
from extproc.simulation.workloads import WorkloadError

#: Generated workloads by name.
GENERATED: Mapping[str, Callable[..., Workload]] = {
    "agents": workloads.Agents,
    "shared-prefixes": workloads.shared_prefixes,
    "closed-loop": workloads.ClosedLoop,
    "unique": workloads.unique,
}


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where requests come from: a trace in a file, or a generated workload with parameters of its own."""

    path: str = ""
    block_tokens: int = BLOCK_TOKENS
    #: Seconds over which requests of one moment of a trace are spread.
    spread: float = 0.0
    generated: str = ""
    parameters: Mapping[str, float] = {}
    #: Divides the times of a trace.
    rate: float = 1.0
    #: 1 or 2: that half of a trace's time alone. A generated workload that is no trace has no halves: other seeds make
    #: other requests.
    half: int = 0

    @property
    def name(self) -> str:
        return self.generated or Path(self.path).name

    def workload(self, seed: int) -> Workload:
        """A workload, which can be begun once.

        Raises:
            TraceError: the file is wrong.
            WorkloadError: a parameter is.
        """
        if self.generated:
            return self._shaped(generated(self.generated, self.parameters, seed), seed)
        return self._shaped(trace.read(Path(self.path), self.block_tokens), seed)

    def _shaped(self, workload: Workload, seed: int) -> Workload:
        if not isinstance(workload, Trace):
            return workload
        if self.rate != 1.0:
            workload = workload.faster(self.rate)
        if self.spread:
            workload = workload.spread(self.spread, Random(seed))  # noqa: S311 - a simulation
        if self.half:
            workload = workload.halves()[self.half - 1]
        return workload


def generated(name: str, parameters: Mapping[str, float], seed: int) -> Workload:
    """A generated workload.

    Raises:
        WorkloadError: there is none of that name, or a parameter is wrong.
    """
    make = GENERATED.get(name)
    if make is None:
        raise WorkloadError(f"there is no workload {name!r}: {', '.join(GENERATED)}")
    known = {
        key.replace("_", "-"): (key, one.default)
        for key, one in signature(make).parameters.items()
        if isinstance(one.default, int | float)
    }
    given: dict[str, Any] = {}
    for key, value in parameters.items():
        if key not in known:
            raise WorkloadError(f"{name} has no parameter {key!r}: {', '.join(known)}")
        argument, default = known[key]
        if value <= 0 or (isinstance(default, int) and value != int(value)):
            raise WorkloadError(f"{key} must be a{' whole' if isinstance(default, int) else ''} number above 0")
        given[argument] = type(default)(value)
    return make(Random(seed), **given)  # noqa: S311 - a simulation


class Task(NamedTuple):
    """One simulation."""

    name: str
    config: GatewayConfig
    source: Source
    plan: FleetPlan
    seed: int


class Outcome(NamedTuple):
    """What is kept of one: records are too many to be sent about."""

    name: str
    seed: int
    summary: Summary
    tenants: dict[str, Summary]
    faults: dict[str, int]
    #: Times to first token in their order of arrival, for plots: (arrival, TTFT), seconds.
    ttft: list[tuple[float, float]]


def run(task: Task, progress: Callable[[int], None] = lambda ended: None) -> Outcome:  # noqa: ARG005
    """Does one task. Raises what `Source.workload` raises."""
    workload = task.source.workload(task.seed)
    result = Simulation(task.config, workload, task.plan, seed=task.seed, progress=progress).run()
    return outcome(task, result)


def outcome(task: Task, result: Result) -> Outcome:
    pods = len(task.plan.pods)
    return Outcome(
        task.name,
        task.seed,
        summarize(result.records, result.seconds, pods),
        by_tenant(result.records, result.seconds, pods),
        result.faults,
        sorted((record.arrived_at, record.ttft) for record in result.records if record.served),
    )


def run_all(tasks: Sequence[Task], jobs: int, progress: Callable[[Task, int], None]) -> Iterator[Outcome]:
    """Runs tasks in `jobs` processes, outcomes in order. `progress` gets a task and its count of ended requests."""
    if jobs == 1:
        for task in tasks:
            yield run(task, lambda ended, task=task: progress(task, ended))  # type: ignore[misc]
        return
    with ProcessPoolExecutor(jobs) as pool:
        for task, done in zip(tasks, pool.map(run, tasks), strict=True):
            progress(task, done.summary.requests)
            yield done
