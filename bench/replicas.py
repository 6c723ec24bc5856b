"""Gateways that share a Redis or Valkey beside one, and beside gateways that do not share: do they decide as one?

Agents: 120 conversations of 12 turns over 3 prompts of 15,360 tokens that they share, each turn adding 512-2,560
tokens; 8 pods that are simulated, 300 tokens an answer. Each gateway is `infer-gateway serve` with an Envoy of its own;
requests go to them in turn. The load client and the pods are processes of their own. Rounds take turns, all variants of
a round have the same load. Times are as the client sees them, times the speed-up: seconds of what is simulated.

    python bench/replicas.py [--rounds 5] [--replicas 4] [--speedup 4]
    python bench/replicas.py --faults   # one run, in which gateway and Redis are killed, Redis stops, a network is cut
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import aiohttp  # noqa: E402
from gateways.agents import MODEL  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402
from support.proxy import Proxy  # noqa: E402

from extproc.config import loads  # noqa: E402
from extproc.demo.process import Child  # noqa: E402
from extproc.demo.redis_server import RedisServer  # noqa: E402
from extproc.demo.stack import Stack  # noqa: E402
from extproc.process.build_info import compiled  # noqa: E402

PODS = 8
#: Ratio of times to first token, and points of the hit rate, by which several may be worse than one.
MOST_RATIO, MOST_POINTS = 1.15, 0.03


def scheduler(speedup: float) -> str:
    """By cost, whose constants are seconds; and whole prompts."""
    costs = f"{{requestSeconds: {0.05 / speedup}, kvUsageSeconds: {10 / speedup}, halfScoreSeconds: {1 / speedup}}}"
    return f"""
scheduler:
  pluginConfig:
  - {{name: least-cost, args: {costs}}}
  plugins:
    Filter: {{enabled: [least-request]}}
    Score: {{enabled: [{{name: least-cost}}]}}
