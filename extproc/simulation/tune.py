"""`infer-gateway tune`: searches a configuration's numbers for a recorded trace, and validates the result.

Candidates are drawn at random around the configuration that is there. All see the first half of the trace with one
seed; the better ones see it with more. The best is then compared with the configuration that was there on the second
half, which no candidate has seen, with seeds of its own: a gain is only called one if every seed has it.
"""

from collections.abc import Callable, Mapping, Sequence
from math import exp, log
from random import Random
from statistics import median
from typing import Any, NamedTuple

import msgspec
import yaml

from extproc.config import GatewayConfig, loads
from extproc.errors import GatewayError
from extproc.simulation.run import FleetPlan
from extproc.simulation.scenario import Source, Task, run_all
from extproc.simulation.summary import MARGIN, Summary, ratio

#: What can be asked to be small.
GOALS = ("ttft_p90", "ttft_mean", "ttft_p99", "tpot_p90", "seconds_p90", "seconds_mean")
#: Arguments of least-cost: least and most of what is tried. Drawn evenly over their logarithms.
COST_RANGES: Mapping[str, tuple[float, float]] = {
    "interferenceShare": (0.05, 2.0),
    "requestSeconds": (0.005, 0.5),
    "kvUsageSeconds": (1.0, 60.0),
}
KV_FROM = (0.5, 0.6, 0.7, 0.8, 0.9)
#: Weights of other scorers that are tried.
WEIGHTS = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0)
#: Share of the candidates that are looked at with all seeds.
KEPT = 0.25
_RULE = "least-cost"


class TuneError(GatewayError):
    """There is nothing to be tuned, or to tune by."""


