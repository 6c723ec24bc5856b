"""Origins against servers that send what they like, byte for byte, and against aiohttp's server."""

import asyncio
import contextlib
import ssl

import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer
from support.eventually import PATIENCE
from support.jwks_server import JwksServer, says

from extproc.fetch import FetchError, Origin, Reason
from extproc.fetch.origin import EVENTS_A_TURN, MAX_HEAD, MAX_INTERIM, MAX_PIECES

#: Much longer than anything takes: a test that hangs shall fail.
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Server:
    """Answers one request of each connection as it is told, whatever is asked, and goes on with `endless`."""

    def __init__(self, said: bytes, endless: bytes = b"") -> None:
        self._said = said
        self._endless = endless
        self.asked: list[bytes] = []
        self.connections = 0
        self.url = ""
        self._talks: list[asyncio.Task[None]] = []

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._talks.append(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            self.asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self._said)
            while self._endless:
                writer.write(self._endless)
                await writer.drain()
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def __aenter__(self) -> "Server":
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()
        await asyncio.gather(*self._talks)


async def read(url: str, limit: int = 1 << 20) -> tuple[int, bytes]:
    with Origin(url) as origin:
        async with asyncio.timeout(PATIENCE), origin.get("/x") as answer:
            return answer.status, await answer.body(limit)


ANSWERS = {
    "length": (OK, b"ok"),
    "chunks": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1;a=b\r\nk\r\n0\r\nx: y\r\n\r\n",
        b"ok",
    ),
    "until the end": (b"HTTP/1.0 200 OK\r\n\r\nok", b"ok"),
    "nothing": (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b""),
    "after some words": (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * MAX_INTERIM + OK, b"ok"),
}


@pytest.mark.parametrize(("said", "body"), ANSWERS.values(), ids=ANSWERS)
async def test_an_answer(said: bytes, body: bytes) -> None:
    async with Server(said) as server:
        assert await read(server.url) == (200, body)
        port = server.url.rpartition(":")[2]
        assert server.asked == [b"GET /x HTTP/1.1\r\nhost: 127.0.0.1:%s\r\n\r\n" % port.encode()]


async def test_headers_go_out_and_come_back() -> None:
    said = b"HTTP/1.1 304 Not Modified\r\nCache-Control: a\r\ncache-control: b\r\n\r\n"
    async with Server(said) as server:
        with Origin(server.url, [("accept", "x/y")]) as origin:
            async with origin.get("/", [("if-none-match", "z")]) as answer:
                assert (answer.status, answer.header("cache-control"), answer.header("etag")) == (304, "a, b", "")
        assert b"\r\naccept: x/y\r\nif-none-match: z\r\n" in server.asked[0]


BROKEN = {
    "interim answers": (b"HTTP/1.1 103 x\r\n\r\n" * (MAX_INTERIM + 1) + OK, Reason.CONNECT, "interim answers"),
    "a head without an end": (b"HTTP/1.1 200 OK\r\nx: " + b"x" * (MAX_HEAD + 1), Reason.CONNECT, "."),
    "headers without an end": (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * MAX_HEAD, Reason.CONNECT, "."),
    "no HTTP": (b"220 mail.example.com ready\r\n", Reason.CONNECT, "."),
    "nothing": (b"", Reason.CONNECT, "."),
    "half a head": (b"HTTP/1.1 200 O", Reason.CONNECT, "."),
    "half a body": (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", Reason.CONNECT, "."),
    "half a chunk": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nok", Reason.CONNECT, "."),
    "no chunk": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n", Reason.CONNECT, "."),
    "two lengths": (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nok", Reason.CONNECT, "."),
    "an upgrade": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", Reason.CONNECT, "."),
    "too long": (
        b"HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n" + b"x" * 101,
        Reason.TOO_LARGE,
        "more than 100 bytes",
    ),
}


@pytest.mark.parametrize(("said", "reason", "text"), BROKEN.values(), ids=BROKEN)
async def test_what_is_no_answer(said: bytes, reason: Reason, text: str) -> None:
    async with Server(said) as server:
        with pytest.raises(FetchError, match=text) as caught:
            await read(server.url, limit=100)
    assert caught.value.reason is reason
    assert str(caught.value)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "http://", "http://[::1:80", "http://127.0.0.1:99999", "", "x"])
async def test_what_is_no_address(url: str) -> None:
    with pytest.raises(FetchError) as caught:
        await read(url)
    assert caught.value.reason is Reason.CONNECT


async def test_nobody_listens() -> None:
    async with Server(OK) as server:
        pass
    with pytest.raises(FetchError):
        await read(server.url)


