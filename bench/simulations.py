"""The default configuration beside other gateways' rules, by simulation, and where a target is missed.

    .venv/bin/python bench/simulations.py [--seeds 5] [--jobs 2] [--only NAME]

Set-ups: chats (Mooncake's synthetic trace), agents, shared prefixes (llm-d's), Kthena's benchmark; then other loads,
engines and sizes. Deterministic: the same figures on every machine.
"""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from extproc.config import loads
from extproc.simulation import profiles
from extproc.simulation.fleet import PodPlan
from extproc.simulation.policies import POLICIES
from extproc.simulation.run import FleetPlan
from extproc.simulation.scenario import Outcome, Source, Task, run_all
from extproc.simulation.summary import Figure, over_seeds

ROOT = Path(__file__).resolve().parents[1]
TRACE = str(ROOT / "tests" / "data" / "traces" / "mooncake-synthetic.jsonl.gz")
OURS = "default"
PEERS = ("least-request", "reference", "smg", "dynamo")
EVERY = (OURS, "page", "random", *PEERS)
#: Seconds over which arrivals of one moment are spread, so that seeds differ.
SPREAD = 1.0


class SetUp(NamedTuple):
    """A workload and a fleet."""

    source: Source
    pods: int
    engine: str = "8b-h100"
    #: Of every second pod.
    speed: float = 1.0
    policies: tuple[str, ...] = EVERY

    def plan(self) -> FleetPlan:
        engines = [profiles.find(self.engine), profiles.at_speed(profiles.find(self.engine), self.speed)]
        return FleetPlan(
            pods=tuple(PodPlan(name=f"pod-{index + 1}", engine=engines[index % 2]) for index in range(self.pods))
        )


def chat(rate: float = 1.0) -> Source:
    return Source(path=TRACE, spread=SPREAD, rate=rate)


def shared(rate: float, groups: int = 150) -> Source:
    return Source(generated="shared-prefixes", parameters={"rate": rate, "groups": groups})


def agents(conversations: int) -> Source:
    return Source(generated="agents", parameters={"conversations": conversations})


def unique(rate: float) -> Source:
    return Source(generated="unique", parameters={"rate": rate})


MAIN = {
    "chat, 12 pods": SetUp(chat(), 12),
    "chat, 16 pods": SetUp(chat(), 16),
    "agents, 8 pods": SetUp(agents(120), 8),
    "shared prefixes, 8 pods of 32B": SetUp(shared(20.0), 8, "32b-2xh100"),
    "Kthena's closed loop, 3 pods": SetUp(Source(generated="closed-loop"), 3),
}
_FEW = (OURS, *PEERS)
MORE = {
    **{f"chat, 16 pods, {rate}x its rate": SetUp(chat(rate), 16, policies=_FEW) for rate in (0.7, 0.85, 1.15, 1.3)},
    "chat, 16 pods of 32B": SetUp(chat(2.0), 16, "32b-2xh100", policies=_FEW),
    "chat, 20 pods of two speeds": SetUp(chat(), 20, speed=0.5, policies=_FEW),
    "chat, 64 pods, 4x its rate": SetUp(chat(4.0), 64, policies=_FEW),
    "agents, 2 pods": SetUp(agents(30), 2, policies=_FEW),
    "agents, 64 pods": SetUp(agents(960), 64, policies=_FEW),
    "agents, 10 pods of two speeds": SetUp(agents(120), 10, speed=0.5, policies=_FEW),
    **{f"shared prefixes, {rate:g}/s": SetUp(shared(rate), 8, "32b-2xh100", policies=_FEW) for rate in (12, 16, 22)},
    "shared prefixes, 2 pods": SetUp(shared(5.0, 38), 2, "32b-2xh100", policies=_FEW),
    # 4,444 prompt tokens a second and pod of the 8B: 2,048 a request.
    **{
        f"unique prompts, {load:.0%} of what 8 pods can do": SetUp(unique(load * 8 * 4444 / 2048), 8, policies=_FEW)
        for load in (0.6, 0.8, 1.0)
    },
}


