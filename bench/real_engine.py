"""Real LLM servers on the CPU behind the real Envoy and sidecar: what keeping a conversation on its pod is worth.

    python bench/real_engine.py [--repeat 2] [--conversations 6] [--turns 5] [--slots 3] [--policies …]

Two llama.cpp servers (Gemma 3 270M, one thread each) can keep the prompts of half the conversations each. The same
conversations run with each policy, over servers that start empty. Times are the client's, of streamed answers; cached
tokens are the servers' own counts. "Later" turns are all but each conversation's first. The first run installs
`requirements/real-engine.txt` (0.6 GB, half a minute) into an environment of its own; it tells of the licence.

Exit code 1: a count of the gateway's is not the clients', or later turns are not at least twice as fast as with random.
"""

import argparse
import asyncio
import contextlib
import datetime
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, median, quantiles
from typing import Any

import aiohttp
from engines import conversations
from engines.conversations import Turn
from engines.environment import BENCH, environment
from engines.pages import samples, total

from extproc.config import loads
from extproc.demo.process import Child
from extproc.demo.stack import Stack

#: Seconds for a server to load the model, on a machine that is busy with others.
LOAD_TIMEOUT = 120.0
#: Seconds in which the end of the last answers must have reached the gateway's counters.
SETTLE = 10.0
#: How much faster later turns must be.
TARGET = 2.0

#: Scheduler configurations, as YAML. `{throughput}`: prompt tokens a second of one server, as measured before.
POLICIES = {
    "random": """
  plugins:
    Filter: {enabled: []}
    Score: {enabled: [{name: random}]}
""",
    "prefix-affinity": """
  pluginConfig:
  - {name: prefix-affinity, args: {peakPrefillThroughput: {throughput}}}
  - {name: token-load, args: {halfScoreTokens: 2048}}
  plugins:
    Filter: {enabled: [prefix-affinity]}
    Score: {enabled: [{name: token-load}]}
""",
    "default": "",
}


@contextlib.asynccontextmanager
async def engines(python: Path, options: argparse.Namespace) -> AsyncIterator[list[str]]:
    """Addresses of two servers that have seen nothing."""
    script = BENCH / "engines" / "llamacpp_server.py"
    children: list[Child] = []
    try:
        for name in ("pod-1", "pod-2"):
            command = [str(python), str(script), "--name", name, "--slots", str(options.slots)]
            children.append(await Child.start(name, command))
        ready = [await child.line(lambda text: text.startswith('{"address"'), LOAD_TIMEOUT) for child in children]
        yield [json.loads(line)["address"] for line in ready]
    finally:
        for child in children:
            await child.stop()


async def prefill_throughput(address: str, clauses: int) -> float:
    """Prompt tokens a second, by the server's own clock, of a prompt as long as those of the workload."""
    body = {
        "messages": [{"role": "system", "content": conversations.system_prompt(-1, clauses, -1)}],
        "max_tokens": 1,
    }
    async with (
        aiohttp.ClientSession() as client,
        client.post(f"http://{address}/v1/chat/completions", json=body) as one,
    ):
        return float((await one.json())["timings"]["prompt_per_second"])


async def counted(stack: Stack, requests: int) -> dict[str, float]:
    """What the gateway counted, once it has seen the end of `requests` requests."""
    async with asyncio.timeout(SETTLE):
        while True:
            page = await samples(stack.admin)
            if total(page, "infer_gateway_requests_total") >= requests:
                break
            await asyncio.sleep(0.05)

    def of(name: str, label: str | None = None) -> float:
        return total(page, f"infer_gateway_{name}", label)

    return {
        **{kind: of("tokens_total", kind) for kind in ("prompt", "cached", "completion")},
        "ok": of("requests_total", "200"),
        "ttft_count": of("time_to_first_token_seconds_count"),
        "ttft_sum": of("time_to_first_token_seconds_sum"),
        "retries": of("retries_total"),
        "fallbacks": of("fallbacks_total"),
        "scrapes": of("scrape_seconds_count"),
        "scrape_failures": of("scrape_failures_total"),
    }


