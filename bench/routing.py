"""How well this gateway routes beside smg and vllm-router, over real sockets: the same pods, the same requests.

    python bench/routing.py [--rounds 3] [--pods 4] [--speedup 5] [--only agents] [--systems NAME …]

Pods are simulated engines (`modelsim`, an 8B model on an H100) in a process of their own, `--speedup` times as fast as
real; they start empty for each measurement. Times are in the model's seconds, but for `wall`, which is the clock's.

- agents: 16 agents of 6 turns that share 60 KB of tools and system prompt and add 6 KB a turn; each asks again as soon
  as it is answered.
- shared prefixes: 24 groups of prompts with a common beginning of 6,000 tokens, 5 questions of 1,200 each, asked again
  and again, at random moments.
- synthetic trace: the first requests of Mooncake's, slowed down to what so few pods can do.

Systems take turns, in another order each round; printed are medians over rounds. Exit code 1: a request failed.
"""

import argparse
import asyncio
import json
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import NamedTuple

import aiohttp
import numpy as np
from gateways.systems import OURS, start

from extproc.demo.process import Child
from extproc.simulation import prompts, trace
from extproc.simulation.calls import Call, Workload
from extproc.simulation.trace import Trace
from extproc.simulation.workloads import Agents, shared_prefixes

BENCH = Path(__file__).resolve().parent
TRACE = BENCH.parent / "tests" / "data" / "traces" / "mooncake-synthetic.jsonl.gz"
#: The default configuration, compiled where a C compiler is there.
MINE = "infer-gateway, no auth"
SMG = "smg cache_aware"
SYSTEMS = (MINE, SMG, "smg round_robin", "vllm-router cache_aware")
START_TIMEOUT = 60.0
#: Seconds of the clock for one request. Bounded, as everything is.
REQUEST_TIMEOUT = 300.0
ANSWER = 100  # tokens
#: Requests of the trace; the others would take minutes more.
TRACE_REQUESTS = 160
#: Prompt tokens a second that one pod computes, of which so much is asked for: with what caches save, it can be done.
PREFILL, DEMAND = 4444, 1.3


class Answer(NamedTuple):
    """One request. Times are the model's seconds."""

    thread: int
    turn: int
    pod: str
    status: int
    ttft: float
    seconds: float


def agents(_pods: int) -> Workload:
    return Agents(
        Random(1), conversations=16, turns=6, beginnings=1, beginning_tokens=15_360, turn_blocks=(3, 3),
        output_tokens=ANSWER, think=0.0, within=0.0,
    )  # fmt: skip


def shared(pods: int) -> Workload:
    return shared_prefixes(Random(1), groups=24, output_tokens=ANSWER, rate=1.4 * pods, seconds=60.0)


def synthetic(pods: int) -> Workload:
    calls = trace.read(TRACE).calls[:TRACE_REQUESTS]
    asked = sum(call.prompt_tokens for call in calls) / calls[-1].at
    return Trace(calls).faster(PREFILL * DEMAND * pods / asked)


WORKLOADS = {"agents": agents, "shared prefixes": shared, "synthetic trace": synthetic}


class Client:
    """Sends a workload's requests at their moments, and follows with what each end leads to."""

    def __init__(self, address: str, token: str, workload: Workload, speedup: float) -> None:
        self._url = f"http://{address}/v1/chat/completions"
        self._headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        self._workload = workload
        self._speedup = speedup
        self._turns: Counter[int] = Counter()
        self.answers: list[Answer] = []

    async def run(self) -> float:
        """Seconds of the clock that all of it took."""
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT)
        self._started = time.perf_counter()
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as self._session,
            asyncio.TaskGroup() as self._tasks,
        ):
            for call in self._workload.begin():
                self._tasks.create_task(self._call(call))
        return time.perf_counter() - self._started

    def _now(self) -> float:
        return (time.perf_counter() - self._started) * self._speedup

    async def _call(self, call: Call) -> None:
        turn = self._turns[call.thread]
        self._turns[call.thread] += 1
        text = prompts.text(call, self._workload.block_tokens)
        body = b"".join(
            [
                b'{"model":"bench","stream":true,"max_tokens":', str(call.output_tokens).encode(),
                b',"messages":[{"role":"user","content":"', text, b'"}]}',
            ]
        )  # fmt: skip
        await asyncio.sleep(max(call.at - self._now(), 0.0) / self._speedup)
        sent = self._now()
        first = math.nan
        pod, status = "", 0
        try:
            async with self._session.post(self._url, data=body, headers=self._headers) as response:
                status, pod = response.status, response.headers.get("x-modelsim-replica", "")
                async for _ in response.content.iter_any():
                    if first != first:
                        first = self._now()
        except (aiohttp.ClientError, TimeoutError):
            status = status if status >= 400 else 599
        now = self._now()
        self.answers.append(Answer(call.thread, turn, pod, status, first - sent, now - sent))
        following = self._workload.after(call, now)
        if following is not None:
            self._tasks.create_task(self._call(following))