class Trial(NamedTuple):
    """A scheduler section, as YAML has it, and what it came to beside the one that was there: below 1 is better."""

    section: Mapping[str, Any]
    ratios: tuple[float, ...]

    @property
    def ratio(self) -> float:
        return median(self.ratios)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What the search came to."""

    #: Whether the gain is there with every seed of the half that was held out.
    holds: bool
    goal: str
    section: dict[str, Any]
    #: Goal beside the configuration that was there, by seed: below 1 is better.
    searched: tuple[float, ...]
    held_out: tuple[float, ...]
    #: The goal in seconds, medians on the half that was held out.
    before: float
    after: float
    tried: int

    def text(self) -> str:
        """For people: the gain, then the configuration as YAML."""
        name = self.goal.replace("_", " ").upper() if self.goal.startswith("t") else self.goal.replace("_", " ")
        said = (
            f"{name} on the half that was held out: {self.before:.3f} s before, {self.after:.3f} s with what was found"
        )
        by_seed = ", ".join(f"{one:.2f}x" for one in self.held_out)
        lines = [f"# {self.tried} configurations tried. {said}", f"# by seed: {by_seed}; 1.00x is no change"]
        if not self.holds:
            lines.append("# This is no gain that can be told from noise: keep the configuration that is there.")
            return "\n".join(lines) + "\n"
        lines.append("# on the half that was searched: " + ", ".join(f"{one:.2f}x" for one in self.searched))
        return "\n".join(lines) + "\n" + yaml.safe_dump({"scheduler": self.section}, sort_keys=False)


def space(config: GatewayConfig, rng: Random) -> Callable[[], dict[str, Any]]:
    """What draws candidates: the rule of least cost gets other prices, others get other weights.

    Raises:
        TuneError: there is but one scorer, and nothing of it to tune.
    """
    section = config.scheduler.config()
    scorers = None if section.scores_enabled is None else [ref.name for ref in section.scores_enabled]
    args = {entry.name: dict(entry.args) for entry in section.plugin_config}
    plugins: dict[str, Any] = {}
    if section.filters_enabled is not None:
        plugins["Filter"] = {"enabled": [*section.filters_enabled]}
    if scorers is None or scorers == [_RULE]:
        plugins.setdefault("Filter", {"enabled": []})
        plugins["Score"] = {"enabled": [{"name": _RULE}]}

        def prices() -> dict[str, Any]:
            drawn = {name: _rounded(exp(rng.uniform(log(low), log(high)))) for name, (low, high) in COST_RANGES.items()}
            own = args.get(_RULE, {}) | drawn | {"kvUsageFrom": rng.choice(KV_FROM)}
            return {"pluginConfig": _configs(args | {_RULE: own}), "plugins": plugins}

        return prices
    if len(scorers) < 2:
        raise TuneError(
            f"the one scorer {scorers[0]!r} has no weight that matters" if scorers else "there is no scorer"
        )
    names = scorers

    def weights() -> dict[str, Any]:
        while True:
            drawn = [{"name": name, "weight": rng.choice(WEIGHTS)} for name in names]
            if any(one["weight"] for one in drawn):
                return {"pluginConfig": _configs(args), "plugins": {**plugins, "Score": {"enabled": drawn}}}

    return weights


def tune(
    config: GatewayConfig,
    source: Source,
    plan: FleetPlan,
    *,
    goal: str,
    tries: int,
    seeds: int,
    seed: int,
    jobs: int,
    progress: Callable[[int], None] = lambda done: None,  # noqa: ARG005
) -> Found:
    """Searches.

    Args:
        config: that is there.
        source: of the requests; the first half is searched by, the second held out.
        plan: pods and gateways.
        goal: one of `GOALS`.
        tries: candidates.
        seeds: of the better candidates, and of the last comparison.
        seed: of the search.
        jobs: processes.
        progress: called with the number of simulations that are done.

    Raises:
        TuneError, TraceError, WorkloadError: nothing can be tuned, or by nothing.
    """
    rng = Random(seed)  # noqa: S311 - a search
    draw = space(config, rng)
    bench = _Bench(config, source, plan, goal, jobs, progress)
    first = [seed]
    trials = bench.beside([draw() for _ in range(tries)], first, half=1)
    trials.sort(key=lambda trial: trial.ratio)
    kept = [trial.section for trial in trials[: max(round(tries * KEPT), 1)]]
    best = min(bench.beside(kept, range(seed, seed + seeds), half=1), key=lambda trial: trial.ratio)
    # Seeds that no candidate was chosen by.
    others = range(seed + _APART, seed + _APART + seeds)
    (last,) = bench.beside([best.section], others, half=2)
    return Found(
        holds=max(last.ratios) < 1 - MARGIN,
        goal=goal,
        section=dict(best.section),
        searched=best.ratios,
        held_out=last.ratios,
        before=median(bench.base(one, 2) for one in others),
        after=median(bench.base(one, 2) * by for one, by in zip(others, last.ratios, strict=True)),
        tried=tries,
    )


#: Between the seeds of the search and those of the last comparison.
_APART = 10_000


class _Bench:
    """Simulations beside those of the configuration that is there, with the same seed."""

    def __init__(
        self,
        config: GatewayConfig,
        source: Source,
        plan: FleetPlan,
        goal: str,
        jobs: int,
        progress: Callable[[int], None],
    ) -> None:
        self._config = config
        self._source = source
        self._plan = plan
        self._goal = goal
        self._jobs = jobs
        self._progress = progress
        self._done = 0
        self._base: dict[tuple[int, int], Summary] = {}

    def base(self, seed: int, half: int) -> float:
        """The goal with the configuration that is there."""
        return self._base[seed, half].figures()[self._goal]

    def beside(self, sections: Sequence[Mapping[str, Any]], seeds: Sequence[int], half: int) -> list[Trial]:
        """A trial of each section. One that loses requests which were served before is as bad as can be."""
        missing = [seed for seed in seeds if (seed, half) not in self._base]
        source = msgspec.structs.replace(self._source, half=half)
        tasks = [Task("", self._config, source, self._plan, seed) for seed in missing]
        for section in sections:
            config = self._with(section)
            tasks += [Task("", config, source, self._plan, seed) for seed in seeds]
        summaries = iter(self._run(tasks))
        for seed in missing:
            self._base[seed, half] = next(summaries)
        return [
            Trial(section, tuple([self._beside(next(summaries), self._base[seed, half]) for seed in seeds]))
            for section in sections
        ]

    def _run(self, tasks: list[Task]) -> list[Summary]:
        found = []
        for outcome in run_all(tasks, self._jobs, lambda _task, _ended: None):
            self._done += 1
            self._progress(self._done)
            found.append(outcome.summary)
        return found

    def _beside(self, mine: Summary, base: Summary) -> float:
        if mine.served < base.served:
            return float("inf")
        return ratio(mine.figures()[self._goal], base.figures()[self._goal])

    def _with(self, section: Mapping[str, Any]) -> GatewayConfig:
        scheduler = loads(yaml.safe_dump({"scheduler": dict(section)}), "a candidate").config.scheduler
        return self._config.model_copy(update={"scheduler": scheduler})


def simulations(tries: int, seeds: int) -> int:
    """How many simulations a search takes, for a progress bar."""
    return 1 + tries + (seeds - 1) + max(round(tries * KEPT), 1) * seeds + 2 * seeds


def _configs(args: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{"name": name, "args": dict(of_one)} for name, of_one in args.items()]


def _rounded(value: float) -> float:
    """Two digits: more would exceed the measurement's precision."""
    return float(f"{value:.2g}")
