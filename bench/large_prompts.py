"""What the sidecar adds to the time to first token of long prompts, through the real Envoy, by how bodies reach it.

    python bench/large_prompts.py [--concurrency 60] [--kilobytes 220] [--rounds 3] [--requests 240] [--answer 1.0]
    python bench/large_prompts.py --memory [--concurrency 100] [--requests 300]

Cases, all running at the same time and measured in turns within each round: Envoy without ext_proc; our own set-up
(BUFFERED, lean server); BUFFERED and FULL_DUPLEX_STREAMED as other gateways have it (grpc.aio). Model servers read a
request, answer with a first event at once, and end after `--answer` seconds, so that as many requests are in flight as
clients there are. With `--answer 0` they end at once: then the machine is full, and a time to first token is mostly the
time that a request waits for its turn.

`--memory`: bodies of 10 MiB instead, and how much memory the sidecar comes to in each mode of other gateways. Fails if
that is more in FULL_DUPLEX_STREAMED than docs/endpoint-picker.md allows.

Figures go to bench/results as JSON too.
"""

# ruff: noqa: E402 - the paths come first
import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import aiohttp
import yaml
from gateways.ours import Gateway, running
from gateways.processes import on_cpu_seconds
from support.foreign_envoy import foreign

RESULTS = ROOT / "bench" / "results"
PODS = 4
HEADERS = {"content-type": "application/json"}
BOUNDED = "FULL_DUPLEX_STREAMED, grpc.aio"
#: MiB that the sidecar may need beyond what it has at rest while it collects bodies of 10 MiB: docs/endpoint-picker.md.
MEMORY_BOUND = 512


def without_ext_proc(bootstrap: str) -> str:
    document = yaml.safe_load(bootstrap)
    manager = document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = manager["http_filters"][-1:]
    del manager["access_log"]
    return yaml.safe_dump(document)


#: Name → which server answers Envoy, and how Envoy is set up.
CASES: dict[str, tuple[str, Callable[[str], str]]] = {
    "no ext_proc": ("sidecar", without_ext_proc),
    "BUFFERED, lean": ("sidecar", lambda text: text),
    "BUFFERED, grpc.aio": ("grpcio", partial(foreign, mode="BUFFERED")),
    BOUNDED: ("grpcio", partial(foreign, mode="FULL_DUPLEX_STREAMED")),
}


# Model servers, in a process of their own


def serve_pods(told: Connection, answer: float) -> None:
    from aiohttp import web

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":  # scrapes, and Envoy's looks
            return web.Response(text="vllm:num_requests_waiting 0\n")
        async for _ in request.content.iter_any():
            pass
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n')
        if answer:
            await asyncio.sleep(answer)
        await response.write(b'data: {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}\n\n')
        return response

    async def run() -> None:
        addresses = []
        for _ in range(PODS):
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", handle)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
            addresses.append(f"127.0.0.1:{runner.addresses[0][1]}")
        told.send(addresses)
        await asyncio.Event().wait()

    import uvloop

    uvloop.run(run())


@contextlib.contextmanager
def pods(answer: float) -> Any:
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve_pods, args=(theirs, answer), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


# Clients


