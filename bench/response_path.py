"""CPU per request for answers of 1, 100 and 1 000 streamed tokens, of the sidecar and of Envoy, through the real Envoy.

The sidecar's is to be the same for each: no byte of an answer enters it. Both transports are measured. Requests are
sent at one rate whatever the length of their answers: a server that is busier does more with each wake-up, and that is
not what is to be compared. CPU time is that of the processes, all threads, in rounds that take turns.

    python bench/response_path.py [--rounds 3] [--requests 300] [--rate 50]
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile

import aiohttp
from gateways.ours import running
from gateways.processes import on_cpu_seconds

from modelsim.server import EngineConfig, Profile, ReplicaConfig, serve

TOKENS = (1, 100, 1000)
MODEL = "bench"


async def load(client: aiohttp.ClientSession, requests: int, rate: float, tokens: int) -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()

    async def one(number: int) -> None:
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": f"Question {number} of a bench. " * 30}],
            "max_tokens": tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        await asyncio.sleep(start + number / rate - loop.time())
        async with client.post("/v1/chat/completions", json=body) as response:
            text = await response.read()
            if response.status != 200 or b"[DONE]" not in text:
                raise SystemExit(f"a request failed: {response.status} {text[:200]!r}")

    await asyncio.gather(*[one(number) for number in range(requests)])


async def measure(mode: str, options: argparse.Namespace) -> dict[int, tuple[list[float], list[float]]]:
    """CPU µs per request, of the sidecar and of Envoy, by tokens."""
    config = f"transport: {{mode: {mode}}}\nendpoints: {{scrape: {{interval: 60s}}}}\nlogging: {{level: info}}\n"
    # Long answers are to be there quickly: this measures the path of bytes, not an engine.
    engine = EngineConfig(profile=Profile().faster(1000))
    fleet = await serve([ReplicaConfig(name=f"pod-{n}", model=MODEL, engine=engine) for n in range(3)])
    result: dict[int, tuple[list[float], list[float]]] = {tokens: ([], []) for tokens in TOKENS}
    try:
        async with running(config, fleet.addresses, envoy_concurrency=1) as gateway:
            pids = (gateway.sidecar, gateway.envoy)
            await load(gateway.client, 50, options.rate, 1)
            for _ in range(options.rounds):
                for tokens in TOKENS:
                    before = [on_cpu_seconds(pid) for pid in pids]
                    await load(gateway.client, options.requests, options.rate, tokens)
                    spent = [on_cpu_seconds(pid) - start for pid, start in zip(pids, before, strict=True)]
                    for column, seconds in zip(result[tokens], spent, strict=True):
                        column.append(seconds / options.requests * 1e6)
    finally:
        await fleet.stop()
    return result


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--rate", type=float, default=50)
    options = parser.parse_args()
    size = f"{options.requests} requests, {options.rate:g} a second, {options.rounds} rounds"
    print(f"{size}; CPU µs/request, min / median")
    failed = False
    for mode in ("sidecar", "grpcio"):
        result = await measure(mode, options)
        print(f"\n{mode:8}  {'tokens':>7}  {'sidecar':>15}  {'Envoy':>15}")
        for tokens, (ours, envoys) in result.items():
            cells = [f"{min(column):6.0f} / {statistics.median(column):6.0f}" for column in (ours, envoys)]
            print(f"{'':8}  {tokens:7}  {cells[0]:>15}  {cells[1]:>15}")
        ratio = statistics.median(result[1000][0]) / statistics.median(result[1][0])
        print(f"{'':8}  1000 : 1 tokens = {ratio:.2f} (sidecar)")
        failed |= ratio > 1.2
    return int(failed)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.exit(asyncio.run(main()))
