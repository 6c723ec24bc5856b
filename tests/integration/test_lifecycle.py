"""Starting, changing and ending under load."""

import asyncio
import json
import random
import signal
import sys
from pathlib import Path

import aiohttp
import pytest
from support.bare import BARE
from support.eventually import PATIENCE, eventually
from support.gateway import CHAT, MODEL, configuration, gateway
from support.tokens import AUTH, Signer

from extproc.demo.process import Child
from extproc.demo.stack import Stack
from modelsim.server import EngineConfig, Faults, Profile, ReplicaConfig, serve

pytestmark = pytest.mark.integration


async def test_pods_join_and_leave_under_load(tmp_path: Path) -> None:
    """20 pods, a changing half of which are in the pool: nothing is lost, and who is gone gets nothing after a second."""
    rng = random.Random(3)
    engine = EngineConfig(profile=Profile().faster(50))
    fleet = await serve([ReplicaConfig(name=f"pod-{n}", model=MODEL, engine=engine) for n in range(20)])
    listed = tmp_path / "pods.json"
    addresses = fleet.addresses
    listed.write_text(json.dumps(addresses[:10]))
    config = configuration(f"endpoints: {{file: {{path: {listed}, interval: 100ms}}}}", tmp_path)
    late: list[str] = []
    try:
        async with Stack(config, None) as stack, aiohttp.ClientSession(f"http://{stack.address}") as client:
            stopped = False
            statuses: list[int] = []

            async def load(number: int) -> None:
                while not stopped:
                    body = {"model": MODEL, "messages": [{"role": "user", "content": f"{number} {len(statuses)}"}]}
                    async with client.post(CHAT, json=body | {"max_tokens": 4}) as response:
                        await response.read()
                        statuses.append(response.status)

            clients = [asyncio.create_task(load(number)) for number in range(12)]
            for _ in range(12):
                chosen = set(rng.sample(addresses, 10))
                temporary = tmp_path / "pods.tmp"
                temporary.write_text(json.dumps(sorted(chosen)))
                temporary.replace(listed)

                async def followed(chosen: set[str] = chosen) -> bool:
                    rows = (await stack.debug("/debug/endpoints"))["endpoints"]
                    return {row["address"] for row in rows if row["ready"]} == chosen

                async with asyncio.timeout(PATIENCE):
                    await eventually(followed)
                # What Envoy was told before then may still be under way; after that it is over.
                gone = [replica for replica in fleet.replicas if replica.address not in chosen]
                goal = len(statuses) + 60
                await eventually(lambda goal=goal: _reached(statuses, goal))  # type: ignore[misc]
                before = [replica.requests_received for replica in gone]
                goal = len(statuses) + 60
                await eventually(lambda goal=goal: _reached(statuses, goal))  # type: ignore[misc]
                late += [
                    replica.name
                    for replica, count in zip(gone, before, strict=True)
                    if replica.requests_received != count
                ]
            stopped = True
            await asyncio.gather(*clients)
    finally:
        await fleet.stop()
    assert set(statuses) == {200}
    assert len(statuses) > 1000
    assert late == []


async def _reached(statuses: list[int], goal: int) -> bool:
    return len(statuses) >= goal


async def test_a_new_sidecar_takes_over_before_the_old_one_is_gone(tmp_path: Path) -> None:
    """With auth on there is no going on without a sidecar: its restart must leave no moment without one."""
    signer = Signer()
    config = configuration(AUTH.format(jwks=signer.write(tmp_path)), tmp_path)
    async with gateway(config) as running:
        headers = {"authorization": f"Bearer {signer.token()}"}
        statuses: list[int] = []
        stopped = False

        async def load(number: int) -> None:
            while not stopped:
                answer = await running.chat(f"{number} {len(statuses)}", headers=headers, max_tokens=4)
                statuses.append(answer.status)

        clients = [asyncio.create_task(load(number)) for number in range(12)]
        old = running.stack.sidecar
        assert old is not None
        for replica in running.fleet.replicas:
            replica.faults = Faults(token_delay=0.01)
        await eventually(lambda: _reached(statuses, 50))
        await running.stack.start_sidecar()
        old.signal(signal.SIGTERM)
        assert await old.wait() == 0
        goal = len(statuses) + 100
        await eventually(lambda: _reached(statuses, goal))
        stopped = True
        await asyncio.gather(*clients)
        assert set(statuses) == {200}
        assert await running.metric("infer_gateway_decision_seconds_count") > 0


