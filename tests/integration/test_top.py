"""`infer-gateway top`, as a person runs it: in a terminal, against a real gateway, whatever clients send."""

import asyncio
import contextlib
import json
import os
import pty
import signal
import socket
import struct
import sys
import termios
from collections.abc import AsyncIterator, Callable
from fcntl import ioctl
from pathlib import Path

import pytest
from support.bare import BARE
from support.busy import HOSTILE
from support.eventually import PATIENCE
from support.gateway import MODEL, configuration, gateway

pytestmark = pytest.mark.integration


async def run(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "extproc", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**BARE, "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


class Terminal:
    """A program in a terminal of 160 columns and 40 lines."""

    def __init__(self, process: asyncio.subprocess.Process, handle: int) -> None:
        self.process, self._handle = process, handle
        self.text = ""
        self._more = asyncio.Event()
        asyncio.get_running_loop().add_reader(handle, self._read)

    def _read(self) -> None:
        try:
            self.text += os.read(self._handle, 65536).decode(errors="replace")
        except OSError:  # the other end is closed
            asyncio.get_running_loop().remove_reader(self._handle)
        self._more.set()

    async def until(self, wanted: Callable[[str], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not wanted(self.text):
                self._more.clear()
                await self._more.wait()


@contextlib.asynccontextmanager
async def terminal(*arguments: str) -> AsyncIterator[Terminal]:
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "extproc", *arguments, stdin=theirs, stdout=theirs, stderr=theirs,
        env={**BARE, "TERM": "xterm", "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        asyncio.get_running_loop().remove_reader(ours)
        os.close(ours)


def nobody() -> str:
    """An address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


async def test_a_frame_of_a_gateway_at_work(tmp_path: Path) -> None:
    async with gateway(configuration("{}", tmp_path), pods=2) as running:
        for number in range(4):
            assert (await running.chat(f"question {number}", headers={"x-request-id": f"req-{number}"})).status == 200
        assert (await running.request("POST", "/v1/chat/completions", data=b"{")).status == 400
        await running.chat(model=HOSTILE, headers={"x-request-id": "[/bold]"})
        code, out, err = await run("top", "--once", "--interval", "200ms", "--admin", running.stack.admin)
        assert (code, err) == (0, "")
        for piece in (
            "2 of 2 pods",
            "ready",
            "200 0.0/s",
            "refused 400",
            MODEL,
            "req-3",
            "[/bold]",
            "<img src=x",
            "total",
        ):
            assert piece in out, piece
        for address in running.fleet.addresses:
            assert address in out
        assert max(map(len, out.splitlines())) > 120
        assert "\x1b" not in out
        summary = await running.stack.debug("/debug/summary")
        assert summary["models"][MODEL] == 4
        assert json.dumps(summary["means"])


async def test_it_stays_up_while_the_sidecar_is_away(tmp_path: Path) -> None:
    async with gateway(configuration("{}", tmp_path), pods=1) as running:
        await running.chat(headers={"x-request-id": "req-1"})
        async with terminal("top", "--interval", "100ms", "--admin", running.stack.admin) as screen:
            await screen.until(lambda text: "1 of 1 pods" in text and "req-1" in text)
            assert running.stack.sidecar is not None
            await running.stack.sidecar.stop()
            await screen.until(lambda text: "no answer from" in text and "trying again" in text)
            screen.process.send_signal(signal.SIGINT)
            assert await asyncio.wait_for(screen.process.wait(), PATIENCE) == 0
            assert "Traceback" not in screen.text


async def test_it_waits_for_a_sidecar_that_is_not_there_yet() -> None:
    async with terminal("top", "--interval", "100ms", "--admin", nobody()) as screen:
        await screen.until(lambda text: "no answer from" in text)
        screen.process.send_signal(signal.SIGINT)
        assert await screen.process.wait() == 0


async def test_mistakes() -> None:
    address = nobody()
    code, out, err = await run("top", "--once", "--interval", "100ms", "--admin", address)
    assert (code, out) == (1, "")
    assert err.startswith(f"no answer from {address}: ")
    assert len(err.splitlines()) == 1
    code, out, err = await run("top", "--interval", "fast")
    assert (code, out) == (2, "")
    assert err.startswith("--interval must be a duration")


async def test_schema() -> None:
    code, out, err = await run("schema")
    assert (code, err) == (0, "")
    docs = Path(__file__).parents[2] / "docs"
    assert out == (docs / "schema" / "infer-gateway.schema.json").read_text(encoding="utf-8")
    code, out, err = await run("schema", "--markdown")
    assert (code, err) == (0, "")
    assert out == (docs / "configuration.md").read_text(encoding="utf-8")
