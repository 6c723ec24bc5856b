"""A whole gateway for integration tests: model servers in this process, sidecar and Envoy as processes of their own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
from support.eventually import PATIENCE

from extproc.config import GatewayConfig, load
from extproc.demo.stack import Stack
from modelsim.server import EngineConfig, Fleet, Profile, ReplicaConfig, serve

MODEL = "test-8b"
CHAT = "/v1/chat/completions"


def configuration(document: str = "{}", folder: Any = None) -> GatewayConfig:
    """The configuration that a YAML document gives."""
    path = folder / "configuration.yaml"
    path.write_text(document or "{}", encoding="utf-8")
    return load(str(path), {}).config


@contextlib.asynccontextmanager
async def gateway(
    config: GatewayConfig, *, pods: int = 3, speedup: float = 50, **options: Any
) -> AsyncIterator["Gateway"]:
    """A running gateway in front of `pods` model servers."""
    engine = EngineConfig(profile=Profile().faster(speedup), **options.pop("engine", {}))
    fleet = await serve([ReplicaConfig(name=f"pod-{n}", model=MODEL, engine=engine) for n in range(1, pods + 1)])
    try:
        async with Stack(config, fleet.addresses, **options) as stack, aiohttp.ClientSession(
            f"http://{stack.address}", connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=PATIENCE),
        ) as client:  # fmt: skip
            yield Gateway(stack, fleet, client)
    finally:
        await fleet.stop()


class Answer:
    """What a client got."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body
        self.pod = headers.get("x-modelsim-replica", "")

    def json(self) -> Any:
        import json

        return json.loads(self.body)

    def error(self) -> str:
        """The `code` of an OpenAI-shaped error, after checking that shape."""
        error = self.json()["error"]
        assert set(error) == {"message", "type", "code", "param"}
        assert self.headers["content-type"].startswith("application/json")
        return str(error["code"])


class Gateway:
    """A stack, its model servers and a client."""

    def __init__(self, stack: Stack, fleet: Fleet, client: aiohttp.ClientSession) -> None:
        self.stack, self.fleet, self.client = stack, fleet, client

    async def request(self, method: str, path: str, **options: Any) -> Answer:
        async with self.client.request(method, path, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def chat(
        self, text: str = "Hello!", *, system: str = "", stream: bool = False, max_tokens: int = 4,
        headers: Mapping[str, str] | None = None, **extra: Any,
    ) -> Answer:  # fmt: skip
        messages = [{"role": "system", "content": system}] if system else []
        body = {"model": MODEL, "messages": [*messages, {"role": "user", "content": text}], "max_tokens": max_tokens}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return await self.request("POST", CHAT, json=body | extra, headers=headers)

    async def stream(self, text: str, started: asyncio.Event, *, max_tokens: int, headers: Mapping[str, str]) -> Answer:
        """A streamed chat; sets `started` at the first byte of its answer."""
        body = {
            "model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": max_tokens, "stream": True,
        }  # fmt: skip
        async with self.client.post(CHAT, json=body, headers=headers) as response:
            parts = bytearray()
            async for chunk in response.content.iter_any():
                parts += chunk
                started.set()
            return Answer(response.status, response.headers, bytes(parts))

    async def metric(self, name: str) -> float:
        """The sum of a metric's samples on the sidecar's page."""
        from prometheus_client.parser import text_string_to_metric_families

        async with self.client.get(f"http://{self.stack.admin}/metrics") as response:
            page = await response.text()
        return sum(
            sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == name
        )

    async def in_flight(self) -> int:
        rows = (await self.stack.debug("/debug/endpoints"))["endpoints"]
        return sum(row["in_flight"] for row in rows)

    async def idle(self) -> bool:
        """Whether no request is counted as in flight: its end is told a moment after its client has its answer."""
        return await self.in_flight() == 0
