"""What scraping many pods costs the requests: latency of decisions with and without it, and the interval in force.

    python bench/scraping.py [--pods 2000] [--page 60000] [--rate 50] [--seconds 20] [--rounds 3]

Pods are ports of one process, each with a metrics page of that size. A picker of its own process scrapes them, by
default as often as it does by default, and for comparison once an hour; a client asks it at a steady rate, by grpcio.
Both pickers run at once and take turns in being asked. Printed are percentiles of the time from a request's headers to
its pick, the picker's CPU, and how often a pod is scraped.
"""

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import quantiles
from typing import Any

import aiohttp
import grpc
from gateways.processes import on_cpu_seconds
from gateways.systems import free_port

from extproc.demo.process import Child

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.envoy_messages import ProcessingRequest  # noqa: E402 - its path comes first
from support.picker import BODY, HEADERS, METHOD  # noqa: E402

FORMS = {"once an hour": "1h", "default": "200ms"}
START_TIMEOUT = 120.0


@contextlib.asynccontextmanager
async def picker(folder: Path, name: str, interval: str, pods: list[str]) -> AsyncIterator[dict[str, Any]]:
    port, admin = free_port(), free_port()
    path = folder / f"{name}.yaml".replace(" ", "-")
    path.write_text(
        f"endpoints: {{static: {json.dumps(pods)}, scrape: {{interval: {interval}}}}}\n"
        f"transport: {{address: '127.0.0.1:{port}'}}\nadmin: {{port: {admin}}}\n"
        f"envoy: {{endpointsFile: {folder}/{port}.yaml}}\n",
        encoding="utf-8",
    )
    child = await Child.start(name, [sys.executable, "-m", "extproc", "serve", "--config", str(path)])
    try:
        await child.line(lambda text: '"message":"ready"' in text, START_TIMEOUT)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield {"channel": channel, "pid": child.process.pid, "admin": admin}
    finally:
        await child.stop()


def messages() -> list[bytes]:
    head, rest = ProcessingRequest(), ProcessingRequest()
    for name, value in HEADERS:
        head.request_headers.headers.headers.add(key=name, raw_value=value.encode())
    head.protocol_config.request_body_mode = 2
    rest.request_body.body, rest.request_body.end_of_stream = BODY, True
    return [head.SerializeToString(), rest.SerializeToString()]


async def ask(channel: Any, said: list[bytes]) -> float:
    begun = time.perf_counter()
    call = channel.stream_stream(METHOD)(timeout=10)
    for message in said:
        await call.write(message)
        await call.read()
    took = time.perf_counter() - begun
    call.cancel()
    return took


async def load(one: dict[str, Any], rate: float, seconds: float) -> list[float]:
    said = messages()
    start = time.perf_counter()
    found = []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(start + number / rate - time.perf_counter(), 0))
        found.append(await ask(one["channel"], said))
    return found


async def interval(one: dict[str, Any]) -> float:
    async with aiohttp.ClientSession() as client, client.get(f"http://127.0.0.1:{one['admin']}/metrics") as response:
        page = await response.text()
    name = "infer_gateway_scrape_interval_seconds "
    return next(float(line.removeprefix(name)) for line in page.splitlines() if line.startswith(name))


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=2000)
    parser.add_argument("--page", type=int, default=60_000)
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    script = str(ROOT / "bench" / "gateways" / "pods.py")
    command = [sys.executable, script, "--pods", str(options.pods), "--page", str(options.page)]
    children = await Child.start("pods", command)
    found: dict[str, list[float]] = {name: [] for name in FORMS}
    cpu: dict[str, float] = dict.fromkeys(FORMS, 0.0)
    try:
        line = await children.line(lambda text: '"addresses"' in text, START_TIMEOUT)
        pods = json.loads(line)["addresses"]
        async with contextlib.AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            running = {
                name: await stack.enter_async_context(picker(folder, name, every, pods))
                for name, every in FORMS.items()
            }
            for one in running.values():
                await load(one, options.rate, 2)
            for _ in range(options.rounds):
                for name, one in running.items():
                    before = on_cpu_seconds(one["pid"])
                    found[name] += await load(one, options.rate, options.seconds)
                    cpu[name] += on_cpu_seconds(one["pid"]) - before
            size = f"{options.pods} pods, pages of {options.page} bytes, {options.rate:g} requests/s"
            print(f"{size}; load {os.getloadavg()[0]:.1f}")
            for name, times in found.items():
                cuts = quantiles(times, n=1000)
                shown = "  ".join(f"p{share:g} {cuts[int(share * 10) - 1] * 1e3:6.2f} ms" for share in (50, 90, 99))
                share = cpu[name] / (options.rounds * options.seconds)
                print(f"{name:14} {shown}  {share:5.2f} cores  a pod every {await interval(running[name]):.2f} s")
    finally:
        await children.stop()


if __name__ == "__main__":
    asyncio.run(main())
