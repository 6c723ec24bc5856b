"""This gateway beside its peers: the same run, the same load, the same pods.

    python bench/peers.py [--quick] [--rounds 3] [--seconds 2] [--systems NAME …] [--no-aiperf]

Systems: the pods asked directly; Envoy alone; this gateway with JWT (a token that was checked before), the same from
its source, without auth, and with its grpc.aio transport; vllm-router and smg, round_robin and cache_aware. This
gateway is compiled, as its image is, but for the one; where it cannot be (`make compiled`), the first line says so.
Each in front of the same 8 pods, asked by wrk. Measured are CPU time per request (all processes, from /proc), requests
per second, and latency. The matrix is not a full product: sizes of bodies at 32 requests at once, numbers of requests
at once with 1 KB, streams at 32 with 1 KB.

All systems run all the time; cells take turns, and within a cell the systems do, each round in another order. Then
aiperf measures times to first token in front of simulated engines whose caches hold half of the prompts.

Prints ratios, then tables. Saves all of it as JSON, Markdown and SVG in bench/results/. Exit code 1: a request failed.
"""

import argparse
import asyncio
import contextlib
import datetime
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from gateways import compiled, tokens
from gateways.load import Load, WrkFailed
from gateways.plots import plot
from gateways.processes import cpu_seconds, resident_mib
from gateways.report import Cell, Results, tables, token_table, verdicts
from gateways.systems import ALL, NOT_COMPILED, System, start

from extproc.demo.process import Child, ChildFailed

BENCH = Path(__file__).resolve().parent
PODS = 8
#: What answers the questions: cost by size, cost and latency by load, and the cost of streams.
CELLS = (
    Cell(1, 1),
    *(Cell(kib, 32) for kib in (1, 8, 32, 64, 256)),
    Cell(1, 256),
    Cell(1, 32, stream=True),
)
#: KiB, of systems that are not asked with every size. vllm-router's cache_aware has every pod tokenize every prompt:
#: with larger ones, nothing but these pods, which take 5 ms for 256 KB, would be measured. What the others are measured
#: for does not depend on sizes.
SIZES = {
    "vllm-router cache_aware": (1, 8, 32),
    "infer-gateway, not compiled": (1, 32),
    "infer-gateway, no auth": (1, 32),
    "infer-gateway, 2 workers": (1, 32),
}
#: With one request at once there are few requests a second, and the p99 needs many.
LONGER = 2
WARM_UP = 1  # seconds, of each system with each size, in the first round


@contextlib.asynccontextmanager
async def model_servers() -> AsyncIterator[tuple[int, list[str]]]:
    child = await Child.start("pods", [sys.executable, str(BENCH / "gateways" / "pods.py"), "--pods", str(PODS)])
    try:
        line = await child.line(lambda text: '"addresses"' in text, 30.0)
        yield child.process.pid, json.loads(line)["addresses"]
    finally:
        await child.stop()


async def measure(system: System, cell: Cell, load: Load, seconds: int, pods: int) -> dict[str, Any]:
    """A system under a cell's load for some seconds."""
    watched = {**system.parts, "pods": [pods]}
    before = {part: cpu_seconds(pids) for part, pids in watched.items()}
    result = await load.run(
        system.address,
        kib=cell.kib,
        concurrency=cell.concurrency,
        stream=cell.stream,
        seconds=seconds,
        token=system.token,
    )
    cpu = {part: cpu_seconds(pids) - before[part] for part, pids in watched.items()}
    pods_cpu = cpu.pop("pods")
    await settled(pods)
    return {
        "system": system.name,
        "kib": cell.kib,
        "concurrency": cell.concurrency,
        "stream": cell.stream,
        "cpu": cpu,
        "pods_cpu": pods_cpu,
        "resident_mib": {part: resident_mib(pids) for part, pids in system.parts.items()},
        **result,
    }


async def settled(pods: int) -> None:
    """Waits until pods have done what was left when the client went away: the next system is not to pay for it."""
    for _ in range(100):
        before = cpu_seconds([pods])
        await asyncio.sleep(0.1)
        if cpu_seconds([pods]) - before <= 0.02:
            return


async def idle(systems: list[System], seconds: float) -> dict[str, float]:
    """CPU that each system takes without a request, in percent of a core."""
    pids = {system.name: [pid for found in system.parts.values() for pid in found] for system in systems}
    before = {name: cpu_seconds(found) for name, found in pids.items()}
    await asyncio.sleep(seconds)
    return {name: (cpu_seconds(found) - before[name]) / seconds * 100 for name, found in pids.items()}


