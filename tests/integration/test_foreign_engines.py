"""Engines that are not vLLM, in the words that they really use. `bench/real_engine.py` has the engine itself."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families
from support.eventually import PATIENCE, eventually
from support.gateway import CHAT, configuration

from extproc.demo.stack import Stack

pytestmark = pytest.mark.integration

#: What llama.cpp's server (b11549) writes: no series for some signals, and names that others do not have.
LLAMACPP_PAGE = """\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed, excluding cached tokens
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 0
# HELP llamacpp:prompt_tokens_seconds Average prompt throughput in tokens/s
# TYPE llamacpp:prompt_tokens_seconds gauge
llamacpp:prompt_tokens_seconds 0
# HELP llamacpp:requests_processing Number of requests processing
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 3
# HELP llamacpp:requests_deferred Number of requests deferred
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 2
# HELP llamacpp:n_busy_slots_per_decode Average number of busy slots per llama_decode() call
# TYPE llamacpp:n_busy_slots_per_decode gauge
llamacpp:n_busy_slots_per_decode 0
"""

_CHUNK = '"created":1795519196,"id":"chatcmpl-FHY5bfz19hChmhQDMiCV30XkM705jlor","model":"pod-a","system_fingerprint":"b0-unknown"'
_USAGE = (
    '"usage":{"completion_tokens":6,"prompt_tokens":44,"total_tokens":50,"prompt_tokens_details":{"cached_tokens":39}},'
    '"timings":{"cache_n":39,"prompt_n":5,"prompt_ms":306.3,"predicted_n":6,"predicted_ms":948.567}'
)
#: Its answers, as recorded: a first chunk whose content is null, one without choices, its own `timings`, no `: ping`.
LLAMACPP_EVENTS = [
    f'{{"choices":[{{"finish_reason":null,"index":0,"delta":{{"role":"assistant","content":null}}}}],{_CHUNK}}}',
    f'{{"choices":[{{"finish_reason":null,"index":0,"delta":{{"content":"Say"}}}}],{_CHUNK}}}',
    f'{{"choices":[{{"finish_reason":"length","index":0,"delta":{{}}}}],{_CHUNK}}}',
    f'{{"choices":[],{_CHUNK},"object":"chat.completion.chunk",{_USAGE}}}',
    "[DONE]",
]
LLAMACPP_ANSWER = (
    '{"choices":[{"finish_reason":"length","index":0,"message":{"role":"assistant","content":"Say hi."}}],'
    f"{_CHUNK},{_USAGE}}}"
)


class Foreign:
    """A pod that answers as llama.cpp does. `pages`: path of a metrics page -> status and text; all other paths: 404."""

    def __init__(self, pages: dict[str, tuple[int, str]]) -> None:
        self.pages = pages
        self.address = ""
        self.bodies: list[bytes] = []

    async def page(self, request: web.Request) -> web.Response:
        status, text = self.pages.get(request.path, (404, '{"error":{"message":"File Not Found","code":404}}'))
        return web.Response(status=status, text=text)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.read())
        if not json.loads(self.bodies[-1]).get("stream"):
            return web.Response(text=LLAMACPP_ANSWER, content_type="application/json")
        response = web.StreamResponse(headers={"content-type": "text/event-stream", "server": "llama.cpp"})
        await response.prepare(request)
        for event in LLAMACPP_EVENTS:
            await response.write(f"data: {event}\n\n".encode())
        return response


@contextlib.asynccontextmanager
async def foreign(pages: dict[str, tuple[int, str]]) -> AsyncIterator[Foreign]:
    pod = Foreign(pages)
    app = web.Application()
    app.router.add_post(CHAT, pod.chat)
    app.router.add_get("/{path:.*}", pod.page)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    pod.address = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield pod
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def in_front_of(pod: Foreign, endpoints: str, folder: Path) -> AsyncIterator[tuple[Stack, aiohttp.ClientSession]]:
    config = configuration(f"endpoints: {endpoints}", folder)
    async with (
        Stack(config, [pod.address], envoy_concurrency=1) as stack,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as client,
    ):
        yield stack, client


async def row(stack: Stack) -> dict[str, Any]:
    rows: list[dict[str, Any]] = (await stack.debug("/debug/endpoints"))["endpoints"]
    return rows[0]


async def samples(stack: Stack, client: aiohttp.ClientSession) -> dict[tuple[str, ...], float]:
    async with client.get(f"http://{stack.admin}/metrics") as response:
        page = await response.text()
    return {
        (
            sample.name.removeprefix("infer_gateway_"),
            *[sample.labels[name] for name in sorted(sample.labels)],
        ): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


async def chat(stack: Stack, client: aiohttp.ClientSession, *, stream: bool) -> tuple[int, str, bytes]:
    body = {"model": "gemma", "messages": [{"role": "user", "content": "Say hello."}], "stream": stream}
    async with client.post(f"http://{stack.address}{CHAT}", json=body) as response:
        return response.status, response.headers["content-type"], await response.read()


async def test_llamacpp(tmp_path: Path) -> None:
    async with (
        foreign({"/metrics": (200, LLAMACPP_PAGE)}) as pod,
        in_front_of(pod, "{engine: llamacpp}", tmp_path) as (stack, client),
    ):
        seen = await row(stack)
        assert (seen["waiting"], seen["running"]) == (2, 3)
        # Not told by this engine: unknown, which is not 0.
        assert (seen["kv_usage"], seen["ttft"], seen["tpot"]) == (None, None, None)
        assert seen["failures"] == 0

        status, kind, body = await chat(stack, client, stream=True)
        assert (status, kind) == (200, "text/event-stream")
        assert body == b"".join(f"data: {event}\n\n".encode() for event in LLAMACPP_EVENTS)
        status, kind, body = await chat(stack, client, stream=False)
        assert (status, kind.partition(";")[0]) == (200, "application/json")
        assert body == LLAMACPP_ANSWER.encode()

        got: dict[tuple[str, ...], float] = {}

        async def both_ended() -> bool:
            got.update(await samples(stack, client))
            return got.get(("requests_total", "gemma", pod.address, "200")) == 2

        await eventually(both_ended)
        tokens = {kind: got["tokens_total", kind, "gemma"] for kind in ("prompt", "cached", "completion")}
        assert tokens == {"prompt": 88, "cached": 78, "completion": 12}
        assert got["time_to_first_token_seconds_count", "gemma", "true"] == 1

        # What the engine does not measure, the gateway does.
        async def measured() -> bool:
            return bool((await row(stack))["ttft"])

        await eventually(measured)


async def test_an_engine_that_is_loading_its_model(tmp_path: Path) -> None:
    loading = (503, '{"error":{"message":"Loading model","type":"unavailable_error","code":503}}')
    async with (
        foreign({"/metrics": loading}) as pod,
        in_front_of(pod, "{engine: llamacpp}", tmp_path) as (stack, _),
    ):
        seen = await row(stack)
        assert (seen["waiting"], seen["running"]) == (None, None)
        assert "503" in seen["error"]
        pod.pages["/metrics"] = (200, LLAMACPP_PAGE)

        async def read() -> bool:
            return (await row(stack))["waiting"] == 2

        await eventually(read)
        assert (await row(stack))["failures"] == 0


async def test_an_engine_without_a_metrics_page(tmp_path: Path) -> None:
    async with foreign({}) as pod, in_front_of(pod, "{}", tmp_path) as (stack, client):
        answers = await asyncio.gather(*[chat(stack, client, stream=bool(n % 2)) for n in range(8)])
        assert [status for status, _, _ in answers] == [200] * 8

        async def ended() -> bool:
            return (await row(stack))["in_flight"] == 0

        await eventually(ended)
        seen = await row(stack)
        assert seen["ready"]
        assert seen["served"] == 8
        assert (seen["waiting"], seen["running"], seen["kv_usage"]) == (None, None, None)
        assert "404" in seen["error"]
        assert (await samples(stack, client))["scrape_failures_total", "http_status"] >= 1

        async def counted() -> bool:
            return (await samples(stack, client)).get(("tokens_total", "completion", "gemma")) == 48

        await eventually(counted)


async def test_an_engine_of_ones_own(tmp_path: Path) -> None:
    page = 'jobs{state="queued"} 4\njobs{state="active"} 7\ncache_fill 0.25\n'
    own = (
        "{engine: mine, engines: {mine: {waiting: ['jobs{state=\"queued\"}'], running: ['jobs{state=\"active\"}'],"
        " kvUsage: [cache_fill]}}, scrape: {path: /stats}}"
    )
    async with foreign({"/stats": (200, page)}) as pod, in_front_of(pod, own, tmp_path) as (stack, _):
        seen = await row(stack)
        assert (seen["waiting"], seen["running"], seen["kv_usage"]) == (4, 7, 0.25)


async def test_trtllm_has_its_exposition_elsewhere(tmp_path: Path) -> None:
    pages = {
        "/metrics": (200, '[{"iter": 1, "numActiveRequests": 2}]'),
        "/prometheus/metrics": (200, "trtllm_num_requests_waiting 1\ntrtllm_num_requests_running 6\n"),
    }
    async with foreign(pages) as pod, in_front_of(pod, "{engine: trtllm}", tmp_path) as (stack, _):
        seen = await row(stack)
        assert (seen["waiting"], seen["running"]) == (1, 6)
