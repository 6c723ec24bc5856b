"""Several processes of one sidecar beside a single one: CPU per request, and whether they decide as well.

Conversations of several turns, many at once, over 8 model servers that are simulated, through the real Envoy. Each turn
repeats what came before, so that it is worth keeping a conversation on its pod. The same load for each number of
processes, in rounds that take turns. CPU is that of all processes of the sidecar, without what they use when idle.

    python bench/workers.py [--rounds 3] [--conversations 96] [--turns 6] [--at-once 32]
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from gateways.ours import running
from gateways.processes import on_cpu_seconds

from extproc.process.build_info import compiled
from modelsim.server import EngineConfig, Profile, ReplicaConfig, serve

MODEL = "bench"
PODS = 8
#: The policy that keeps conversations together without waiting for a pod that is busy.
SCHEDULER = """
scheduler:
  plugins:
    Filter: {enabled: [least-request, prefix-affinity]}
    Score: {enabled: [{name: token-load}]}
"""
VARIANTS = {
    "1 process": "{}",
    "1 + standby": "{standby: true}",
    "2 workers": "{workers: 2}",
    "4 workers": "{workers: 4}",
}


@dataclass
class Round:
    cpu: float
    envoy: float
    cached: float
    kept: float
    #: Requests of the pod that got most, over the mean.
    spread: float
    rate: float


@dataclass
class Variant:
    rounds: list[Round] = field(default_factory=list)

    def median(self, name: str) -> float:
        return float(statistics.median(getattr(one, name) for one in self.rounds))


async def load(
    client: aiohttp.ClientSession, name: str, options: argparse.Namespace
) -> tuple[Counter[str], float, float]:
    """Requests by pod; share of the prompt tokens of later turns that were cached; and of later turns at their pod."""
    pods: Counter[str] = Counter()
    tokens = cached = kept = later = 0
    gate = asyncio.Semaphore(options.at_once)

    async def conversation(number: int) -> None:
        nonlocal tokens, cached, kept, later
        messages: list[dict[str, str]] = [
            {"role": "system", "content": f"{name} {number}. " + "You answer questions of a bench in few words. " * 40}
        ]
        before = ""
        for turn in range(options.turns):
            messages.append({"role": "user", "content": f"Question {turn} of conversation {number}. " * 6})
            body = {"model": MODEL, "messages": messages, "max_tokens": 16}
            async with gate, client.post("/v1/chat/completions", json=body) as response:
                answer = await response.json()
                if response.status != 200:
                    raise SystemExit(f"a request failed: {response.status} {answer}")
                pod = response.headers["x-modelsim-replica"]
            pods[pod] += 1
            if turn:
                usage = answer["usage"]
                tokens += usage["prompt_tokens"]
                cached += usage["prompt_tokens_details"]["cached_tokens"]
                kept += pod == before
                later += 1
            before = pod
            messages.append({"role": "assistant", "content": answer["choices"][0]["message"]["content"]})

    await asyncio.gather(*[conversation(number) for number in range(options.conversations)])
    return pods, cached / tokens, kept / later


async def measure(variant: str, number: int, options: argparse.Namespace) -> Round:
    config = f"transport: {VARIANTS[variant]}\n{SCHEDULER}"
    engine = EngineConfig(profile=Profile().faster(options.speedup))
    fleet = await serve([ReplicaConfig(name=f"pod-{n}", model=MODEL, engine=engine) for n in range(PODS)])
    requests = options.conversations * options.turns
    try:
        async with running(config, fleet.addresses) as gateway:
            pids = (gateway.sidecar, gateway.envoy)
            before = [on_cpu_seconds(pid) for pid in pids]
            started = time.perf_counter()
            pods, cached, kept = await load(gateway.client, f"Round {number}", options)
            seconds = time.perf_counter() - started
            spent = [on_cpu_seconds(pid) - start for pid, start in zip(pids, before, strict=True)]
            cpu, envoy = [one / requests * 1e6 for one in spent]
            # What the processes do with no request at all: scrapes, above all, as long as the load took.
            rest = on_cpu_seconds(gateway.sidecar)
            await asyncio.sleep(min(seconds, 3))
            idle = (on_cpu_seconds(gateway.sidecar) - rest) / min(seconds, 3) * seconds / requests * 1e6
            return Round(
                cpu=cpu - idle,
                envoy=envoy,
                cached=cached,
                kept=kept,
                spread=max(pods.values()) / (requests / PODS),
                rate=requests / seconds,
            )
    finally:
        await fleet.stop()


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--conversations", type=int, default=96)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--speedup", type=float, default=20, help="of the simulated model servers")
    parser.add_argument("--save", metavar="PATH", help="write the figures as JSON")
    options = parser.parse_args()
    variants = {name: Variant() for name in VARIANTS}
    for number in range(options.rounds):
        for name, variant in variants.items():
            variant.rounds.append(await measure(name, number, options))
    first = variants["1 process"]
    print(
        f"{options.conversations} conversations of {options.turns} turns, {options.at_once} requests at once,"
        f" {PODS} pods, {options.rounds} rounds; medians; {'compiled' if compiled() else 'not compiled'}\n"
    )
    head = ("CPU µs/request", "ratio", "cached", "on their pod", "most / mean", "requests/s")
    print(f"{'':12} {head[0]:>15} {head[1]:>6} {head[2]:>7} {head[3]:>13} {head[4]:>12} {head[5]:>11}")
    for name, variant in variants.items():
        ratio = variant.median("cpu") / first.median("cpu")
        print(
            f"{name:12} {variant.median('cpu'):15.0f} {ratio:6.2f} {variant.median('cached'):7.1%}"
            f" {variant.median('kept'):13.1%} {variant.median('spread'):12.2f} {variant.median('rate'):11.0f}"
        )
    if options.save:
        rows: dict[str, Any] = {name: [vars(one) for one in variant.rounds] for name, variant in variants.items()}
        text = json.dumps({"options": vars(options), "rounds": rows}, indent=1)
        Path(options.save).write_text(text, encoding="utf-8")  # noqa: ASYNC240 - nothing else goes on
    worse = [name for name, variant in variants.items() if variant.median("cached") < first.median("cached") - 0.03]
    if worse:
        print(f"decide worse: {', '.join(worse)}")
    return int(bool(worse))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.exit(asyncio.run(main()))