async def measure(policy: str, python: Path, options: argparse.Namespace, throughput: float) -> dict[str, Any]:
    yaml = POLICIES[policy].replace("{throughput}", f"{throughput:.0f}")
    config = loads(f"endpoints: {{engine: llamacpp}}\nscheduler:{yaml or ' {}'}", policy).config
    async with engines(python, options) as pods, Stack(config, pods, envoy_concurrency=1) as stack:
        started = time.perf_counter()
        turns = await conversations.run(
            stack.address, conversations=options.conversations, turns=options.turns, clauses=options.clauses,
            max_tokens=options.max_tokens, concurrency=options.concurrency, seed=options.seed,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        gateway = await counted(stack, len(turns))
        pages = [await samples(pod) for pod in pods]
        rows = (await stack.debug("/debug/endpoints"))["endpoints"]
        decisions = (await stack.debug(f"/debug/decisions?limit={len(turns)}"))["decisions"]
    moved = {turn.request_id for turn in turns if turn.turn > 1 and not turn.stayed}
    server = {
        name: sum(total(page, f"llamacpp:{name}_total") for page in pages)
        for name in ("prompt_tokens", "prompt_tokens_cached", "tokens_predicted")
    }
    return {
        "policy": policy,
        "seconds": seconds,
        "summary": summary(turns),
        "wrong": wrong(turns, gateway, server, rows),
        "gateway": gateway,
        "servers": server,
        "turns": [asdict(turn) for turn in turns],
        # Why: for turns that went to another pod than the one before.
        "moved": [decision for decision in decisions if decision["request_id"] in moved],
    }


def summary(turns: Sequence[Turn]) -> dict[str, Any]:
    later = [turn for turn in turns if turn.turn > 1]
    ttfts = [turn.ttft for turn in later]
    return {
        "later_turns": len(later),
        "median": median(ttfts),
        "p90": quantiles(ttfts, n=10, method="inclusive")[-1],
        "first_median": median(turn.ttft for turn in turns if turn.turn == 1),
        "stayed": fmean(turn.stayed for turn in later),
        "prompt_tokens": sum(turn.prompt_tokens for turn in later),
        "cached_tokens": sum(turn.cached_tokens for turn in later),
        "by_server": dict(sorted(Counter(turn.server for turn in turns).items())),
    }


def wrong(
    turns: Sequence[Turn], gateway: dict[str, float], server: dict[str, float], rows: Sequence[dict[str, Any]]
) -> list[str]:
    """Whatever the gateway, the clients and the servers do not agree on."""
    prompt, cached = sum(turn.prompt_tokens for turn in turns), sum(turn.cached_tokens for turn in turns)
    completion = sum(turn.completion_tokens for turn in turns)
    expected = {
        "gateway, prompt tokens": (gateway["prompt"], prompt),
        "gateway, cached tokens": (gateway["cached"], cached),
        "gateway, completion tokens": (gateway["completion"], completion),
        "gateway, requests with status 200": (gateway["ok"], len(turns)),
        "gateway, times to first token": (gateway["ttft_count"], len(turns)),
        "gateway, failed scrapes": (gateway["scrape_failures"], 0),
        "servers, prompt tokens computed": (server["prompt_tokens"], prompt - cached),
        "servers, prompt tokens cached": (server["prompt_tokens_cached"], cached),
    }
    found = [f"{what}: {got:g}, not {want:g}" for what, (got, want) in expected.items() if got != want]
    return found + [
        f"{row['name']}: waiting {row['waiting']}, running {row['running']}, in flight {row['in_flight']}"
        for row in rows
        if row["waiting"] is None or row["running"] is None or row["in_flight"]
    ]


def table(results: Sequence[dict[str, Any]]) -> str:
    head = (
        f"{'policy':<17}{'TTFT median':>12}{'p90':>10}{'on their pod':>14}{'cached tokens':>22}"
        f"{'computed a turn':>17}{'first turns':>13}{'requests a pod':>16}{'retries':>9}"
    )
    lines = [head]
    for result in results:
        one = result["summary"]
        cached = f"{one['cached_tokens']:,} of {one['prompt_tokens']:,}"
        computed = (one["prompt_tokens"] - one["cached_tokens"]) / one["later_turns"]
        lines.append(
            f"{result['policy']:<17}{one['median'] * 1e3:>9,.0f} ms{one['p90'] * 1e3:>7,.0f} ms{one['stayed']:>14.0%}"
            f"{cached:>22}{computed:>17,.0f}{one['first_median'] * 1e3:>10,.0f} ms"
            f"{' / '.join(map(str, one['by_server'].values())):>16}{result['gateway']['retries']:>9.0f}"
        )
    return "\n".join(lines)


def ratios(results: Sequence[dict[str, Any]]) -> list[str]:
    """How much faster than with `random`, if that was measured."""
    base = next((result["summary"] for result in results if result["policy"] == "random"), None)
    if base is None:
        return []
    return [
        f"{result['policy']}: TTFT of later turns {base['median'] / one['median']:.1f} times shorter than with random"
        f" (p90 {base['p90'] / one['p90']:.1f})"
        for result in results
        if (one := result["summary"]) is not base
    ]


def machine() -> str:
    cpu = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), cpu)
    return (
        f"{os.cpu_count()} cores, {cpu}, {platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


async def run(options: argparse.Namespace) -> int:
    python = environment("engine", "real-engine.txt") / "bin" / "python"
    async with engines(python, options) as pods:
        throughput = await prefill_throughput(pods[0], options.clauses)
    print(f"{machine()}\nprefill of one server when idle: {throughput:.0f} tokens/s")
    rounds: list[dict[str, Any]] = []
    disagree = missed = False
    for number in range(1, options.repeat + 1):
        load = os.getloadavg()[0]
        results = [await measure(policy, python, options, throughput) for policy in options.policies]
        rounds.append({"load": [load, os.getloadavg()[0]], "results": results})
        print(
            f"\nround {number}: {options.conversations} conversations of {options.turns} turns,"
            f" {options.slots} prompts kept per server, {options.concurrency} requests at once,"
            f" load of the machine {load:.1f} to {os.getloadavg()[0]:.1f}"
        )
        print(table(results))
        for line in ratios(results):
            print(line)
        for result in results:
            for problem in result["wrong"]:
                print(f"WRONG {result['policy']}: {problem}")
                disagree = True
        medians = {result["policy"]: result["summary"]["median"] for result in results}
        if {"random", "prefix-affinity"} <= medians.keys():
            missed |= medians["random"] < TARGET * medians["prefix-affinity"]
    if not disagree:
        print("\nTokens, statuses and scrapes: gateway, clients and servers agree.")
    folder = BENCH / "results"
    folder.mkdir(exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    path = folder / f"real_engine-{now:%Y%m%dT%H%M%SZ}.json"
    document = {"machine": machine(), "options": vars(options), "prefill_throughput": throughput, "rounds": rounds}
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")
    print(f"saved to {path.relative_to(BENCH.parent)}")
    return int(disagree or missed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=2, help="rounds; each runs every policy once")
    parser.add_argument("--conversations", type=int, default=6)
    parser.add_argument("--turns", type=int, default=5, help="of each conversation")
    parser.add_argument("--clauses", type=int, default=55, help="of each system prompt; one has about 17 tokens")
    parser.add_argument("--max-tokens", type=int, default=12, help="of each answer")
    parser.add_argument("--slots", type=int, help="prompts that a server keeps; left out: half the conversations")
    parser.add_argument("--concurrency", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=["random", "prefix-affinity"])
    options = parser.parse_args()
    options.slots = options.slots or (options.conversations + 1) // 2
    sys.exit(asyncio.run(run(options)))


if __name__ == "__main__":
    main()
