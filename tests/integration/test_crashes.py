"""What clients see when something dies: a pod, the sidecar, the sidecar's ability to answer."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.eventually import PATIENCE, eventually
from support.gateway import Answer, Gateway, configuration, gateway
from support.tokens import AUTH, Signer

from modelsim.server import Faults

pytestmark = pytest.mark.integration


class Load:
    """Clients that send one request after another until told to stop."""

    def __init__(self, running: Gateway, clients: int, **options: object) -> None:
        self.answers: list[Answer] = []
        self._stopped = False
        self._tasks = [asyncio.create_task(self._client(running, n, options)) for n in range(clients)]

    async def _client(self, running: Gateway, number: int, options: dict[str, object]) -> None:
        turn = 0
        while not self._stopped:
            turn += 1
            self.answers.append(await running.chat(f"client {number}, turn {turn}", **options))  # type: ignore[arg-type]

    async def more(self, count: int) -> None:
        """Waits until `count` further answers are in."""
        goal = len(self.answers) + count

        async def enough() -> bool:
            return len(self.answers) >= goal

        await eventually(enough)

    async def stop(self) -> None:
        self._stopped = True
        await asyncio.gather(*self._tasks)


@pytest_asyncio.fixture(params=["sidecar", "grpcio"])
async def running(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(configuration(f"transport: {{mode: {request.param}}}", tmp_path)) as one:
        yield one


@pytest_asyncio.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[tuple[Gateway, dict[str, str]]]:
    """A gateway that demands tokens, and the header that satisfies it."""
    signer = Signer()
    config = configuration(AUTH.format(jwks=signer.write(tmp_path)), tmp_path)
    async with gateway(config) as one:
        yield one, {"authorization": f"Bearer {signer.token()}"}


async def test_a_pod_that_dies_costs_no_client_an_error(running: Gateway) -> None:
    """Nothing is streamed yet when it dies, so each of its requests can be tried elsewhere."""
    load = Load(running, 24, max_tokens=20)
    await load.more(48)
    await running.fleet.kill(0)
    await load.more(150)
    await load.stop()
    assert {answer.status for answer in load.answers} == {200}
    assert {answer.pod for answer in load.answers[-24:]} <= {"pod-2", "pod-3"}


async def test_sigterm_to_the_sidecar_under_load_loses_no_request(running: Gateway) -> None:
    load = Load(running, 16, max_tokens=8)
    await load.more(32)
    sidecar = running.stack.sidecar
    assert sidecar is not None
    sidecar.signal(signal.SIGTERM)
    code = await sidecar.wait()
    await load.more(48)
    await running.stack.start_sidecar()
    await load.more(48)
    await load.stop()
    assert code == 0
    assert {answer.status for answer in load.answers} == {200}
    # The new one decides again.
    assert await running.metric("infer_gateway_decision_seconds_count") > 0


async def streaming(running: Gateway, count: int, headers: dict[str, str]) -> list[asyncio.Task[Answer]]:
    """Streams that are answering: each pod waits 30 ms between tokens."""
    for replica in running.fleet.replicas:
        replica.faults = Faults(token_delay=0.03)
    tasks, first_bytes = [], []
    for number in range(count):
        started = asyncio.Event()
        first_bytes.append(started.wait())
        tasks.append(asyncio.create_task(running.stream(f"stream {number}", started, max_tokens=40, headers=headers)))
    await asyncio.wait_for(asyncio.gather(*first_bytes), PATIENCE)
    return tasks


def complete(answer: Answer) -> bool:
    return (
        answer.status == 200 and answer.body.count(b"data: ") >= 40 and answer.body.rstrip().endswith(b"data: [DONE]")
    )


async def test_a_killed_sidecar_cuts_no_stream_and_requests_go_on_without_it(running: Gateway) -> None:
    tasks = await streaming(running, 12, {})
    sidecar = running.stack.sidecar
    assert sidecar is not None
    await sidecar.kill()
    new = [await running.chat("after") for _ in range(6)]
    assert {answer.status for answer in new} == {200}
    assert all(complete(answer) for answer in await asyncio.gather(*tasks))
    await running.stack.start_sidecar()
    assert (await running.chat("again")).status == 200
    assert await running.metric("infer_gateway_decision_seconds_count") == 1
    await eventually(running.idle)


async def test_a_killed_sidecar_with_auth_on_lets_nothing_pass_and_cuts_no_stream(
    guarded: tuple[Gateway, dict[str, str]],
) -> None:
    running, token = guarded
    tasks = await streaming(running, 6, token)
    sidecar = running.stack.sidecar
    assert sidecar is not None
    await sidecar.kill()
    for headers in (token, {}):
        refused = await running.chat("after", headers=headers)
        assert (refused.status, refused.error()) == (503, "gateway_unavailable")
        bodiless = await running.request("GET", "/health", headers=headers)
        assert bodiless.status == 503
    assert all(complete(answer) for answer in await asyncio.gather(*tasks))
    await running.stack.start_sidecar()
    assert (await running.chat("again", headers=token)).status == 200


async def test_a_frozen_sidecar_is_as_good_as_a_dead_one(tmp_path: Path) -> None:
    signer = Signer()
    quick = "envoy: {messageTimeout: 200ms}\n"
    for document, expected in ((quick, 200), (quick + AUTH.format(jwks=signer.write(tmp_path)), 503)):
        async with gateway(configuration(document, tmp_path), pods=2) as running:
            headers = {"authorization": f"Bearer {signer.token()}"}
            assert (await running.chat(headers=headers)).status == 200
            sidecar = running.stack.sidecar
            assert sidecar is not None
            sidecar.signal(signal.SIGSTOP)
            try:
                assert (await running.chat(headers=headers)).status == expected
                assert (await running.request("GET", "/health", headers=headers)).status == expected
            finally:
                sidecar.signal(signal.SIGCONT)

            async def recovered(running: Gateway = running, headers: dict[str, str] = headers) -> bool:
                return (await running.chat(headers=headers)).status == 200

            await eventually(recovered)


async def test_clients_that_leave_leave_no_count_behind(running: Gateway) -> None:
    for replica in running.fleet.replicas:
        replica.faults = Faults(token_delay=0.05)
    tasks = [asyncio.create_task(running.chat(f"{n}", stream=n % 2 == 0, max_tokens=200)) for n in range(20)]

    async def all_picked() -> bool:
        return await running.in_flight() == 20

    await eventually(all_picked)
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task

    await eventually(running.idle)


async def test_an_envoy_that_dies_leaves_no_count_behind(running: Gateway) -> None:
    for replica in running.fleet.replicas:
        replica.faults = Faults(token_delay=0.05)
    tasks = [asyncio.create_task(running.chat(f"{n}", stream=n % 2 == 0, max_tokens=200)) for n in range(10)]

    async def all_picked() -> bool:
        return await running.in_flight() == 10

    await eventually(all_picked)
    envoy = running.stack.envoy
    assert envoy is not None
    await envoy.kill()
    assert all(isinstance(end, Exception) for end in await asyncio.gather(*tasks, return_exceptions=True))
    await eventually(running.idle)
    # A new one finds the sidecar as it was.
    await running.stack.start_envoy()
    async with running.client.get(f"http://{running.stack.address}/health") as response:
        assert response.status == 200


@pytest.mark.parametrize("fault", ["500", "html", "huge", "hang"])
async def test_a_pod_with_bad_metrics_disturbs_nobody(tmp_path: Path, fault: Any) -> None:
    async with gateway(configuration("endpoints: {scrape: {timeout: 100ms}}", tmp_path)) as running:
        running.fleet.replicas[0].faults = Faults(metrics=fault)

        async def noticed() -> bool:
            return await running.metric("infer_gateway_scrape_failures_total") > 0

        await eventually(noticed)
        answers = await asyncio.gather(*[running.chat(f"{n}") for n in range(12)])
        assert {answer.status for answer in answers} == {200}
        rows = {row["address"]: row for row in (await running.stack.debug("/debug/endpoints"))["endpoints"]}
        assert rows[running.fleet.addresses[0]]["failures"] > 0
        assert rows[running.fleet.addresses[1]]["failures"] == 0


async def test_no_pod_is_503(tmp_path: Path) -> None:
    async with gateway(configuration("{}", tmp_path), pods=0) as running:
        answer = await running.chat()
        assert (answer.status, answer.error()) == (503, "no_ready_endpoint")


async def test_saturated_pods_are_429(tmp_path: Path) -> None:
    document = "scheduler: {pluginConfig: [{name: least-request, args: {maxWaitingRequests: 1}}]}"
    async with gateway(configuration(document, tmp_path), pods=1, speedup=1, engine={"max_num_seqs": 1}) as running:
        tasks = [asyncio.create_task(running.chat(f"{n}", max_tokens=1000)) for n in range(4)]

        async def queued() -> bool:
            (row,) = (await running.stack.debug("/debug/endpoints"))["endpoints"]
            return bool(row["waiting"])

        await eventually(queued)
        answer = await running.chat("one more", max_tokens=1)
        assert (answer.status, answer.error(), answer.headers["retry-after"]) == (429, "saturated", "1")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
