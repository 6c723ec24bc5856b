"""CPU time of one scheduling decision: `python bench/decision.py [--rounds N] [--full BLOCKS]`.

The documented page's plugins, and the rule of least cost; hash, match, scores, pick and record included. Prompts are a
warm mixture: half share a beginning of one of 32 system prompts (a quarter of the prompt) and go on uniquely, a quarter
are the next turn of a conversation seen before, a quarter are unique. `--full` bounds each pod's LRU to so many blocks
and fills it first, so that every new block evicts an old one. The garbage collector is off while measuring.

What is measured is the source of this checkout. For the compiled build, copy this file elsewhere, into a folder of a
folder, and run it with `PYTHONPATH=build/compiled`.
"""

import argparse
import gc
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import median
from time import process_time_ns

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scheduler.builder import build
from scheduler.config import LEAST_COST, PluginConfig, SchedulerConfig
from scheduler.cycle import schedule
from scheduler.prefix.unit import Unit
from scheduler.profile import Profile
from scheduler.registry import in_tree_registry
from scheduler.types import Pod, Prompt, Request, Snapshot

PODS = (8, 64, 512)
KILOBYTES = (1, 8, 64, 256)
WARM_UP = 300
#: By name. The first is the documented page's.
RULES = {"page": SchedulerConfig(), "least-cost": LEAST_COST}
SYSTEM_PROMPTS = 32


def fleet(count: int, rng: Random) -> Snapshot:
    pods = [Pod(f"10.0.{row // 250}.{row % 250 + 1}:8000") for row in range(count)]
    return Snapshot.of(
        pods,
        waiting=[float(rng.randrange(3)) for _ in pods],
        running=[float(rng.randrange(40)) for _ in pods],
        kv_usage=[rng.random() for _ in pods],
        ttft=[rng.uniform(0.05, 1.0) for _ in pods],
        tpot=[rng.uniform(0.01, 0.05) for _ in pods],
        in_flight=[rng.randrange(40) for _ in pods],
        in_flight_tokens=[rng.randrange(100_000) for _ in pods],
        served=[rng.randrange(10_000) for _ in pods],
    )


class Traffic:
    """Prompts of one size."""

    def __init__(self, size: int, rng: Random) -> None:
        self._size = size
        self._rng = rng
        self._systems = [self._text(size // 4) for _ in range(SYSTEM_PROMPTS)]
        self._seen: list[str] = []

    def _text(self, size: int) -> str:
        return self._rng.randbytes(size // 2 + 1).hex()[:size]

    def next(self) -> Request:
        kind = self._rng.random()
        if kind < 0.5:
            system = self._rng.choice(self._systems)
            parts = [system, self._text(self._size - len(system))]
        elif kind < 0.75 and self._seen:
            turn = self._rng.choice(self._seen)
            kept = turn[: self._size * 7 // 8]
            parts = [kept, self._text(self._size - len(kept))]
        else:
            parts = [self._text(self._size)]
        self._seen = [*self._seen[-63:], "".join(parts)]
        return Request(model="m", prompt=Prompt(parts))


def known(kilobytes: int, rng: Random) -> Callable[[], Request]:
    """One prompt, again and again."""
    text = rng.randbytes(kilobytes * 512).hex()
    return lambda: Request(model="m", prompt=Prompt([text]))


def unseen(kilobytes: int, rng: Random) -> Callable[[], Request]:
    """Prompts that share nothing."""
    return lambda: Request(model="m", prompt=Prompt([rng.randbytes(kilobytes * 512).hex()]))


def mixed(kilobytes: int, rng: Random) -> Callable[[], Request]:
    return Traffic(kilobytes * 1024, rng).next


def measure(
    rule: SchedulerConfig,
    count: int,
    make: Callable[[int, Random], Callable[[], Request]],
    kilobytes: int,
    rounds: int,
    *,
    full: int,
) -> tuple[float, float, float]:
    """Microseconds of CPU per decision: least, median, mean."""
    rng = Random(7)
    snapshot = fleet(count, rng)
    profile = profile_of(rule, full or 50_000)
    if full:
        fill(profile, snapshot, full, rng)
    following = make(kilobytes, rng)
    requests = [following() for _ in range(WARM_UP + rounds)]
    times = []
    gc.collect()
    gc.disable()
    for now, request in enumerate(requests):
        started = process_time_ns()
        decision = schedule(profile, request, snapshot, now=float(now), rng=rng)
        times.append(process_time_ns() - started)
        row = snapshot.rows[decision.pod.address]
        # Fake traffic: one comes, another one goes.
        snapshot.in_flight[row] += 1
        snapshot.served[row] += 1
        snapshot.in_flight[:] = np.maximum(snapshot.in_flight - (np.arange(count) == rng.randrange(count)), 0)
    gc.enable()
    taken = [time / 1000 for time in times[WARM_UP:]]
    return min(taken), median(taken), sum(taken) / len(taken)


def profile_of(rule: SchedulerConfig, blocks: int) -> Profile:
    args = {"maxHashCacheSize": blocks}
    return build(replace(rule, plugin_config=(PluginConfig("prefix-cache", args),)), in_tree_registry())[0]


def fill(profile: Profile, snapshot: Snapshot, blocks: int, rng: Random) -> None:
    index = profile.plugins["prefix-cache"].index
    for pod in snapshot.pods:
        for _ in range(blocks // 128 + 1):
            for _ in range(8):
                index.record([Unit(64, [rng.getrandbits(64) for _ in range(16)])], pod.address)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--full", type=int, default=0, metavar="BLOCKS")
    parser.add_argument("--pods", type=int, nargs="+", default=PODS)
    options = parser.parse_args()
    print("CPU us per decision: min / median (mean)")
    for name, rule in RULES.items():
        print(f"{name:>10}, pods" + "".join(f"{f'{kilobytes} KB':>26}" for kilobytes in KILOBYTES))
        for count in options.pods:
            cells = []
            for kilobytes in KILOBYTES:
                taken = measure(rule, count, mixed, kilobytes, options.rounds, full=options.full)
                cells.append(shown(*taken))
            print(f"{count:>16}" + "".join(f"{cell:>26}" for cell in cells), flush=True)
        for text, make in (("known", known), ("new", unseen)):
            # As many prompts of 256 KB as there are would take all memory.
            taken = measure(rule, options.pods[0], make, 256, min(options.rounds, 500), full=options.full)
            print(f"{options.pods[0]:>16}   256 KB, {text}: {shown(*taken)}", flush=True)


def shown(least: float, middle: float, mean: float) -> str:
    return f"{least:8.1f} /{middle:7.1f} ({mean:.1f})"


if __name__ == "__main__":
    main()