async def cost(options: argparse.Namespace) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    loads = []
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        load = Load(Path(folder), sorted({cell.kib for cell in CELLS}))
        pods, addresses = await stack.enter_async_context(model_servers())
        systems = [
            await stack.enter_async_context(start(name, addresses, options.envoy_workers)) for name in options.systems
        ]
        at_rest = await idle(systems, 1.0 if options.quick else 5.0)
        for number in range(1, options.rounds + 1):
            loads.append(os.getloadavg()[0])
            turn = number % len(systems)
            for cell in CELLS:
                for system in systems[turn:] + systems[:turn]:
                    if cell.kib not in SIZES.get(system.name, (cell.kib,)):
                        continue
                    if number == 1 and not options.quick and not cell.stream and cell.concurrency == 32:
                        await measure(system, cell, load, WARM_UP, pods)
                    seconds = options.seconds * (LONGER if cell.concurrency == 1 else 1)
                    row = await measure(system, cell, load, seconds, pods)
                    rows.append({"round": number, **row})
                    if row["failed"] or not row["requests"]:
                        print(f"FAILED: {row['failed']} requests, {row['requests']} answered: {system.name}, {cell}")
            print(f"round {number} of {options.rounds} measured", file=sys.stderr)
    return {"rows": rows, "idle_percent_of_a_core": at_rest, "load": [*loads, os.getloadavg()[0]]}


def machine() -> str:
    cpu = platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), cpu)
    return (
        f"{os.cpu_count()} cores, {cpu}, {platform.system()} {platform.release()}, Python {platform.python_version()},"
        f" {compiled.said()}"
    )


async def run(options: argparse.Namespace) -> int:
    started = time.monotonic()
    if compiled.obstacle():
        options.systems = [name for name in options.systems if name != NOT_COMPILED]  # it would be measured twice
    head = (
        f"{machine()}. {options.rounds} rounds of {options.seconds} s, medians; {PODS} pods that answer at once;"
        f" Envoy with {options.envoy_workers} workers; bodies begin as one in 64 do and end as no other does."
    )
    print(head)
    measured = await cost(options)
    folder = BENCH / "results"
    folder.mkdir(exist_ok=True)
    now = datetime.datetime.now(datetime.UTC)
    name = f"peers-{now:%Y%m%dT%H%M%SZ}"
    document = {"machine": machine(), "options": vars(options), **measured}
    (folder / f"{name}.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    results = Results(measured["rows"])
    of_tokens = [] if options.no_aiperf else await tokens.measure(options.envoy_workers, options.requests)
    document["tokens"] = of_tokens
    (folder / f"{name}.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    quiet = ", ".join(f"{name} {share:.1f}" for name, share in measured["idle_percent_of_a_core"].items() if share)
    text = "\n\n".join(
        part
        for part in (
            "```\n" + "\n".join(verdicts(results)) + "\n```",
            tables(results),
            "### Tokens, by aiperf\n\n" + tokens.NOTE + "\n\n" + token_table(of_tokens) if of_tokens else "",
            f"CPU without a request, percent of a core: {quiet}.",
            f"Load of the machine before each round and after: {', '.join(f'{one:.1f}' for one in measured['load'])}.",
        )
        if part
    )
    print(f"\n{text}\n")
    (folder / f"{name}.md").write_text(f"{head}\n\n{text}\n", encoding="utf-8")
    saved = [f"{name}.json", f"{name}.md"]
    if options.no_aiperf:
        print("no plots: they are drawn with the environment of aiperf")
    else:
        saved += plot(folder / f"{name}.json")
    print(f"saved in bench/results/: {', '.join(saved)}; {time.monotonic() - started:.0f} s")
    return int(any(row["failed"] or not row["requests"] for row in measured["rows"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of a second each, without aiperf")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2, help="per system, cell and round; twice that for one request")
    parser.add_argument("--systems", nargs="+", choices=ALL, default=list(ALL), metavar="NAME", help="; ".join(ALL))
    parser.add_argument("--envoy-workers", type=int, default=2, help="threads of each Envoy; 2 is what is deployed")
    parser.add_argument("--requests", type=int, default=200, help="aiperf's, per system")
    parser.add_argument("--no-aiperf", action="store_true", help="leave times to first token and plots out")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.no_aiperf = 1, 1, True
    try:
        sys.exit(asyncio.run(run(options)))
    except (ChildFailed, WrkFailed, tokens.AiperfFailed) as error:
        sys.exit(f"peers: {error}")


if __name__ == "__main__":
    main()