async def test_a_rolling_restart_of_the_whole_gateway_loses_nothing(tmp_path: Path) -> None:
    """As Kubernetes does it: a new one is ready, the old one drains and is gone. Clients go to whom the Service lists."""
    async with gateway(configuration("{}", tmp_path)) as old:
        service = [old.stack.address]
        statuses: list[int] = []
        stopped = False

        async def load(number: int) -> None:
            async with aiohttp.ClientSession() as client:
                while not stopped:
                    body = {"model": MODEL, "messages": [{"role": "user", "content": f"{number} {len(statuses)}"}]}
                    stream = {"stream": number % 2 == 0, "max_tokens": 8}
                    async with client.post(f"http://{service[0]}{CHAT}", json=body | stream) as response:
                        text = await response.read()
                        whole = b"[DONE]" in text if stream["stream"] else b"usage" in text
                        statuses.append(response.status if whole else 0)

        clients = [asyncio.create_task(load(number)) for number in range(10)]
        await eventually(lambda: _reached(statuses, 60))
        async with Stack(configuration("{}", tmp_path), old.fleet.addresses) as new:
            service[0] = new.address
            # What deploy/drain-envoy says; then what is under way ends, then both processes do.
            assert "OK" in await old.stack.envoy_admin("/healthcheck/fail", "POST")
            await eventually(old.idle)
            assert old.stack.envoy is not None
            assert old.stack.sidecar is not None
            await old.stack.envoy.stop()
            assert await old.stack.sidecar.stop() == 0
            goal = len(statuses) + 60
            await eventually(lambda: _reached(statuses, goal))
            stopped = True
            await asyncio.gather(*clients)
    assert set(statuses) == {200}


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    async with gateway(configuration("transport: {drainTimeout: 1h}", tmp_path), pods=1) as running:
        running.fleet.replicas[0].faults = Faults(token_delay=1.0)
        task = asyncio.create_task(running.chat(stream=True, max_tokens=1000))

        async def picked() -> bool:
            return await running.in_flight() == 1

        await eventually(picked)
        sidecar = running.stack.sidecar
        assert sidecar is not None
        sidecar.signal(signal.SIGTERM)
        await sidecar.line(lambda line: '"message":"signal"' in line, PATIENCE)
        # It waits for the stream, and says that it is not ready.
        async with running.client.get(f"http://{running.stack.admin}/readyz") as response:
            assert (response.status, await response.text()) == (503, "draining\n")
        sidecar.signal(signal.SIGTERM)
        assert await sidecar.wait() == 128 + signal.SIGTERM
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("admin: {{port: {taken}}}", "cannot start"),
        ("envoy: {{endpointsFile: /dev/null/x/endpoints.yaml}}\nadmin: {{port: 0}}", "cannot start"),
        ("transport: {{address: '127.0.0.1:{taken}'}}\nadmin: {{port: 0}}", "cannot start"),
        ("endpoints: {{kubernetes: {{service: {{name: x}}}}}}\nadmin: {{port: 0}}", ""),
    ],
    ids=["admin port", "endpoints file", "gRPC port", "no cluster"],
)
async def test_what_keeps_it_from_starting_is_one_message_and_exit_code_2(
    tmp_path: Path, document: str, said: str
) -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    taken = server.sockets[0].getsockname()[1]
    path = tmp_path / "gateway.yaml"
    base = f"envoy: {{endpointsFile: {tmp_path}/endpoints.yaml}}\n" if "endpointsFile" not in document else ""
    path.write_text(base + document.format(taken=taken))
    try:
        child = await Child.start(
            "sidecar", [sys.executable, "-m", "extproc", "serve", "--config", str(path)], env=BARE
        )
        async with asyncio.timeout(PATIENCE):
            assert await child.wait() == 2
    finally:
        server.close()
        await server.wait_closed()
    last = child.log[-1]
    assert said in last
    assert "Traceback" not in "\n".join(child.log)
