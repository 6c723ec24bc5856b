"""A gateway of several processes: one that stands by, and workers that share what they know."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from support.eventually import eventually
from support.gateway import Gateway, configuration, gateway
from support.tokens import AUTH, Signer

from extproc.workers.place import places
from modelsim.server import Faults

pytestmark = pytest.mark.integration

CLIENTS = 64
#: A prompt of several blocks.
LONG = " A conversation about routing that goes on for a while. " * 10


def pids(running: Gateway) -> dict[str, int]:
    """Process id of each process of the gateway, by its name."""
    assert running.stack.sidecar is not None
    lines = [json.loads(line) for line in running.stack.sidecar.log if '"message":"process serving"' in line]
    return {line["worker"]: line["pid"] for line in lines}


async def kill(running: Gateway, name: str) -> None:
    """SIGKILL; returns when the process is there again."""
    before = pids(running)[name]
    os.kill(before, signal.SIGKILL)

    async def again() -> bool:
        return pids(running)[name] != before

    await eventually(again)


class Load:
    """Clients that send one request after another."""

    def __init__(self, running: Gateway, headers: dict[str, str], *, stream: bool) -> None:
        self.statuses: list[int] = []
        self.cut = 0
        self._running, self._headers, self._stream = running, headers, stream
        self._stopped = False
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(CLIENTS)]

    async def _client(self, number: int) -> None:
        turn = 0
        while not self._stopped:
            turn += 1
            text = f"client {number}, turn {turn}"
            answer = await self._running.chat(text, stream=self._stream, max_tokens=8, headers=self._headers)
            self.statuses.append(answer.status)
            self.cut += answer.status == 200 and self._stream and b"[DONE]" not in answer.body

    async def more(self, count: int) -> None:
        """Waits until `count` further answers are in."""
        goal = len(self.statuses) + count

        async def enough() -> bool:
            return len(self.statuses) >= goal

        await eventually(enough)

    async def stop(self) -> None:
        self._stopped = True
        await asyncio.gather(*self._tasks)


async def of_each(running: Gateway, key: str = "in_flight") -> dict[str, dict[str, int]]:
    """By process and pod: what it takes for in flight there, or another number that it has."""
    found = {}
    for place in places(running.stack.config.transport):
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(place.admin_socket)) as session,
            session.get("http://worker/debug/endpoints") as response,
        ):
            rows = (await response.json())["endpoints"]
        found[place.name] = {row["address"]: row[key] for row in rows}
    return found


@asynccontextmanager
async def several(transport: str, tmp_path: Path) -> AsyncIterator[Gateway]:
    document = f"transport: {{{transport}}}\nscheduler: {{plugins: {{Score: {{enabled: [{{name: prefix-cache}}]}}}}}}\n"
    async with gateway(configuration(document, tmp_path)) as running:
        yield running


@pytest.mark.parametrize("auth", [False, True])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_death_of_the_active_process_costs_no_request(tmp_path: Path, auth: bool, stream: bool) -> None:
    document, headers = "transport: {standby: true}\n", {}
    if auth:
        signer = Signer()
        document += AUTH.format(jwks=signer.write(tmp_path))
        headers = {"authorization": f"Bearer {signer.token()}"}
    async with gateway(configuration(document, tmp_path)) as running:
        load = Load(running, headers, stream=stream)
        for _ in range(2):
            await load.more(200)
            await kill(running, "0")
            await load.more(200)
        await load.stop()
        assert set(load.statuses) == {200}
        assert not load.cut
        await eventually(running.idle)


async def test_the_death_of_a_worker_costs_no_request(tmp_path: Path) -> None:
    """With auth on, no request passes that was not looked at."""
    signer = Signer()
    document = "transport: {workers: 2}\n" + AUTH.format(jwks=signer.write(tmp_path))
    headers = {"authorization": f"Bearer {signer.token()}"}
    async with gateway(configuration(document, tmp_path)) as running:
        load = Load(running, headers, stream=True)

        async def well() -> bool:
            page = await running.stack.envoy_admin("/clusters")
            flags = [line.rpartition("::")[2] for line in page.splitlines() if line.startswith("sidecar::/")
                     and "::health_flags::" in line]  # fmt: skip
            return flags == ["healthy", "healthy"]

        for name in ("0", "1", "0"):
            await load.more(200)
            await kill(running, name)
            # From now on the death of the other is made up for.
            await eventually(well)
        await load.more(200)
        await load.stop()
        assert set(load.statuses) == {200}
        assert not load.cut
        await eventually(running.idle)


async def test_a_worker_that_dies_leaves_nothing_in_flight(tmp_path: Path) -> None:
    async with several("workers: 2", tmp_path) as running:
        for replica in running.fleet.replicas:
            replica.faults = Faults(token_delay=0.02)  # an answer lasts 12 s, however busy the machine is
        started = [asyncio.Event() for _ in range(8)]
        answers = [
            asyncio.create_task(running.stream(f"long {number}", event, max_tokens=600, headers={}))
            for number, event in enumerate(started)
        ]
        for event in started:
            await event.wait()

        async def alike() -> bool:
            counts = await of_each(running)
            return all(sum(pods.values()) == 8 for pods in counts.values()) and counts["0"] == counts["1"]

        await eventually(alike)
        os.kill(pids(running)["1"], signal.SIGKILL)

        async def fewer() -> bool:
            rows = (await running.stack.debug("/debug/endpoints"))["endpoints"]
            return sum(row["in_flight"] for row in rows) < 8

        await eventually(fewer)
        # Nobody's answer is cut for it.
        for answer in await asyncio.gather(*answers):
            assert b"[DONE]" in answer.body
        await eventually(running.idle)


async def test_workers_know_of_each_others_prefixes(tmp_path: Path) -> None:
    async with several("workers: 3", tmp_path) as running:
        for conversation in range(6):
            pods = set()
            for turn in range(4):
                answer = await running.chat(f"turn {turn}", system=f"{conversation} {LONG}")
                pods.add(answer.pod)
            assert len(pods) == 1

        async def all_known() -> bool:
            return await running.metric("infer_gateway_requests_total") == 24

        await eventually(all_known)
        # All three took part: nobody's own count is the sum.
        decided = []
        for place in places(running.stack.config.transport):
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(place.admin_socket)) as session,
                session.get("http://worker/debug/decisions?limit=100") as response,
            ):
                decided.append(len((await response.json())["decisions"]))
        assert sum(decided) == 24
        assert len((await running.stack.debug("/debug/decisions?limit=100"))["decisions"]) == 24


async def test_every_worker_learns_how_its_requests_ended(tmp_path: Path) -> None:
    """Envoy's log goes to one of them."""
    async with gateway(configuration("transport: {workers: 3}\nenvoy: {retries: 0}\n", tmp_path)) as running:
        for number in range(12):
            assert (await running.chat(f"{number}")).status == 200
        for replica in running.fleet.replicas:
            replica.faults = Faults(error_rate=1, status=500)
        for number in range(12):
            assert (await running.chat(f"{number}")).status == 500

        async def all_known() -> bool:
            async with running.client.get(f"http://{running.stack.admin}/metrics") as response:
                page = await response.text()
            lines = [line for line in page.splitlines() if line.startswith("infer_gateway_requests_total{")]
            return sum(float(line.rpartition(" ")[2]) for line in lines) == 24 and 'status="unknown"' not in page

        await eventually(all_known)


