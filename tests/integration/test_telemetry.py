"""What operators get of each request: a line of JSON, and spans at a collector."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from support.eventually import PATIENCE, eventually
from support.gateway import CHAT, MODEL, configuration, gateway

from extproc.demo.stack import Stack

pytestmark = pytest.mark.integration

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Collector:
    """Takes spans as a collector does, by OTLP over HTTP."""

    def __init__(self) -> None:
        self.url = ""
        self.whole: list[Span] = []

    @property
    def spans(self) -> list[tuple[str, str]]:
        return [(span.name, span.trace_id.hex()) for span in self.whole]

    async def take(self, request: web.Request) -> web.Response:
        message = ExportTraceServiceRequest.FromString(await request.read())
        self.whole += [
            span for resource in message.resource_spans for scope in resource.scope_spans for span in scope.spans
        ]
        return web.Response(content_type="application/x-protobuf")


@pytest_asyncio.fixture
async def collector() -> AsyncIterator[Collector]:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    yield collector
    await runner.cleanup()


async def test_spans_reach_the_collector_in_the_clients_trace(tmp_path: Path, collector: Collector) -> None:
    document = f"tracing: {{endpoint: '{collector.url}', sampleRatio: 0}}"
    async with gateway(configuration(document, tmp_path), pods=1) as running:
        assert (await running.chat(headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})).status == 200
        assert (await running.chat()).status == 200
        await eventually(running.idle)
        # It sends what is waiting before it ends.
        sidecar = running.stack.sidecar
        assert sidecar is not None
        assert await sidecar.stop(PATIENCE) == 0
    assert sorted(collector.spans) == [(f"chat {MODEL}", TRACE), ("infer_gateway.decide", TRACE)]


@pytest.mark.parametrize("sent", ["", f"00-{TRACE}-00f067aa0ba902b7-01"])
async def test_the_engines_spans_hang_under_the_gateways(tmp_path: Path, collector: Collector, sent: str) -> None:
    seen: list[str] = []

    async def echo(request: web.Request) -> web.Response:
        seen.append(request.headers.get("traceparent", ""))
        return web.json_response({"choices": []})

    app = web.Application()
    app.router.add_post(CHAT, echo)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        document = f"tracing: {{endpoint: '{collector.url}', sampleRatio: 1}}"
        pod = f"127.0.0.1:{runner.addresses[0][1]}"
        async with Stack(configuration(document, tmp_path), [pod]) as stack, aiohttp.ClientSession() as client:
            body = {"model": MODEL, "messages": []}
            headers = {"traceparent": sent} if sent else {}
            async with client.post(f"http://{stack.address}{CHAT}", json=body, headers=headers) as answer:
                assert answer.status == 200
            assert stack.sidecar is not None
            assert await stack.sidecar.stop(PATIENCE) == 0
    finally:
        await runner.cleanup()
    (header,) = seen
    version, trace, span, flags = header.split("-")
    assert (version, flags) == ("00", "01")
    assert (trace == TRACE) == bool(sent)
    (found,) = [one for one in collector.whole if one.name == f"chat {MODEL}"]
    assert (found.trace_id.hex(), found.span_id.hex()) == (trace, span), "the pod's parent is the gateway's span"
    assert found.parent_span_id.hex() == ("00f067aa0ba902b7" if sent else "")


async def test_a_collector_that_is_away_disturbs_nobody(tmp_path: Path) -> None:
    document = "tracing: {endpoint: 'http://127.0.0.1:9/v1/traces', sampleRatio: 1}"
    async with gateway(configuration(document, tmp_path), pods=1) as running:
        answers = await asyncio.gather(*[running.chat(f"{n}") for n in range(20)])
        assert {answer.status for answer in answers} == {200}


async def test_refused_requests_are_lines_too(tmp_path: Path) -> None:
    """With the model, the path without its query, and a cause; metrics and answers have no more than before."""
    lines: list[bytes] = []
    document = "{logging: {access: true}, routes: [{model: known, targets: [{pool: default}]}]}"
    async with gateway(configuration(document, tmp_path), pods=1, on_output=lines.append) as running:
        for body, status in ((b"{", 400), (b'{"model": "other", "messages": []}', 404)):
            headers = {"content-type": "application/json"}
            async with running.client.post(f"{CHAT}?key=secret", data=body, headers=headers) as answer:
                assert answer.status == status
        await eventually(lambda: len(lines) == 2)
    first, second = [json.loads(line) for line in lines]
    assert (first["status"], first["details"], first["model"]) == (400, "invalid_json", "")
    assert (second["status"], second["details"], second["model"]) == (404, "model_not_found", "other")
    assert {line["path"] for line in (first, second)} == {CHAT}
    assert all(line["detail"] and line["request_id"] for line in (first, second))
    assert not any(b"secret" in line for line in lines)


async def test_a_line_of_json_per_request(tmp_path: Path) -> None:
    lines: list[bytes] = []
    document = "logging: {access: true}"
    async with gateway(configuration(document, tmp_path), pods=1, on_output=lines.append) as running:
        for stream in (False, True):
            secret = "a prompt that is nobody's business"
            assert (await running.chat(secret, stream=stream, max_tokens=3)).status == 200

        async def written() -> bool:
            return len(lines) == 2

        await eventually(written)
    for raw in lines:
        line = json.loads(raw)
        assert (line["model"], line["status"], line["completion_tokens"]) == (MODEL, 200, 3)
        assert line["picked"] == line["served"] == running.fleet.addresses[0]
        assert line["ttft"] > 0
        assert b"business" not in raw
