import asyncio
import socket
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any

import pytest
from aiohttp import web
from support.busy import Busy

from extproc.admin.top.frame import Summary
from extproc.admin.top.run import NoAnswer, ask, looks, one


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


def answers(*summaries: Summary | None) -> Callable[[], Summary]:
    left = list(summaries)

    def fetch() -> Summary:
        found = left.pop(0)
        if found is None:
            raise NoAnswer("nobody there")
        return found

    return fetch


@pytest.fixture
async def summaries() -> list[Any]:
    gateway, found = Busy(), []
    for uptime in (1.0, 2.0, 3.0):
        gateway.request()
        gateway.request()
        found.append(await gateway.summary() | {"uptime": uptime})
    return found


async def test_it_goes_on_while_nobody_answers(summaries: list[Any]) -> None:
    first, second, third = summaries
    clock = Clock()
    fetch = answers(None, first, second, None, third)
    seen = list(islice(looks(fetch, 0.5, clock, clock.sleep), 5))
    assert [away for _, away in seen] == ["nobody there", "", "", "nobody there", ""]
    assert seen[0][0] is None
    old, same, last = seen[2][0], seen[3][0], seen[4][0]
    assert old is not None
    assert old.outcomes == {"200": 4.0}
    assert same is old
    assert last is not None
    assert last.outcomes == {"200": 2.0}  # over the whole second since the last answer
    assert clock.now == 52.0


async def test_one_frame_is_of_one_interval(summaries: list[Any]) -> None:
    clock = Clock()
    assert one(answers(*summaries), 4.0, clock, clock.sleep).outcomes == {"200": 0.5}
    with pytest.raises(NoAnswer):
        one(answers(None), 4.0, clock, clock.sleep)
    with pytest.raises(NoAnswer):
        one(answers(summaries[0], None), 4.0, clock, clock.sleep)


async def test_it_asks_the_admin_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # not for what is beside us
    async with Busy(pods=5).serving() as address:
        assert len((await asyncio.to_thread(ask, address))["pods"]) == 5


async def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(NoAnswer, match=f"no answer from {address}: .*refused"):
            await asyncio.to_thread(ask, address)
    for wrong in ("no host", "127.0.0.1:port", "\n"):
        with pytest.raises(NoAnswer, match="no answer from"):
            ask(wrong)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, b"", "answers 404"),
        (200, b"hello", "no answer from"),
        (200, b"[]", "something else"),
        (200, b"{}", "else"),
    ],
)
async def test_somebody_else_there(status: int, body: bytes, said: str) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=body)

    await _served(answer, said)


async def _served(answer: Callable[[web.Request], Awaitable[web.Response]], said: str) -> None:
    app = web.Application()
    app.router.add_get("/debug/summary", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        with pytest.raises(NoAnswer, match=said):
            await asyncio.to_thread(ask, f"127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()


async def test_no_http_there() -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(NoAnswer, match="no answer from"):
            await asyncio.to_thread(ask, f"127.0.0.1:{port}")