async def test_the_standby_knows_what_the_active_process_knew(tmp_path: Path) -> None:
    async with several("standby: true", tmp_path) as running:
        pods = {}
        for number in range(6):
            pods[number] = (await running.chat(LONG, system=f"{number} {LONG}")).pod

        async def told() -> bool:
            # It hears of picks some milliseconds late.
            served = await of_each(running, "served")
            return sum(served["standby"].values()) == len(pods)

        await eventually(told)
        for _ in range(2):
            # The first time the standby decides, the second time the process that was started in the place of the dead
            # one: both know it from somebody else.
            await kill(running, "0")
            for number, pod in pods.items():
                assert (await running.chat(f"{LONG} again", system=f"{number} {LONG}")).pod == pod


async def test_counters_do_not_fall_when_a_process_is_started_again(tmp_path: Path) -> None:
    async with several("standby: true", tmp_path) as running:
        for _ in range(5):
            await running.chat()

        async def counted() -> bool:
            return await running.metric("infer_gateway_requests_total") == 5

        await eventually(counted)
        killing = asyncio.create_task(kill(running, "0"))
        while not killing.done():
            assert await running.metric("infer_gateway_requests_total") == 5
        await killing
        await running.chat()

        async def one_more() -> bool:
            return await running.metric("infer_gateway_requests_total") == 6

        await eventually(one_more)
        assert await running.metric("infer_gateway_process_restarts_total") == 1


async def test_sigterm_ends_all_and_loses_no_request(tmp_path: Path) -> None:
    async with several("workers: 2, standby: true", tmp_path) as running:
        load = Load(running, {}, stream=True)
        await load.more(100)
        sidecar = running.stack.sidecar
        assert sidecar is not None
        processes = pids(running)
        assert set(processes) == {"0", "1", "standby"}
        sidecar.signal(signal.SIGTERM)
        assert await sidecar.wait() == 0
        await load.more(100)
        await load.stop()
        assert set(load.statuses) == {200}
        assert not load.cut
        for pid in processes.values():
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


async def test_no_process_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    async with several("standby: true", tmp_path) as running:
        assert running.stack.sidecar is not None
        await running.stack.sidecar.kill()

        async def all_gone() -> bool:
            for pid in pids(running).values():
                try:
                    os.kill(pid, 0)
                except ProcessLookupError:
                    continue
                return False
            return True

        await eventually(all_gone)
