"""The end of a gateway under load, by the programs that compose and Kubernetes run for it."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from support.eventually import eventually
from support.gateway import configuration

from extproc.demo.stack import Stack

DRAIN = Path(__file__).parents[2] / "deploy" / "drain-envoy"
BODY = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}


class Pod:
    """Begins an answer at once, and ends it when it is told to."""

    def __init__(self) -> None:
        self.finish = asyncio.Event()
        self.address = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: first\n\n")
        await self.finish.wait()
        await response.write(b"data: last\n\n")
        return response


@pytest.fixture
async def pod() -> AsyncIterator[Pod]:
    made = Pod()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    made.address = f"{host}:{port}"
    yield made
    await runner.cleanup()


@pytest.mark.parametrize("processes", ["", "transport: {workers: 2}"])
async def test_no_answer_is_cut_by_a_gateway_that_goes(pod: Pod, tmp_path: Path, processes: str) -> None:
    async with (
        Stack(configuration(processes, tmp_path), [pod.address]) as stack,
        aiohttp.ClientSession() as client,
        client.post(f"http://{stack.address}/v1/chat/completions", json=BODY) as answer,
    ):
        assert await answer.content.readline() == b"data: first\n"
        drained = f"http://{stack.admin}/drained"
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(DRAIN), "--on-stop", f"{drained}?within=600", stack.config.envoy.admin_socket,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        assert b"waits for SIGTERM" in await process.stderr.readline()
        process.send_signal(signal.SIGTERM)

        async def draining() -> bool:
            return "DRAINING" in await stack.envoy_admin("/server_info")

        await eventually(draining)
        async with client.get(drained) as page:
            assert await page.text() == "1 streams are open\n"
        assert process.returncode is None
        pod.finish.set()
        assert (await answer.content.read()).endswith(b"data: last\n\n")
        assert await process.wait() == 0
        assert b"drained" in await process.stderr.read()
        async with client.get(f"{drained}?after=0&within=1") as page:
            assert (page.status, await page.text()) == (200, "drained\n")


@pytest.mark.parametrize("query", ["after=x", "within=-1", "within=nan", "after=inf", "within="])
async def test_a_wait_without_end_is_refused(pod: Pod, tmp_path: Path, query: str) -> None:
    async with (
        Stack(configuration("{}", tmp_path), [pod.address]) as stack,
        aiohttp.ClientSession() as client,
        client.get(f"http://{stack.admin}/drained?{query}") as page,
    ):
        assert page.status == 400
