"""A process that is frozen, and not dead: what it had been asked is tried at the one that stands by."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from support.eventually import eventually
from support.gateway import configuration, gateway
from support.tokens import AUTH, Signer

pytestmark = pytest.mark.integration


async def test_a_freeze_costs_no_request(tmp_path: Path) -> None:
    signer = Signer()
    document = AUTH.format(jwks=signer.write(tmp_path)) + "transport: {standby: true}\n"
    async with gateway(configuration(document, tmp_path)) as running:
        headers = {"authorization": f"Bearer {signer.token()}"}
        statuses: list[int] = []
        stopped = False

        async def client(number: int) -> None:
            while not stopped:
                answer = await running.chat(f"{number} {len(statuses)}", stream=number % 2 == 0, headers=headers)
                statuses.append(answer.status)

        clients = [asyncio.create_task(client(number)) for number in range(12)]
        await eventually(lambda: len(statuses) >= 100)
        assert running.stack.sidecar is not None
        pid = running.stack.sidecar.process.pid
        worker = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])  # noqa: ASYNC240 - of the kernel
        os.kill(worker, signal.SIGSTOP)
        try:
            frozen = len(statuses)
            # Each of the clients has an answer that it waited for when the process froze, and more.
            await eventually(lambda: len(statuses) >= frozen + 200)
        finally:
            os.kill(worker, signal.SIGCONT)
        stopped = True
        await asyncio.gather(*clients)
        assert set(statuses) == {200}
