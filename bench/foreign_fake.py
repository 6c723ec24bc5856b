"""The gateway in front of somebody else's fake model server: `python bench/foreign_fake.py [--requests 20]`.

Two `guidellm mock-server` processes behind the real Envoy and sidecar, with the default plugins. They have no metrics
page, so the gateway steers by what it knows itself. Unary and streamed requests of each API that they have are sent,
then as many with one of the servers failing. Printed is what came back, and what the gateway says of it. The first run
installs `requirements/foreign-fake.txt` (0.6 GB) into an environment of its own.

Exit code 1: a request failed for which no server failed, an answer was not whole, or the gateway counted wrongly.
"""

import argparse
import asyncio
import contextlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import aiohttp
from engines.environment import environment
from engines.pages import Samples, samples, total
from gateways.systems import free_port

from extproc.config import loads
from extproc.demo.process import Child
from extproc.demo.stack import Stack

MODEL = "somebody-elses"
TTFT_MS, ITL_MS = 100.0, 10.0
#: Seconds for the server to import what it imports, on a machine that is busy with others.
START_TIMEOUT = 120.0
SETTLE = 10.0

#: API -> path and body.
APIS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello there!"}], "max_tokens": 8}),
    "completions": ("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 8}),
    "responses": ("/v1/responses", {"input": "Hello there!", "max_output_tokens": 8}),
}


@dataclass
class Answer:
    api: str
    stream: bool
    status: int = 0
    content_type: str = ""
    server: str = ""
    events: int = 0
    whole: bool = False
    usage: dict[str, Any] | None = None
    ttft: float = 0.0

    def tokens(self, *names: str) -> int:
        return sum((self.usage or {}).get(name) or 0 for name in names)


@contextlib.asynccontextmanager
async def fakes(folder: Path, *extra: list[str]) -> AsyncIterator[list[str]]:
    """Addresses of one server per list of further arguments."""
    children, addresses = [], []
    try:
        for number, arguments in enumerate(extra, 1):
            port = free_port()
            command = [
                str(folder / "bin" / "guidellm"), "mock-server", "--port", str(port), "--model", MODEL,
                "--ttft-ms", str(TTFT_MS), "--itl-ms", str(ITL_MS), "--request-latency", "0.2", *arguments,
            ]  # fmt: skip
            # Its tokenizer is a fake too: nothing is to be downloaded.
            child = await Child.start(f"mock-server {number}", command, env={**os.environ, "HF_HUB_OFFLINE": "1"})
            children.append(child)
            addresses.append(f"127.0.0.1:{port}")
        for child, address in zip(children, addresses, strict=True):
            await healthy(child, address)
        yield addresses
    finally:
        for child in children:
            await child.stop()


async def healthy(child: Child, address: str) -> None:
    async with asyncio.timeout(START_TIMEOUT), aiohttp.ClientSession() as client:
        while child.process.returncode is None:
            with contextlib.suppress(aiohttp.ClientError):
                async with client.get(f"http://{address}/health") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.2)
    raise SystemExit("\n".join([f"{child.name} ended:", *child.log]))


async def ask(client: aiohttp.ClientSession, api: str, *, stream: bool) -> Answer:
    path, body = APIS[api]
    body = {"model": MODEL, **body}
    if stream:
        body |= {"stream": True} | ({} if api == "responses" else {"stream_options": {"include_usage": True}})
    answer = Answer(api, stream)
    sent = time.perf_counter()
    async with client.post(path, json=body) as response:
        answer.status = response.status
        answer.content_type = response.headers.get("content-type", "")
        answer.server = response.headers.get("x-served-by", response.headers.get("server", ""))
        parts = []
        async for chunk in response.content.iter_any():
            answer.ttft = answer.ttft or time.perf_counter() - sent
            parts.append(chunk)
    raw = b"".join(parts).decode()
    if not stream or answer.status != 200:
        answer.usage = json.loads(raw).get("usage")
        answer.whole = True
        return answer
    events = [line[6:] for line in raw.splitlines() if line.startswith("data: ")]
    answer.events = len(events)
    for event in map(json.loads, [one for one in events if one != "[DONE]"]):
        answer.usage = event.get("usage") or (event.get("response") or {}).get("usage") or answer.usage
        answer.whole |= event.get("type") == "response.completed"
    answer.whole |= events[-1:] == ["[DONE]"]
    return answer


async def send(stack: Stack, requests: int) -> list[Answer]:
    kinds = [(api, stream) for api in APIS for stream in (False, True)]
    gate = asyncio.Semaphore(4)
    async with aiohttp.ClientSession(f"http://{stack.address}", timeout=aiohttp.ClientTimeout(total=60)) as client:

        async def one(api: str, stream: bool) -> Answer:
            async with gate:
                return await ask(client, api, stream=stream)

        return await asyncio.gather(*[one(api, stream) for api, stream in kinds for _ in range(requests)])