"""


@contextlib.asynccontextmanager
async def pods(speedup: float) -> AsyncIterator[list[str]]:
    lines: asyncio.Queue[bytes] = asyncio.Queue()
    command = [sys.executable, "-m", "extproc", "model-server", "--port", "0", "--replicas", str(PODS)]
    command += ["--model", MODEL, "--speedup", str(speedup), "--json"]
    child = await Child.start("model servers", command, on_output=lines.put_nowait)
    try:
        yield [replica["address"] for replica in json.loads(await lines.get())["replicas"]]
    finally:
        await child.stop()


async def load(addresses: Sequence[str], options: argparse.Namespace, seed: int) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "bench" / "gateways" / "agents.py"), ",".join(addresses), "--seed", str(seed),
               "--speedup", str(options.speedup), "--conversations", str(options.conversations),
               "--turns", str(options.turns)]  # fmt: skip
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    result: dict[str, Any] = json.loads(output)
    for name in ("p50", "p90", "p99"):
        result[name] = (result[name] or 0.0) * options.speedup
    return result


@contextlib.asynccontextmanager
async def gateways(
    addresses: Sequence[str], urls: Sequence[str | None], options: argparse.Namespace, folder: Path
) -> AsyncIterator[list[Stack]]:
    """One for each URL; None does not share."""
    secret = folder / "secret"
    secret.write_bytes(os.urandom(32))
    async with contextlib.AsyncExitStack() as exits:
        stacks = []
        for url in urls:
            sharing = "" if url is None else f"sharing: {{secretFile: {secret}, redis: {{url: '{url}'}}}}\n"
            config = loads(sharing + scheduler(options.speedup), "bench").config
            stacks.append(await exits.enter_async_context(Stack(config, addresses, envoy_concurrency=1)))
        yield stacks


async def metrics(stack: Stack) -> dict[str, float]:
    """Of what is shared: sums by name."""
    async with aiohttp.ClientSession() as session, session.get(f"http://{stack.admin}/metrics") as response:
        page = await response.text()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name.startswith("infer_gateway_sharing"):
                name = sample.name + "".join(f" {value}" for value in sample.labels.values())
                found[name] = found.get(name, 0.0) + sample.value
    return found


async def left_in_flight(stacks: Sequence[Stack]) -> list[int]:
    """What each counts when all is over; it has some seconds to get there."""
    for _ in range(100):
        counts = [
            sum(row["in_flight"] for row in (await stack.debug("/debug/endpoints"))["endpoints"]) for stack in stacks
        ]
        if not any(counts):
            break
        await asyncio.sleep(0.1)
    return counts


async def measure(count: int, shared: bool, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        async with pods(options.speedup) as addresses, RedisServer() as redis:
            urls = [redis.url if shared else None] * count
            async with gateways(addresses, urls, options, Path(folder)) as stacks:
                result = await load([stack.address for stack in stacks], options, seed)
                result["in_flight"] = await left_in_flight(stacks)
                if shared:
                    result["bytes"] = [
                        (await metrics(stack))["infer_gateway_sharing_bytes_total sent"] for stack in stacks
                    ]
                return result


async def faults(options: argparse.Namespace) -> dict[str, Any]:
    """One run with everything that may happen, told of on standard error."""

    async def happen(stacks: list[Stack], redis: RedisServer, proxy: Proxy) -> None:
        def tell(what: str) -> None:
            print(what, file=sys.stderr)

        await asyncio.sleep(10)
        victim = stacks[-1]
        assert victim.sidecar is not None
        tell("SIGKILL of a gateway")
        victim.sidecar.signal(signal.SIGKILL)
        await victim.sidecar.wait()
        await asyncio.sleep(4)
        await victim.start_sidecar()
        await asyncio.sleep(8)
        tell("SIGKILL of Redis")
        await redis.kill()
        await asyncio.sleep(5)
        await redis.start()
        await asyncio.sleep(8)
        tell("Redis stopped for 10 s")
        redis.freeze()
        await asyncio.sleep(10)
        redis.thaw()
        await asyncio.sleep(8)
        tell("network cut for 10 s")
        proxy.cut()
        await asyncio.sleep(10)
        proxy.mend()

    with tempfile.TemporaryDirectory() as folder:
        async with (
            pods(options.speedup) as addresses,
            RedisServer() as redis,
            Proxy(redis.socket, Path(folder) / "proxy.sock") as proxy,
        ):
            urls = [f"unix://{proxy.path}", *[redis.url] * (options.replicas - 1)]
            async with gateways(addresses, urls, options, Path(folder)) as stacks:
                happening = asyncio.create_task(happen(stacks, redis, proxy))
                result = await load([stack.address for stack in stacks], options, 1)
                if not happening.done():
                    print("the load ended before all had happened", file=sys.stderr)
                await happening
                result["in_flight"] = await left_in_flight(stacks)
                result["sharing"] = [await metrics(stack) for stack in stacks]
                return result


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--speedup", type=float, default=4, help="of the simulated model servers")
    parser.add_argument("--conversations", type=int, default=120)
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--faults", action="store_true", help="what happens to requests while parts fail")
    parser.add_argument("--save", metavar="PATH", help="write all figures as JSON")
    options = parser.parse_args()
    if options.faults:
        result = await faults(options)
        if options.save:
            Path(options.save).write_text(json.dumps(result, indent=1), encoding="utf-8")  # noqa: ASYNC240 - all is over
        shared = result["sharing"]
        print(
            f"{options.replicas} gateways; one killed and started again, Redis as well; Redis stopped for 10 s; the"
            f"\nnetwork of one cut for 10 s; {options.conversations} conversations of {options.turns} turns,"
            f" {PODS} pods {options.speedup:g} times as fast as real\n\n"
            f"{result['requests']} requests served, {result['failed']} failed; hit rate {result['hit']:.1%},"
            f" TTFT p90 {result['p90']:.2f} s\n"
            f"in flight at the end, by gateway: {result['in_flight']}\n"
            f"others that each hears at the end: {[int(one['infer_gateway_sharing_members']) for one in shared]},"
            f" messages lost: {[int(one['infer_gateway_sharing_lost_messages_total']) for one in shared]}"
        )
        return int(bool(result["failed"]) or any(result["in_flight"]))
    count = options.replicas
    variants = {"one": (1, False), f"{count}, shared": (count, True), f"{count}, each for itself": (count, False)}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    for number in range(options.rounds):
        for name, (replicas, shared) in variants.items():
            result = await measure(replicas, shared, options, number)
            found[name].append(result)
            print(f"round {number + 1}, {name}: {json.dumps(result)}", file=sys.stderr)
    if options.save:
        Path(options.save).write_text(json.dumps(found, indent=1), encoding="utf-8")  # noqa: ASYNC240 - all is over
    print(
        f"{options.conversations} conversations of {options.turns} turns, {PODS} pods {options.speedup:g} times as fast"
        f" as real, {options.rounds} rounds, medians; {'compiled' if compiled() else 'not compiled'}\n"
    )
    print(
        f"{'gateways':20} {'hit rate':>9} {'TTFT p50 s':>11} {'p90 s':>7} {'p99 s':>7} {'p90 ratio':>10} {'failed':>7}"
    )

    def median(name: str, key: str) -> float:
        return float(statistics.median(one[key] for one in found[name]))

    for name, rounds in found.items():
        ratio = statistics.median(one["p90"] / alone["p90"] for one, alone in zip(rounds, found["one"], strict=True))
        print(
            f"{name:20} {median(name, 'hit'):9.1%} {median(name, 'p50'):11.2f} {median(name, 'p90'):7.2f}"
            f" {median(name, 'p99'):7.2f} {ratio:10.2f} {sum(one['failed'] for one in rounds):7}"
        )
    name = f"{count}, shared"
    requests = median(name, "requests")
    sent = statistics.median(sum(one["bytes"]) for one in found[name])
    print(f"\n{sent / requests:.0f} bytes told per pick")
    ratio = median(name, "p90") / median("one", "p90")
    missed = [
        text
        for text, wrong in {
            f"hit rate more than {MOST_POINTS:.0%} worse": median(name, "hit") < median("one", "hit") - MOST_POINTS,
            f"TTFT p90 {ratio:.2f} of one gateway's": ratio > MOST_RATIO,
            "requests failed": any(one["failed"] for one in found[name]),
            "requests left in flight": any(any(one["in_flight"]) for one in found[name]),
        }.items()
        if wrong
    ]
    for text in missed:
        print(f"MISSED: {text}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
