"""What is on disk and not in force: it is told of, and no process that dies comes back with it."""

import os
import signal
from pathlib import Path

import pytest
from support.eventually import eventually
from support.gateway import Gateway, configuration, gateway

pytestmark = pytest.mark.integration


def workers(running: Gateway) -> list[int]:
    """Process ids of the sidecar's children."""
    assert running.stack.sidecar is not None
    pid = running.stack.sidecar.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def value(running: Gateway, name: str) -> float:
    return await running.metric(f"infer_gateway_{name}")


@pytest.mark.parametrize("reload", [False, True])
async def test_a_typo_on_disk_and_every_process_dies_twice(tmp_path: Path, reload: bool) -> None:
    document = "{transport: {standby: true}, scheduler: {plugins: {Filter: {enabled: [least-request]}}}}"
    config = configuration(document, tmp_path)
    async with gateway(config, serve_arguments=["--reload"] if reload else []) as running:
        path = running.stack.folder / "gateway.yaml"
        text = path.read_text()
        if reload:
            path.write_text(text.replace("- least-request\n", "- least-request\n      - prefix-affinity\n", 1))

            async def applied() -> bool:
                return await value(running, "config_reloads_total") >= 2

            await eventually(applied)
        path.write_text("transport: [")

        async def rejected() -> bool:
            return await value(running, "config_rejected") == 1

        await eventually(rejected)
        for turn in range(2):
            before = workers(running)
            for pid in before:
                os.kill(pid, signal.SIGKILL)

            async def back(turn: int = turn, before: tuple[int, ...] = tuple(before)) -> bool:
                restarts = await value(running, "process_restarts_total")
                now = workers(running)
                return restarts >= 2 * (turn + 1) and len(now) == 2 and not {*before} & {*now}

            await eventually(back)

            async def served() -> bool:
                return (await running.chat("hello")).status == 200

            await eventually(served)
            await eventually(rejected)  # which they say themselves
        if reload:

            async def filtered() -> bool:
                await running.chat("hello")
                (decision,) = (await running.stack.debug("/debug/decisions?limit=1"))["decisions"]
                return "prefix-affinity" in decision["filtered"]

            await eventually(filtered)
        await eventually(rejected)
        # Mended, with a change that only a restart can bring.
        path.write_text(text.replace("drainTimeout: 30s", "drainTimeout: 31s"))

        async def pending() -> bool:
            return await value(running, "config_pending") == 1 and await value(running, "config_rejected") == 0

        await eventually(pending)
