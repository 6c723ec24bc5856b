import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from aiohttp import ClientSession

from modelsim.server import EngineConfig, Faults, Fleet, Profile, ReplicaConfig, serve

Until = Callable[[Callable[[], bool]], Awaitable[None]]

STUCK = EngineConfig(profile=Profile(overhead=3600))
FREE = EngineConfig(profile=Profile(overhead=0, per_prompt_token=0, inter_token=0, per_sequence=0))


async def ask(client: ClientSession, address: str) -> str:
    async with client.post(f"http://{address}/v1/completions", json={"prompt": "x" * 200}) as response:
        assert response.status == 200
        await response.read()
        return response.headers["x-modelsim-replica"]


async def refused(client: ClientSession, address: str) -> bool:
    try:
        async with client.get(f"http://{address}/health"):
            return False
    except aiohttp.ClientConnectorError:
        return True


async def test_each_replica_has_a_port_and_a_name(client: ClientSession) -> None:
    async with await serve([ReplicaConfig(engine=FREE), ReplicaConfig(engine=FREE, name="b")]) as fleet:
        assert len(set(fleet.addresses)) == 2
        assert all(address.startswith("127.0.0.1:") for address in fleet.addresses)
        assert [await ask(client, address) for address in fleet.addresses] == ["replica-0", "b"]
        await ask(client, fleet.addresses[1])
        assert [replica.requests_served for replica in fleet.replicas] == [1, 2]


async def test_ipv6(client: ClientSession) -> None:
    async with await serve([ReplicaConfig(engine=FREE, host="::1")]) as fleet:
        assert fleet.addresses[0].startswith("[::1]:")
        assert await ask(client, fleet.addresses[0]) == "replica-0"


async def test_stop_leaves_no_task_and_no_port(client: ClientSession, until: Until) -> None:
    before = asyncio.all_tasks()
    fleet = await serve([ReplicaConfig(engine=STUCK), ReplicaConfig(engine=FREE)])
    stuck = asyncio.create_task(ask(client, fleet.addresses[0]))
    await until(lambda: fleet.replicas[0].engine.running == 1)
    # This connection is idle when the end comes.
    await ask(client, fleet.addresses[1])
    await fleet.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await stuck
    assert asyncio.all_tasks() <= before
    assert [await refused(client, address) for address in fleet.addresses] == [True, True]
    await fleet.stop()


async def test_kill_cuts_what_is_streaming_and_refuses_what_comes(client: ClientSession) -> None:
    profile = Profile(overhead=0, per_prompt_token=0, inter_token=3600)
    async with await serve([ReplicaConfig(engine=EngineConfig(profile=profile)), ReplicaConfig(engine=FREE)]) as fleet:
        body = {"prompt": "x", "stream": True}
        async with client.post(f"http://{fleet.addresses[0]}/v1/completions", json=body) as response:
            await response.content.readuntil(b"\n\n")
            await fleet.kill(0)
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.content.read()
        assert await refused(client, fleet.addresses[0])
        assert await ask(client, fleet.addresses[1]) == "replica-1"
        assert not fleet.replicas[0].alive
        await fleet.kill(0)


async def test_what_a_dead_replica_cannot_tell() -> None:
    async with await serve([ReplicaConfig()]) as fleet:
        await fleet.kill(0)
        with pytest.raises(RuntimeError, match="not running"):
            _ = fleet.replicas[0].engine


async def test_restart_is_on_the_same_port_with_nothing_in_memory(client: ClientSession) -> None:
    async with await serve([ReplicaConfig(engine=FREE, faults=Faults(status=500))]) as fleet:
        (address,) = fleet.addresses
        replica = fleet.replicas[0]
        await ask(client, address)
        await ask(client, address)
        assert replica.engine.prefix_hits > 0
        replica.faults = Faults(hang=True)
        await fleet.kill(0)
        await fleet.restart(0)
        assert fleet.addresses == [address]
        assert replica.engine.prefix_queries == 0
        assert replica.faults == Faults(status=500)
        await ask(client, address)
        assert replica.engine.prefix_hits == 0
        assert replica.requests_served == 3


async def test_restart_of_one_that_is_alive(client: ClientSession) -> None:
    async with await serve([ReplicaConfig(engine=FREE)]) as fleet:
        await ask(client, fleet.addresses[0])
        await fleet.restart(0)
        assert await ask(client, fleet.addresses[0]) == "replica-0"


async def test_an_address_in_use_leaves_nothing_running(client: ClientSession) -> None:
    async with await serve([ReplicaConfig(engine=FREE)]) as fleet:
        taken = int(fleet.addresses[0].rpartition(":")[2])
        free = await free_port(fleet)
        with pytest.raises(OSError, match="in use"):
            await serve([ReplicaConfig(port=free), ReplicaConfig(port=taken)])
        assert await refused(client, f"127.0.0.1:{free}")
        assert await ask(client, fleet.addresses[0]) == "replica-0"


async def free_port(fleet: Fleet) -> int:
    async with await serve([ReplicaConfig()]) as other:
        return int(other.addresses[0].rpartition(":")[2])


def test_adapters_need_slots() -> None:
    with pytest.raises(ValueError, match="max_loras"):
        ReplicaConfig(adapters=("sql",), engine=EngineConfig(max_loras=0))


async def test_many_requests_to_many_replicas(client: ClientSession) -> None:
    async with await serve([ReplicaConfig(engine=FREE)] * 4) as fleet:
        names = await asyncio.gather(*[ask(client, fleet.addresses[number % 4]) for number in range(100)])
        assert [names.count(f"replica-{index}") for index in range(4)] == [25] * 4
        assert [replica.requests_served for replica in fleet.replicas] == [25] * 4