class Prompts:
    """Bodies of about one size that share no prefix; made before they are sent."""

    def __init__(self, size: int) -> None:
        rng = random.Random(1)
        self._rest = rng.randbytes(size // 2).hex().encode()

    def body(self, number: int) -> bytes:
        head = b'{"model": "bench", "stream": true, "messages": [{"role": "user", "content": "%016x' % number
        return head + self._rest + b'"}]}'


async def load(
    client: aiohttp.ClientSession, prompts: Prompts, first: int, options: argparse.Namespace
) -> tuple[list[float], float]:
    """Times to first token of `options.requests` requests, seconds, and how long all of them took."""
    numbers = iter(range(first, first + options.requests))
    times: list[float] = []

    async def one_client(index: int) -> None:
        # Not all at once: they would stay in step.
        await asyncio.sleep(options.answer * index / options.concurrency)
        for number in numbers:
            body = prompts.body(number)
            start = time.perf_counter()
            async with client.post(
                "/v1/chat/completions", data=aiohttp.BytesPayload(body), headers=HEADERS
            ) as response:
                await response.content.readany()
                times.append(time.perf_counter() - start)
                rest = await response.read()
                if response.status != 200:
                    raise SystemExit(f"a request failed: {response.status} {rest[:200]!r}")

    start = time.perf_counter()
    await asyncio.gather(*map(one_client, range(options.concurrency)))
    return times, time.perf_counter() - start


def gateway_of(case: str, addresses: list[str]) -> AbstractAsyncContextManager[Gateway]:
    mode, transform = CASES[case]
    config = f"transport: {{mode: {mode}}}\nendpoints: {{scrape: {{interval: 10s}}}}\n"
    return running(config, addresses, envoy_transform=transform)


def resident(pid: int, line: str) -> float:
    """MiB, as /proc/PID/status has them: VmRSS now, VmHWM at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{line}:")[1].split()[0]) / 1024


async def latency(options: argparse.Namespace) -> dict[str, Any]:
    prompts = Prompts(options.kilobytes * 1000)
    rounds: list[dict[str, dict[str, float]]] = []
    with pods(options.answer) as addresses:
        async with contextlib.AsyncExitStack() as opened:
            gateways = {case: await opened.enter_async_context(gateway_of(case, addresses)) for case in CASES}
            number = 0
            for turn in range(options.rounds + 1):
                found: dict[str, dict[str, float]] = {}
                for case, gateway in gateways.items():
                    pids = {"sidecar": gateway.sidecar, "envoy": gateway.envoy}
                    before = {name: on_cpu_seconds(pid) for name, pid in pids.items()}
                    times, took = await load(gateway.client, prompts, number, options)
                    number += options.requests
                    found[case] = {
                        "p50_ms": median(times) * 1e3,
                        "p95_ms": quantiles(times, n=20)[-1] * 1e3,
                        "requests_per_second": options.requests / took,
                        **{
                            f"{name}_cpu_ms": (on_cpu_seconds(pid) - before[name]) / options.requests * 1e3
                            for name, pid in pids.items()
                        },
                    }
                if turn:  # the first warms up
                    rounds.append(found)
    print(f"{'':32}{'TTFT p50':>10}{'added':>10}{'p95':>10}{'req/s':>8}{'sidecar CPU':>13}{'Envoy CPU':>11}")
    for case in CASES:
        middle = {name: median([one[case][name] for one in rounds]) for name in rounds[0][case]}
        added = median([one[case]["p50_ms"] - one["no ext_proc"]["p50_ms"] for one in rounds])
        print(
            f"{case:32}{middle['p50_ms']:7.1f} ms{added:+7.1f} ms{middle['p95_ms']:7.1f} ms"
            f"{middle['requests_per_second']:8.0f}{middle['sidecar_cpu_ms']:10.2f} ms{middle['envoy_cpu_ms']:8.2f} ms"
        )
    return {"rounds": rounds}


async def memory(options: argparse.Namespace) -> dict[str, Any]:
    prompts = Prompts(10 << 20)
    results: dict[str, dict[str, float]] = {}
    with pods(options.answer) as addresses:
        for case in list(CASES)[2:]:
            async with gateway_of(case, addresses) as gateway:
                before = resident(gateway.sidecar, "VmRSS")
                times, took = await load(gateway.client, prompts, 0, options)
                results[case] = {
                    "sidecar_at_rest_mib": before,
                    "sidecar_peak_mib": resident(gateway.sidecar, "VmHWM"),
                    "sidecar_after_mib": resident(gateway.sidecar, "VmRSS"),
                    "envoy_peak_mib": resident(gateway.envoy, "VmHWM"),
                    "requests_per_second": options.requests / took,
                    "p50_ms": median(times) * 1e3,
                }
    for case, result in results.items():
        print(case, *[f"  {name:20}{value:10.1f}" for name, value in result.items()], sep="\n")
    above = results[BOUNDED]["sidecar_peak_mib"] - results[BOUNDED]["sidecar_at_rest_mib"]
    print(f"{BOUNDED}: {above:.0f} MiB above rest; {MEMORY_BOUND} are allowed")
    return {"memory": results, "within_bound": above <= MEMORY_BOUND}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--concurrency", type=int)
    parser.add_argument("--kilobytes", type=int, default=220)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int)
    parser.add_argument("--answer", type=float, default=1.0, help="seconds that an answer takes after its first event")
    options = parser.parse_args()
    options.concurrency = options.concurrency or (100 if options.memory else 60)
    options.requests = options.requests or (300 if options.memory else 240)
    size = "10 MiB" if options.memory else f"{options.kilobytes} KB"
    print(f"prompts of {size}, {options.concurrency} at once, answers of {options.answer:g} s")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        result = asyncio.run((memory if options.memory else latency)(options))
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    RESULTS.mkdir(exist_ok=True)
    where = RESULTS / f"large_prompts{'-memory' if options.memory else ''}-{stamp}.json"
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()}
    where.write_text(json.dumps({"options": vars(options), "machine": machine, **result}, indent=1) + "\n")
    print(where.relative_to(ROOT))
    return int(not result.get("within_bound", True))


if __name__ == "__main__":
    sys.exit(main())
