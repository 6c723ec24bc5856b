"""What operators get of each request: a line of JSON, and spans at a collector."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from support.eventually import PATIENCE, eventually
from support.gateway import MODEL, configuration, gateway

pytestmark = pytest.mark.integration

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Collector:
    """Takes spans as a collector does, by OTLP over HTTP."""

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[tuple[str, str]] = []

    async def take(self, request: web.Request) -> web.Response:
        message = ExportTraceServiceRequest.FromString(await request.read())
        self.spans += [
            (span.name, span.trace_id.hex())
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
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
    assert sorted(collector.spans) == [("infer_gateway.decide", TRACE), ("infer_gateway.request", TRACE)]


async def test_a_collector_that_is_away_disturbs_nobody(tmp_path: Path) -> None:
    document = "tracing: {endpoint: 'http://127.0.0.1:9/v1/traces', sampleRatio: 1}"
    async with gateway(configuration(document, tmp_path), pods=1) as running:
        answers = await asyncio.gather(*[running.chat(f"{n}") for n in range(20)])
        assert {answer.status for answer in answers} == {200}


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