@pytest.mark.parametrize(
    ("head", "endless"),
    [
        (b"", b"HTTP/1.1 103 x\r\n\r\n" * 10_000),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10_000),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 100_000),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", OK * 10_000),
    ],
    ids=["interim answers", "chunks of a byte", "a body", "answers that nobody asked for"],
)
async def test_others_have_their_turn(head: bytes, endless: bytes) -> None:
    """However fast the server is, between any two turns of the loop a few events are read, or one piece."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    async with Server(head, endless) as server:
        with contextlib.suppress(FetchError), Origin(server.url) as origin:
            async with asyncio.timeout(PATIENCE), origin.get("/") as answer:
                pieces = 0
                async for _ in answer.pieces():
                    pieces += 1
                    assert pieces <= (turns + 1) * EVENTS_A_TURN
                    if pieces > 10_000:
                        break
    counting.cancel()


async def test_a_body_in_too_many_pieces() -> None:
    said = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * (MAX_PIECES + 1)
    async with Server(said) as server:
        with pytest.raises(FetchError, match="pieces") as caught:
            await read(server.url)
    assert caught.value.reason is Reason.TOO_LARGE


class TestConnections:
    """Which are kept."""

    @staticmethod
    async def twice(origin: Origin) -> list[bytes]:
        bodies = []
        for _ in range(2):
            async with asyncio.timeout(PATIENCE), origin.get("/") as answer:
                bodies.append(await answer.body(100))
        return bodies

    async def test_one_that_has_said_all(self) -> None:
        asked: list[object] = []

        async def handler(request: web.Request) -> web.StreamResponse:
            asked.append(request.transport)
            return web.Response(text="hi")

        app = web.Application()
        app.router.add_get("/", handler)
        async with TestServer(app, host="127.0.0.1") as server:
            with Origin(f"http://127.0.0.1:{server.port}") as origin:
                assert await self.twice(origin) == [b"hi", b"hi"]
        assert len(set(asked)) == 1

    @pytest.mark.parametrize(
        "said",
        [
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
            b"HTTP/1.0 200 OK\r\n\r\nok",
            OK + b"and more",
        ],
        ids=["closes", "HTTP/1.0", "more than was asked for"],
    )
    async def test_none_that_is_done_or_has_more(self, said: bytes) -> None:
        async with Server(said) as server:
            with Origin(server.url) as origin:
                assert await self.twice(origin) == [b"ok", b"ok"]
            assert server.connections == 2

    async def test_none_whose_answer_was_not_read(self) -> None:
        async with Server(OK) as server:
            with Origin(server.url) as origin:
                for _ in range(2):
                    async with origin.get("/") as answer:
                        assert answer.status == 200
            assert server.connections == 2

    async def test_one_that_was_closed_meanwhile_is_replaced(self) -> None:
        # Each connection of this server takes one request, and does not say so.
        async with Server(OK) as server:
            with Origin(server.url) as origin:
                assert await self.twice(origin) == [b"ok", b"ok"]
            assert server.connections == 2

    async def test_one_that_breaks_in_an_answer_is_not_tried_again(self) -> None:
        connections = 0

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 2")
            writer.close()

        async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with Origin(f"http://127.0.0.1:{port}") as origin, pytest.raises(FetchError):
                await self.twice(origin)
        assert connections == 1

    async def test_what_goes_wrong_in_the_reading_closes_it(self) -> None:
        async with Server(OK) as server:
            with Origin(server.url) as origin:
                with pytest.raises(KeyError):
                    async with origin.get("/") as answer:
                        await answer.body(100)
                        raise KeyError
                assert await self.twice(origin) == [b"ok", b"ok"]
            assert server.connections == 3

    async def test_it_can_be_given_up(self) -> None:
        async with Server(b"HTTP/1.1 200 OK\r\n", endless=b" ") as server:
            with Origin(server.url) as origin:
                asking = asyncio.create_task(origin.get("/").__aenter__())
                async with asyncio.timeout(PATIENCE):
                    while not server.asked:
                        await asyncio.sleep(0)
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking


@pytest.mark.parametrize("trusted", ["its own", "another", "the system's"])
async def test_tls(trusted: str) -> None:
    authorities = {"its own": trustme.CA(), "another": trustme.CA()}
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authorities["its own"].issue_cert("127.0.0.1").configure_cert(served)
    context = None
    if trusted in authorities:
        context = ssl.create_default_context()
        authorities[trusted].configure_trust(context)
    async with JwksServer(says(b"ok"), served) as server:
        with Origin(server.uri, tls=context) as origin:
            if trusted == "its own":
                async with origin.get("/") as answer:
                    assert await answer.body(100) == b"ok"
                    assert answer.cpu > 0
            else:
                with pytest.raises(FetchError, match="certificate"):
                    async with origin.get("/"):
                        raise AssertionError
