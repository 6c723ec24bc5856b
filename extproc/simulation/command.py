"""`infer-gateway simulate`: from its options to what it prints."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from extproc.config import GatewayConfig, load, loads
from extproc.errors import GatewayError
from extproc.simulation import show
from extproc.simulation.fleet_file import plan_of
from extproc.simulation.policies import POLICIES
from extproc.simulation.scenario import Source, Task, run_all

#: Configurations that are compared where none is named.
DEFAULT_POLICIES = ("default", "page", "random", "least-request")


class OptionError(GatewayError):
    """Options that make no simulation."""


@dataclass(frozen=True)
class Options:
    """As on the command line."""

    source: Source
    configs: Sequence[str] = ()
    policies: Sequence[str] = ()
    pods: int = 8
    engine: str = "8b-h100"
    fleet: str | None = None
    gateways: int = 1
    delay: float | None = 0.002
    seed: int = 1
    seeds: int = 1
    jobs: int = 1
    json: bool = False
    html: Path | None = None
    plots: Path | None = None
    sets: Sequence[str] = field(default=())


def run(options: Options) -> None:
    """Simulates and prints.

    Raises:
        GatewayError: an option, a file or a configuration is wrong. `str()` describes the fault.
    """
    configs = configurations(options.configs, options.policies)
    plan = plan_of(options.fleet, options.pods, options.engine, options.gateways, options.delay)
    # A mistake is reported here at once, not by a worker process in the middle of its run.
    size = options.source.workload(options.seed).size
    tasks = [
        Task(name, config, options.source, plan, seed)
        for name, config in configs.items()
        for seed in range(options.seed, options.seed + options.seeds)
    ]
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console,
        transient=True, disable=not console.is_terminal,
    ) as bar:  # fmt: skip
        whole = bar.add_task(f"{options.source.name}: requests", total=size * len(tasks))
        counter = _Counter(bar, whole)
        outcomes = list(run_all(tasks, options.jobs, counter))
    comparison = show.Comparison(outcomes)
    if options.html is not None or options.plots is not None:
        from extproc.simulation.report import save

        save(comparison, options.source.name, len(plan.pods), html=options.html, folder=options.plots)
    if options.json:
        print(json.dumps({"workload": options.source.name, "pods": len(plan.pods), **comparison.as_json()}))
    else:
        out = Console(width=None if console.is_terminal else 200)
        out.print(f"{options.source.name}: {size:,} requests, {len(plan.pods)} pods", highlight=False)
        show.table(comparison, out)


def parameters(given: Sequence[str]) -> dict[str, float]:
    """`NAME=VALUE` as a mapping.

    Raises:
        OptionError: one is no such thing.
    """
    found: dict[str, float] = {}
    for one in given:
        name, _, value = one.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise OptionError(f"--set {one!r}: NAME=VALUE is wanted, with a number") from None
    return found


class _Counter:
    """Adds up what all tasks have done."""

    def __init__(self, bar: Progress, whole: TaskID) -> None:
        self._bar = bar
        self._whole = whole
        self._done: dict[tuple[str, int], int] = {}

    def __call__(self, task: Task, ended: int) -> None:
        self._done[task.name, task.seed] = ended
        self._bar.update(self._whole, completed=sum(self._done.values()))


@dataclass(frozen=True)
class TuneOptions:
    """As on the command line."""

    source: Source
    config: str | None = None
    pods: int = 8
    engine: str = "8b-h100"
    fleet: str | None = None
    gateways: int = 1
    delay: float | None = 0.002
    goal: str = "ttft_p90"
    tries: int = 40
    seed: int = 1
    seeds: int = 5
    jobs: int = 1
    json: bool = False


def run_tune(options: TuneOptions) -> None:
    """Searches and prints.

    Raises:
        GatewayError: an option, a file or a configuration is wrong. `str()` describes the fault.
    """
    from extproc.simulation import tune

    if options.goal not in tune.GOALS:
        raise OptionError(f"there is no goal {options.goal!r}: {', '.join(tune.GOALS)}")
    config = load(options.config, os.environ).config
    plan = plan_of(options.fleet, options.pods, options.engine, options.gateways, options.delay)
    options.source.workload(options.seed)
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console,
        transient=True, disable=not console.is_terminal,
    ) as bar:  # fmt: skip
        whole = bar.add_task("simulations", total=tune.simulations(options.tries, options.seeds))
        found = tune.tune(
            config, options.source, plan, goal=options.goal, tries=options.tries, seeds=options.seeds,
            seed=options.seed, jobs=options.jobs, progress=lambda done: bar.update(whole, completed=done),
        )  # fmt: skip
    print(json.dumps(msgspec.to_builtins(found)) if options.json else found.text())


def configurations(paths: Sequence[str], policies: Sequence[str]) -> dict[str, GatewayConfig]:
    """Configurations by what they are called: files first, in the order in which they were named.

    Raises:
        OptionError: there is no such policy, or two have one name.
        ConfigError: a file is wrong.
    """
    found: dict[str, GatewayConfig] = {}
    named = [*policies] if policies or paths else [*DEFAULT_POLICIES]
    if "all" in named:
        named = [*POLICIES]
    for path in paths:
        name = Path(path).name
        if name in found:
            name = path
        found[name] = load(path, os.environ).config
    for name in named:
        policy = POLICIES.get(name)
        if policy is None:
            raise OptionError(f"there is no policy {name!r}: {', '.join(POLICIES)}, all")
        if name in found:
            raise OptionError(f"two configurations are called {name!r}")
        found[name] = loads(policy.text, name).config
    return found