def measure(set_up: SetUp, seeds: int, jobs: int) -> dict[str, list[Outcome]]:
    tasks = [
        Task(name, loads(POLICIES[name].text, name).config, set_up.source, set_up.plan(), seed)
        for name in set_up.policies
        for seed in range(1, seeds + 1)
    ]
    found: dict[str, list[Outcome]] = {}
    for outcome in run_all(tasks, jobs, lambda _task, _ended: None):
        found.setdefault(outcome.name, []).append(outcome)
    return found


def row(name: str, figures: Mapping[str, Figure]) -> str:
    ttft, last, tpot = figures["ttft_p90"], figures["ttft_p99"], figures["tpot_p90"]
    return (
        f"| {name} | {figures['ttft_mean'].median:.2f} | {ttft.median:.2f} ({ttft.least:.2f}-{ttft.most:.2f}) "
        f"| {last.median:.2f} | {tpot.median * 1000:.0f} | {figures['hit_rate'].median:.1%} "
        f"| {figures['requests_per_second'].median:.2f} | {figures['refused'].median + figures['failed'].median:.0f} |"
    )


def best(figures: Mapping[str, Mapping[str, Figure]], key: str) -> float:
    """The best peer's median."""
    return min(figures[name][key].median for name in PEERS if not math.isnan(figures[name][key].median))


def verdict(text: str, value: float, most: float) -> str:
    return f"{'ok    ' if value <= most else 'MISSED'} {text}: {value:.2f} (at most {most:g})"


def targets(name: str, figures: Mapping[str, Mapping[str, Figure]]) -> list[str]:
    mine = figures[OURS]
    p90, p99 = mine["ttft_p90"].median, mine["ttft_p99"].median
    tpot = verdict("TPOT p90, of the best peer's", mine["tpot_p90"].median / best(figures, "tpot_p90"), 1.05)
    lost = mine["refused"].most + mine["failed"].most
    served = verdict("requests refused or failed, any seed", lost, 0)
    if name not in MAIN:
        return [verdict("TTFT p90, of the best peer's", p90 / best(figures, "ttft_p90"), 1.05), served]
    if name.startswith("chat"):
        return [
            verdict("TTFT p90, of the best peer's", p90 / best(figures, "ttft_p90"), 0.9),
            verdict("TTFT p90, of the page's weights'", p90 / figures["page"]["ttft_p90"].median, 0.7),
            tpot,
            served,
        ]
    if name.startswith("agents"):
        return [
            verdict("TTFT p90, of the best peer's", p90 / best(figures, "ttft_p90"), 1.0),
            verdict("TTFT p99, of the best peer's", p99 / best(figures, "ttft_p99"), 0.4),
            tpot,
            served,
        ]
    if name.startswith("shared"):
        return [verdict("TTFT p90 of the worst seed, s", mine["ttft_p90"].most, 0.6), tpot, served]
    random = figures["random"]["requests_per_second"].median
    return [verdict("random's throughput, of ours", random / mine["requests_per_second"].median, 1 / 2.73), served]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default="", help="Set-ups whose name has this in it.")
    options = parser.parse_args()
    missed = 0
    for name, set_up in {**MAIN, **MORE}.items():
        if options.only not in name:
            continue
        found = measure(set_up, options.seeds, options.jobs)
        figures = {one: over_seeds([outcome.summary for outcome in outcomes]) for one, outcomes in found.items()}
        faults = {fault for outcomes in found.values() for outcome in outcomes for fault in outcome.faults}
        lines = targets(name, figures)
        missed += sum(line.startswith("MISSED") for line in lines)
        print(f"\n**{name}**, medians of {options.seeds} seeds; times in s, TPOT in ms\n")
        print("| | TTFT mean | p90 (least-most) | p99 | TPOT p90 | cached | req/s | not served |")
        print("|---|---|---|---|---|---|---|---|")
        print(*[row(one, of_one) for one, of_one in figures.items()], sep="\n")
        print("", *lines, *[f"FAULT {fault}" for fault in faults], sep="\n", flush=True)
    print(f"\n{missed} targets missed")


if __name__ == "__main__":
    main()
