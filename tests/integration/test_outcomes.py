"""How requests ended, as the sidecar knows it: one suite over our own Envoy, whose filters tell, and a foreign gateway."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families
from support.eventually import eventually
from support.foreign_envoy import full_duplex
from support.gateway import MODEL, Gateway, configuration, gateway
from support.raw_http import http2

from modelsim.server import Faults

pytestmark = pytest.mark.integration

FIRST, EACH, TOKENS = 0.1, 0.02, 6


#: How Envoy is set up, which server answers it, and which filters read usage.
FORMS = {
    "lean": (str, "sidecar", "ai-filter"),
    "grpc.aio": (str, "grpcio", "ai-filter"),
    "stable filters": (str, "sidecar", "stable-filters"),
    "full-duplex, lean": (full_duplex, "sidecar", "ai-filter"),
    "full-duplex, grpc.aio": (full_duplex, "grpcio", "ai-filter"),
}


@pytest_asyncio.fixture(params=FORMS)
async def running(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateway]:
    transform, mode, usage = FORMS[request.param]
    document = f"transport: {{mode: {mode}, maxEndpoints: 3}}\nenvoy: {{usage: {usage}}}\n"
    async with gateway(configuration(document, tmp_path), envoy_transform=transform) as one:
        yield one


async def samples(running: Gateway) -> dict[tuple[str, ...], float]:
    async with running.client.get(f"http://{running.stack.admin}/metrics") as response:
        page = await response.text()
    return {
        (sample.name.removeprefix("infer_gateway_"), *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


async def ended(running: Gateway, count: int) -> dict[tuple[str, ...], float]:
    """The samples once `count` requests have ended, in whatever way."""
    got: dict[tuple[str, ...], float] = {}

    async def all_ended() -> bool:
        got.update(await samples(running))
        return sum(value for key, value in got.items() if key[0] == "requests_total") == count

    await eventually(all_ended)
    return got


MESSAGES = [{"role": "user", "content": "A question that is long enough to fill a few blocks of the cache. " * 12}]
REQUESTS = {
    "chat": ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": TOKENS}),
    "completion": ("/v1/completions", {"prompt": MESSAGES[0]["content"], "max_tokens": TOKENS}),
    "responses": ("/v1/responses", {"input": MESSAGES[0]["content"], "max_output_tokens": TOKENS}),
    "messages": ("/v1/messages", {"messages": MESSAGES, "max_tokens": TOKENS}),
}


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("api", REQUESTS)
async def test_tokens_are_exact(running: Gateway, api: str, stream: bool) -> None:
    path, body = REQUESTS[api]
    body = {"model": MODEL, **body}
    if stream:
        body["stream"] = True
        if api in ("chat", "completion"):
            body["stream_options"] = {"include_usage": True}
    prompt = 0
    for number in (1, 2):
        answer = await running.request("POST", path, json=body)
        assert answer.status == 200, answer.body
        prompt = prompt_tokens(answer.body, stream)
        await ended(running, number)
    got = await ended(running, 2)
    assert got["tokens_total", "completion", MODEL] == 2 * TOKENS
    assert got["tokens_total", "prompt", MODEL] == 2 * prompt
    # The second one finds all but the last block of the first.
    assert prompt - 32 <= got["tokens_total", "cached", MODEL] <= prompt


def prompt_tokens(answer: bytes, stream: bool) -> int:
    """All tokens of the prompt as the answer says, cached ones included."""
    events = [json.loads(line[6:]) for line in answer.splitlines() if line.startswith(b"data: {")]
    for event in events if stream else [json.loads(answer)]:
        usage = (event.get("response") or event.get("message") or event).get("usage")
        if usage and "prompt_tokens" in usage:
            return int(usage["prompt_tokens"])
        if usage and "cache_read_input_tokens" in usage:
            return int(usage["input_tokens"] + usage["cache_read_input_tokens"])
        if usage:
            return int(usage["input_tokens"])
    raise AssertionError("the answer has no usage")


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_ttft_is_true(running: Gateway, stream: bool) -> None:
    for replica in running.fleet.replicas:
        replica.faults = Faults(first_token_delay=FIRST, token_delay=EACH)
    started = time.monotonic()
    assert (await running.chat(stream=stream, max_tokens=TOKENS)).status == 200
    took = time.monotonic() - started
    got = await ended(running, 1)
    labels = sorted((MODEL, str(stream).lower()))
    assert got["time_to_first_token_seconds_count", *labels] == 1
    # A unary answer's first byte is its last token's; after the first of a stream the other tokens come.
    rest = EACH * (TOKENS - 1)
    least, most = (FIRST, took - rest) if stream else (FIRST + rest, took)
    assert least <= got["time_to_first_token_seconds_sum", *labels] <= most


async def test_a_stream_that_was_not_asked_for_usage_has_unknown_tokens(running: Gateway) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3, "stream": True}
    assert (await running.request("POST", "/v1/chat/completions", json=body)).status == 200
    got = await ended(running, 1)
    assert not [key for key in got if key[0] == "tokens_total"]
    assert got["time_to_first_token_seconds_count", MODEL, "true"] == 1


async def test_failures_are_known(running: Gateway) -> None:
    for replica in running.fleet.replicas:
        replica.faults = Faults(error_rate=1, status=500)
    assert (await running.chat()).status == 500
    got = await ended(running, 1)
    (key,) = [key for key in got if key[0] == "requests_total"]
    assert "500" in key


async def test_a_retry_counts_where_it_was_answered(running: Gateway) -> None:
    prompt = "A prompt that two requests share. " * 20
    first = await running.chat(prompt)
    await ended(running, 1)
    home = next(n for n, replica in enumerate(running.fleet.replicas) if replica.name == first.pod)
    running.fleet.replicas[home].faults = Faults(error_rate=1, status=503)
    second = await running.chat(prompt)
    assert second.status == 200
    assert second.pod != first.pod
    got = await ended(running, 2)
    assert got["fallbacks_total",] == 1
    assert got["retries_total",] >= 1
    # The prefix went along: once the first pod is well again, the second is still its home as much as the first.
    decisions = (await running.stack.debug("/debug/decisions?limit=1"))["decisions"]
    assert decisions[0]["prefix_match"] > 0.5


async def test_after_1000_mixed_requests_nothing_is_in_flight(running: Gateway) -> None:
    rng = random.Random(7)
    for replica in running.fleet.replicas:
        replica.faults = Faults(error_rate=0.1, status=503)

    async def one(number: int) -> None:
        task = asyncio.create_task(running.chat(f"{number}", stream=number % 2 == 0, max_tokens=rng.randint(1, 12)))
        if number % 5 == 0:
            await asyncio.wait([task], timeout=rng.random() * 0.05)
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    limit = asyncio.Semaphore(50)

    async def limited(number: int) -> None:
        async with limit:
            await one(number)
            if number == 400:
                await running.fleet.kill(1)
            if number == 700:
                await running.fleet.restart(1)

    await asyncio.gather(*[limited(number) for number in range(1000)])
    await eventually(running.idle)
    rows = (await running.stack.debug("/debug/endpoints"))["endpoints"]
    assert [row["in_flight_tokens"] for row in rows] == [0, 0, 0]


async def test_envoy_tells_each_outcome_once(tmp_path: Path) -> None:
    """Of requests that were picked; of a refused one the sidecar knows by itself."""
    async with gateway(configuration("{}", tmp_path)) as running:
        broken = {"data": b"{", "headers": {"content-type": "application/json"}}
        assert (await running.request("POST", "/v1/chat/completions", **broken)).status == 400
        for stream in (False, True):
            for number in range(5):
                assert (await running.chat(f"{number}", stream=stream)).status == 200
        await ended(running, 10)
        stats = await running.stack.envoy_admin("/stats?filter=logs_written")
        assert stats.rstrip().endswith(": 10"), stats


HEADERS = [
    (":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", "/v1/chat/completions"),
    ("content-type", "application/json"),
]  # fmt: skip


async def test_an_answer_ends_without_trailers(tmp_path: Path) -> None:
    """How an answer ends is the client's as the pod said it: nothing of the gateway's is added, and nothing waited for."""
    async with gateway(configuration("{}", tmp_path)) as running:
        for stream in (False, True):
            body = {"model": MODEL, "messages": MESSAGES, "max_tokens": 3, "stream": stream}
            answer = await http2(running.stack.address, HEADERS, json.dumps(body).encode())
            assert answer.status == 200
            assert b'"completion_tokens":3' in answer.body.replace(b" ", b"") or stream
            assert not answer.trailers