async def settled(stack: Stack, requests: int) -> Samples:
    """The gateway's metrics once it has seen the end of so many requests."""
    async with asyncio.timeout(SETTLE):
        while True:
            page = await samples(stack.admin)
            if total(page, "infer_gateway_requests_total") >= requests:
                return page
            await asyncio.sleep(0.05)


def show(answers: list[Answer], page: Samples, rows: list[dict[str, Any]]) -> None:
    print(f"{'API':<13}{'form':<10}{'answers':<18}{'content type':<20}{'events':>7}{'whole':>7}{'usage':>7}{'TTFT':>9}")
    for api in APIS:
        for stream in (False, True):
            mine = [one for one in answers if (one.api, one.stream) == (api, stream)]
            status = ", ".join(
                f"{count}x {code}" for code, count in sorted(Counter(one.status for one in mine).items())
            )
            good = [one for one in mine if one.status == 200]
            ttft = f"{median(one.ttft for one in good) * 1e3:.0f} ms" if good else "-"
            print(
                f"{api:<13}{'streamed' if stream else 'unary':<10}{status:<18}{mine[0].content_type:<20}"
                f"{max(one.events for one in mine):>7}{sum(one.whole for one in good):>7}"
                f"{sum(one.usage is not None for one in good):>7}{ttft:>9}"
            )
    count, seconds = (total(page, f"infer_gateway_time_to_first_token_seconds_{part}") for part in ("count", "sum"))
    print(f"gateway: {total(page, 'infer_gateway_requests_total'):g} requests; TTFT of {count:g}, mean "
          f"{seconds / count * 1e3:.0f} ms; {total(page, 'infer_gateway_retries_total'):g} retries; scrapes: "
          f"{total(page, 'infer_gateway_scrape_seconds_count'):g} succeeded, "
          f"{total(page, 'infer_gateway_scrape_failures_total', 'http_status'):g} got 404")  # fmt: skip
    for row in rows:
        print(f"pod {row['address']}: ready {row['ready']}, served {row['served']}, in flight {row['in_flight']}, "
              f"waiting {row['waiting']}, running {row['running']}, error {row['error']!r}")  # fmt: skip


def wrong(answers: list[Answer], page: Samples, rows: list[dict[str, Any]]) -> list[str]:
    good = [one for one in answers if one.status == 200]
    prompt = sum(one.tokens("prompt_tokens", "input_tokens") for one in good)
    completion = sum(one.tokens("completion_tokens", "output_tokens") for one in good)
    expected = {
        "whole answers": (sum(one.whole for one in good), len(good)),
        "answers with usage": (sum(one.usage is not None for one in good), len(good)),
        "gateway, status 200": (total(page, "infer_gateway_requests_total", "200"), len(good)),
        "gateway, prompt tokens": (total(page, "infer_gateway_tokens_total", "prompt"), prompt),
        "gateway, completion tokens": (total(page, "infer_gateway_tokens_total", "completion"), completion),
        "requests left in flight": (sum(row["in_flight"] for row in rows), 0),
        "pods that are ready": (sum(row["ready"] for row in rows), len(rows)),
        "pods that served": (sum(row["served"] > 0 for row in rows), len(rows)),
        "pods with signals of an engine": (sum(row["waiting"] is not None for row in rows), 0),
    }
    return [f"{what}: {got:g}, not {want:g}" for what, (got, want) in expected.items() if got != want]


async def scenario(title: str, folder: Path, requests: int, *, fail_after: int | None) -> bool:
    config = loads("endpoints: {scrape: {interval: 1s}}", "foreign fake").config
    limit = [] if fail_after is None else ["--fail-after-requests", str(fail_after)]
    async with fakes(folder, [], limit) as pods, Stack(config, pods, envoy_concurrency=1) as stack:
        answers = await send(stack, requests)
        page = await settled(stack, len(answers))
        rows = (await stack.debug("/debug/endpoints"))["endpoints"]
    print(f"\n{title}")
    show(answers, page, rows)
    problems = wrong(answers, page, rows)
    failed = sum(one.status != 200 for one in answers)
    if fail_after is None and failed:
        problems.append(f"{failed} requests failed")
    elif failed:
        print(f"{failed} of {len(answers)} requests were answered by the failing server with its error, unchanged")
    for problem in problems:
        print(f"WRONG: {problem}")
    return not problems


async def run(requests: int) -> int:
    folder = environment("foreign-fake", "foreign-fake.txt")
    good = await scenario("two servers", folder, requests, fail_after=None)
    good &= await scenario("one of them fails after 5 requests", folder, requests, fail_after=5)
    print("\nThe gateway counted what its clients saw." if good else "\nThe gateway counted something else.")
    return int(not good)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=20, help="per API and form")
    sys.exit(asyncio.run(run(parser.parse_args().requests)))


if __name__ == "__main__":
    main()
