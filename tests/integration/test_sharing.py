"""Gateways that share what they know by a real Redis or Valkey, each with its own Envoy."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis
from support.eventually import PATIENCE, eventually
from support.gateway import MODEL, Gateway, configuration
from support.proxy import Proxy

from extproc.demo.redis_server import RedisServer
from extproc.demo.stack import Stack
from extproc.sharing.message import encode
from modelsim.server import EngineConfig, Fleet, Profile, ReplicaConfig, serve

pytestmark = pytest.mark.integration

#: A prompt of several blocks.
LONG = " A conversation about routing that goes on for a while. " * 10


@contextlib.asynccontextmanager
async def replicas(
    count: int,
    url: str,
    tmp_path: Path,
    *,
    transport: str = "{}",
    pods: int = 3,
    urls: Mapping[int, str] | None = None,
) -> AsyncIterator[list[Gateway]]:
    """So many gateways in front of the same pods. `urls`: of those that reach the server by another way."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"a secret of the group, of thirty-two bytes at the least")
    configs = [
        configuration(
            f"sharing: {{secretFile: {secret}, redis: {{url: '{(urls or {}).get(number, url)}'}}}}\n"
            f"transport: {transport}\nscheduler: {{plugins: {{Score: {{enabled: [{{name: prefix-cache}}]}}}}}}\n",
            tmp_path,
        )
        for number in range(count)
    ]
    engine = EngineConfig(profile=Profile().faster(10))
    fleet: Fleet = await serve([ReplicaConfig(name=f"pod-{n}", model=MODEL, engine=engine) for n in range(pods)])
    async with contextlib.AsyncExitStack() as exits:
        exits.push_async_callback(fleet.stop)
        running = []
        for stack in await asyncio.gather(
            *[exits.enter_async_context(Stack(config, fleet.addresses)) for config in configs]
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
        asyncio.create_task(gateways[number % len(gateways)].stream(f"{number}", event, max_tokens=60_000, headers={}))
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


async def hears(gateway: Gateway, members: int) -> bool:
    up = await gateway.metric("infer_gateway_sharing_up")
    return bool(up) and await gateway.metric("infer_gateway_sharing_members") == members


def changes(gateway: Gateway) -> list[str]:
    """What the sidecar logged of sharing."""
    assert gateway.stack.sidecar is not None
    lines = [json.loads(line) for line in gateway.stack.sidecar.log if line.startswith("{")]
    return [line["message"] for line in lines if line["message"].startswith("sharing ")]


class Load:
    """Clients that send one request after another to all gateways in turn. None may be lost."""

    def __init__(self, gateways: Sequence[Gateway]) -> None:
        self.answers: list[tuple[int, bool]] = []
        self._stopped = False
        self._tasks = [
            asyncio.create_task(self._client(gateway, number)) for gateway in gateways for number in range(8)
        ]

    async def _client(self, gateway: Gateway, number: int) -> None:
        turn = 0
        while not self._stopped:
            turn += 1
            answer = await gateway.chat(f"client {number}, turn {turn}", stream=True, max_tokens=8)
            self.answers.append((answer.status, b"[DONE]" in answer.body))

    async def more(self, count: int) -> None:
        """Waits until so many further answers are in."""
        goal = len(self.answers) + count

        async def enough() -> bool:
            return len(self.answers) >= goal

        await eventually(enough)

    async def stop(self) -> None:
        """Every answer was whole, from the first to the last."""
        self._stopped = True
        await asyncio.gather(*self._tasks)
        assert set(self.answers) == {(200, True)}


async def test_the_death_of_redis_costs_no_request_and_it_heals_by_itself(tmp_path: Path) -> None:
    async with RedisServer() as redis, replicas(2, redis.url, tmp_path) as both:
        await eventually(lambda: hear_each_other(both))
        load = Load(both)
        await load.more(100)
        await redis.kill()
        for gateway in both:
            await eventually(lambda gateway=gateway: deaf(gateway))  # type: ignore[misc]
            # Readiness is untouched.
            async with gateway.client.get(f"http://{gateway.stack.admin}/readyz") as response:
                assert response.status == 200
        await load.more(100)
        await redis.start()
        await eventually(lambda: hear_each_other(both))
        await load.more(100)
        await load.stop()
        await count_alike(both, 0)
        for gateway in both:
            assert changes(gateway) == ["sharing works", "sharing does not work", "sharing works"]


async def deaf(gateway: Gateway) -> bool:
    return await gateway.metric("infer_gateway_sharing_up") == 0


async def test_a_frozen_redis_costs_no_request(tmp_path: Path) -> None:
    """It keeps its connections and answers nothing: nobody takes another gateway for dead."""
    async with RedisServer() as redis, replicas(2, redis.url, tmp_path) as both:
        await eventually(lambda: hear_each_other(both))
        load = Load(both)
        await load.more(100)
        redis.freeze()
        for gateway in both:
            await eventually(lambda gateway=gateway: deaf(gateway))  # type: ignore[misc]
        assert [await gateway.metric("infer_gateway_sharing_members") for gateway in both] == [1, 1]
        await load.more(100)
        redis.thaw()
        await eventually(lambda: hear_each_other(both))
        await load.more(100)
        await load.stop()
        await count_alike(both, 0)


async def test_a_gateway_that_is_killed_leaves_nothing_in_flight(tmp_path: Path) -> None:
    async with RedisServer() as redis, replicas(3, redis.url, tmp_path) as (a, b, c):
        await eventually(lambda: hear_each_other([a, b, c]))
        async with in_flight([c], 4):
            await count_alike([a, b, c], 4)
            load = Load([a, b])
            await load.more(50)
            assert c.stack.sidecar is not None
            await c.stack.sidecar.kill()
            for gateway in (a, b):
                await eventually(lambda gateway=gateway: hears(gateway, 1))  # type: ignore[misc]
            await load.more(50)
            await load.stop()
            await count_alike([a, b], 0)


async def test_a_gateway_that_is_cut_off_decides_for_itself_and_comes_back(tmp_path: Path) -> None:
    async with (
        RedisServer() as redis,
        Proxy(redis.socket, tmp_path / "proxy.sock") as proxy,
        replicas(3, redis.url, tmp_path, urls={2: f"unix://{proxy.path}"}) as (a, b, c),
    ):
        await eventually(lambda: hear_each_other([a, b, c]))
        async with in_flight([a, b, c], 6):
            await count_alike([a, b, c], 6)
            load = Load([a, b, c])
            await load.more(50)
            proxy.cut()
            # The others hear of it no more; it does not hear of them, and forgets them by and by.
            for gateway in (a, b):
                await eventually(lambda gateway=gateway: hears(gateway, 1))  # type: ignore[misc]
            await eventually(lambda: deaf(c))
            assert await c.metric("infer_gateway_sharing_members") == 2
            await load.more(50)
            proxy.mend()
            await eventually(lambda: hear_each_other([a, b, c]))
            await load.stop()
            await count_alike([a, b, c], 6)
        await count_alike([a, b, c], 0)


@pytest.mark.parametrize("arguments", ["", "standby: true", "workers: 2"])
async def test_a_gateway_of_several_processes_is_one_of_a_group(tmp_path: Path, arguments: str) -> None:
    """Its processes tell each other by their own way, and each hears the other gateway."""
    async with RedisServer() as redis, replicas(2, redis.url, tmp_path, transport=f"{{{arguments}}}") as both:
        await eventually(lambda: known_to_all(both))
        async with in_flight(both, 8):
            await count_alike(both, 8)
        await count_alike(both, 0)


async def known_to_all(gateways: Sequence[Gateway]) -> bool:
    return all([await gateway.metric("infer_gateway_sharing_members") >= 1 for gateway in gateways])


async def test_an_emptied_redis_is_used_again(tmp_path: Path) -> None:
    async with RedisServer() as redis, replicas(2, redis.url, tmp_path) as both:
        await eventually(lambda: hear_each_other(both))
        client = Redis(unix_socket_path=str(redis.socket))
        for _ in range(3):
            await client.flushall()
            async with in_flight(both, 2):
                await count_alike(both, 2)
            await count_alike(both, 0)
        # A stream that begins anew with earlier ids, as after a failover to a server whose clock is behind.
        keys = [key async for key in client.scan_iter("*events")]
        await client.delete(*keys)
        await client.xadd(keys[0], {"1": b"nonsense"}, id="5-1")
        async with in_flight(both, 2):
            await count_alike(both, 2)
        await count_alike(both, 0)
        await client.aclose()


async def test_evil_data_is_counted_and_harms_nobody(tmp_path: Path) -> None:
    async with RedisServer() as redis, replicas(2, redis.url, tmp_path) as both:
        await eventually(lambda: hear_each_other(both))
        client = Redis(unix_socket_path=str(redis.socket))
        [key] = [key async for key in client.scan_iter("*events")]
        own = encode((b"8 bytes!", "0"), 0, 0, b"", {"pool default": [("+", 1, "127.0.0.1:1", -5, 0, True)]})
        fields: Any
        for fields in ({"1": b"\xc1"}, {"2": b"of another version"}, {"a": "b", "c": "d"}, {"1": own}, {"1": b""}):
            await client.xadd(key, fields)

        async def counted() -> bool:
            return all([await gateway.metric("infer_gateway_sharing_unknown_events_total") >= 5 for gateway in both])

        await eventually(counted)
        async with in_flight(both, 2):
            await count_alike(both, 2)
        await count_alike(both, 0)
        await client.aclose()