def figures(answers: list[Answer], wall: float, names: Mapping[str, int]) -> dict[str, float]:
    """What is compared. `names` are the pods'."""
    ok = [one for one in answers if one.status == 200]
    ttft = [one.ttft for one in ok]
    later = [one for one in ok if one.turn]
    at = {(one.thread, one.turn): one.pod for one in ok}
    kept = [at.get((one.thread, one.turn - 1)) == one.pod for one in later]
    per_pod = Counter(one.pod for one in ok)
    return {
        "wall": wall,
        "ttft_p50": _percentile(ttft, 50),
        "ttft_p90": _percentile(ttft, 90),
        "later_p50": _percentile([one.ttft for one in later], 50),
        "later_p90": _percentile([one.ttft for one in later], 90),
        "kept": sum(kept) / len(kept) if kept else math.nan,
        "failed": len(answers) - len(ok),
        **{f"pod {place}": float(count) for place, count in enumerate(sorted(per_pod.values(), reverse=True))},
        "pods used": float(sum(1 for name in names if per_pod[name])),
    }


async def measure(system: str, workload: Workload, options: argparse.Namespace) -> dict[str, float]:
    command = [
        sys.executable, str(BENCH / "gateways" / "modelled.py"), "--pods", str(options.pods), "--speedup",
        str(options.speedup),
    ]  # fmt: skip
    child = await Child.start("pods", command)
    try:
        line = await child.line(lambda text: "addresses" in text, START_TIMEOUT)
        pods: list[str] = json.loads(line)["addresses"]
        async with start(system, pods, envoy_workers=1) as running:
            client = Client(running.address, running.token, workload, options.speedup)
            wall = await client.run()
        return figures(client.answers, wall, {f"pod-{n}": n for n in range(1, options.pods + 1)})
    finally:
        await child.stop()


def _percentile(values: list[float], share: float) -> float:
    return float(np.percentile(values, share)) if values else math.nan


def table(name: str, rounds: Mapping[str, list[dict[str, float]]]) -> None:
    print(f"\n**{name}**, medians of {max(map(len, rounds.values()))} rounds\n")
    conversations = name == "agents"
    more = " later turns p50 / p90 | turns on their pod |" if conversations else ""
    print(f"| | wall, s | TTFT p50 / p90, s |{more} requests per pod | failed |")
    print("|---|---|---|" + ("---|---|" if conversations else "") + "---|---|")
    for system, of_one in rounds.items():
        row = {key: statistics.median(one.get(key, 0.0) for one in of_one) for key in of_one[0]}
        pods = " ".join(f"{row[key]:.0f}" for key in sorted(row) if key.startswith("pod "))
        middle = f" {row['later_p50']:.2f} / {row['later_p90']:.2f} | {row['kept']:.0%} |" if conversations else ""
        print(
            f"| {system} | {row['wall']:.1f} | {row['ttft_p50']:.2f} / {row['ttft_p90']:.2f} |{middle} {pods} "
            f"| {row['failed']:.0f} |",
            flush=True,
        )


def verdicts(name: str, rounds: Mapping[str, list[dict[str, float]]], pods: int) -> list[str]:
    """Whether this gateway is as good as it is to be beside smg's cache_aware; ratios within rounds."""
    if MINE not in rounds or SMG not in rounds:
        return []

    def beside(key: str) -> float:
        return statistics.median(mine[key] / other[key] for mine, other in zip(rounds[MINE], rounds[SMG], strict=True))

    def mine(key: str) -> float:
        return statistics.median(one[key] for one in rounds[MINE])

    wanted = [(f"TTFT p90 beside {SMG}", beside("ttft_p90"), {"agents": 0.7, "shared prefixes": 1.1}.get(name, 0.9))]
    if name == "agents":
        wanted += [
            (f"wall beside {SMG}", beside("wall"), 0.7),
            ("TTFT p90 of later turns, s", mine("later_p90"), 1.0),
            ("pods without a request", pods - mine("pods used"), 0.0),
            ("turns away from their pod", 1 - mine("kept"), 0.0),
        ]
    return [
        f"{'ok    ' if value <= most else 'MISSED'} {text}: {value:.2f} (at most {most:g})"
        for text, value, most in wanted
    ]


async def run(options: argparse.Namespace) -> int:
    failed = 0
    for name, make in WORKLOADS.items():
        if options.only not in name:
            continue
        rounds: dict[str, list[dict[str, float]]] = {system: [] for system in options.systems}
        for number in range(options.rounds):
            order = list(options.systems)
            Random(number).shuffle(order)
            for system in order:
                found = await measure(system, make(options.pods), options)
                failed += int(found["failed"])
                rounds[system].append(found)
                print(f"{name}, round {number + 1}, {system}: {json.dumps(found)}", file=sys.stderr, flush=True)
        table(name, rounds)
        print("", *verdicts(name, rounds, options.pods), sep="\n", flush=True)
    return 1 if failed else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pods", type=int, default=4)
    parser.add_argument("--speedup", type=float, default=5.0)
    parser.add_argument("--only", default="", help="Workloads whose name has this in it.")
    parser.add_argument("--systems", nargs="+", default=SYSTEMS, choices=[*SYSTEMS, *OURS])
    raise SystemExit(asyncio.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
