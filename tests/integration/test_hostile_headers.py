"""A client's bytes in a header cost nobody else the outcome of a request."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.eventually import eventually
from support.foreign_envoy import full_duplex
from support.gateway import CHAT, MODEL, Gateway, configuration, gateway
from support.raw_http import http1
from support.raw_http import request as raw

pytestmark = pytest.mark.integration

REQUESTS = 50
#: What Envoy tells of in its log, and what it only passes on.
FIELDS = ("x-request-id", "user-agent", "x-forwarded-for", "referer", "x-own")
HOSTILE = (b"a\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"id\xc3")


@pytest_asyncio.fixture(params=["sidecar", "grpcio", "foreign"])
async def running(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateway]:
    mode, transform = ("grpcio", full_duplex) if request.param == "foreign" else (request.param, str)
    async with gateway(configuration(f"transport: {{mode: {mode}}}\n", tmp_path), envoy_transform=transform) as one:
        yield one


async def test_outcomes_are_all_there(running: Gateway) -> None:
    body = f'{{"model": "{MODEL}", "messages": [{{"role": "user", "content": "hi"}}], "max_tokens": 1}}'.encode()

    async def hostile(number: int) -> int:
        value = HOSTILE[number % len(HOSTILE)]
        fields = [(name, value.decode("latin-1")) for name in FIELDS]
        fields += [("host", "x"), ("content-type", "application/json"), ("content-length", str(len(body)))]
        return (await http1(running.stack.address, raw(f"POST {CHAT} HTTP/1.1", fields, body))).status

    async def good() -> int:
        return (await running.chat(max_tokens=1)).status

    statuses = await asyncio.gather(*[hostile(n) for n in range(REQUESTS)], *[good() for _ in range(REQUESTS)])
    assert set(statuses) == {200}

    async def all_told() -> bool:
        return await running.metric("infer_gateway_requests_total") == 2 * REQUESTS

    await eventually(all_told)
    async with running.client.get(f"http://{running.stack.admin}/metrics") as response:
        page = await response.text()
    assert 'status="unknown"' not in page
    assert "infer_gateway_protocol_errors_total 0" in page
