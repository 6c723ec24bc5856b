"""Gateways that share what they know by a real Redis or Valkey, each with its own Envoy."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import pytest
from support.gateway import MODEL, PATIENCE, Gateway, configuration, eventually

from extproc.demo.redis_server import RedisServer
from extproc.demo.stack import Stack
from modelsim.server import EngineConfig, Fleet, Profile, ReplicaConfig, serve

pytestmark = pytest.mark.integration

#: A prompt of several blocks.
LONG = " A conversation about routing that goes on for a while. " * 10


@contextlib.asynccontextmanager
async def replicas(
    count: int, url: str, tmp_path: Path, *, transport: str = "{}", pods: int = 3
) -> AsyncIterator[list[Gateway]]:
    """So many gateways in front of the same pods."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"a secret of the group, of thirty-two bytes at the least")
    config = configuration(
        f"sharing: {{secretFile: {secret}, redis: {{url: '{url}'}}}}\ntransport: {transport}\n"
        "scheduler: {plugins: {Score: {enabled: [{name: prefix-cache}]}}}\n",
        tmp_path,
    )
    engine = EngineConfig(profile=Profile().faster(50))
    fleet: Fleet = await serve([ReplicaConfig(name=f"pod-{n}", model=MODEL, engine=engine) for n in range(pods)])
    async with contextlib.AsyncExitStack() as exits:
        exits.push_async_callback(fleet.stop)
        running = []
        for stack in await asyncio.gather(
            *[exits.enter_async_context(Stack(config, fleet.addresses)) for _ in range(count)]
        ):
            client = await exits.enter_async_context(
                aiohttp.ClientSession(
                    f"http://{stack.address}",
                    connector=aiohttp.TCPConnector(limit=0),
                    timeout=aiohttp.ClientTimeout(total=PATIENCE),
                )
            )
            running.append(Gateway(stack, fleet, client))
        yield running


async def hear_each_other(gateways: Sequence[Gateway]) -> bool:
    for gateway in gateways:
        if await gateway.metric("infer_gateway_sharing_members") != len(gateways) - 1:
            return False
        if not await gateway.metric("infer_gateway_sharing_up"):
            return False
    return True


async def test_two_gateways_know_of_each_others_prefixes(tmp_path: Path) -> None:
    async with RedisServer() as redis, replicas(2, redis.url, tmp_path) as (a, b):
        await eventually(lambda: hear_each_other([a, b]))
        pods = {}
        for number in range(6):
            pods[number] = (await a.chat(LONG, system=f"{number} {LONG}")).pod
        assert len(set(pods.values())) > 1

        async def known() -> bool:
            state = (await b.stack.debug("/debug/endpoints"))["endpoints"]
            return sum(row["served"] for row in state) == len(pods)

        await eventually(known)
        for number, pod in pods.items():
            assert (await b.chat(f"{LONG} again", system=f"{number} {LONG}")).pod == pod


@contextlib.asynccontextmanager
async def in_flight(gateways: Sequence[Gateway], count: int) -> AsyncIterator[None]:
    """So many answers that do not end by themselves, shared out among the gateways, until this is left."""
    started = [asyncio.Event() for _ in range(count)]
    answers = [
        asyncio.create_task(gateways[number % len(gateways)].stream(f"{number}", event, max_tokens=20_000, headers={}))
        for number, event in enumerate(started)
    ]
    try:
        for event in started:
            await event.wait()
        yield
    finally:
        for answer in answers:
            answer.cancel()
        await asyncio.gather(*answers, return_exceptions=True)


async def count_alike(gateways: Sequence[Gateway], count: int) -> None:
    """Waits until all count so many requests in flight."""

    async def alike() -> bool:
        return [await gateway.in_flight() for gateway in gateways] == [count] * len(gateways)

    await eventually(alike)


async def test_requests_in_flight_are_counted_by_both_and_end_at_both(tmp_path: Path) -> None:
    async with RedisServer() as redis, replicas(2, redis.url, tmp_path) as both:
        await eventually(lambda: hear_each_other(both))
        async with in_flight(both, 8):
            await count_alike(both, 8)
        await count_alike(both, 0)
