import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from support.eventually import PATIENCE, eventually

from extproc.admin.gate import Gate, is_allowed
from extproc.admin.server import AdminServer
from extproc.telemetry.decision_log import DecisionLog
from extproc.telemetry.metrics import Metrics

NAMES = frozenset({"gateway.example"})


@pytest.mark.parametrize(
    "host",
    [
        None, "127.0.0.1", "127.0.0.1:9090", "[::1]:9090", "[::1]", "::1", "10.1.2.3", "localhost", "LOCALHOST:1",
        "a.localhost:9090", "gateway.example:9090", "Gateway.Example", "gateway.example.",
    ],
)  # fmt: skip
def test_hosts_that_are_ours(host: str | None) -> None:
    assert is_allowed(host, NAMES)


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:9090", "127.0.0.1.evil.example", "localhost.evil.example", "gateway.example.evil",
     "notlocalhost", "[::1", "1", "0x7f.1", "a:b:c", "127.0.0.1:9090:1", "evil.example#127.0.0.1"],
)  # fmt: skip
def test_hosts_that_a_page_could_lead_here(host: str) -> None:
    assert is_allowed(host, NAMES) is (host == "[::1")  # what stands between brackets is an address all the same


@pytest_asyncio.fixture
async def address() -> AsyncIterator[str]:
    server = AdminServer(
        host="127.0.0.1", port=0, metrics=Metrics(list), not_ready=str, pods=list, decisions=DecisionLog(0),
        explain=lambda _path, _body: {}, hosts=("gateway.example",),
    )  # fmt: skip
    yield await server.start()
    await server.stop()


async def status(address: str, path: str, host: str) -> int:
    headers = {"host": host}
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{address}{path}", headers=headers) as response,
    ):
        return response.status


async def test_pages_are_for_our_names_and_probes_come_by_any(address: str) -> None:
    for path in ("/", "/debug/endpoints", "/debug/summary", "/drained"):
        assert await status(address, path, "evil.example") == 421
        assert await status(address, path, "gateway.example:9090") == 200
        assert await status(address, path, address) == 200
    for path in ("/healthz", "/readyz", "/metrics"):
        assert await status(address, path, "evil.example") == 200


async def test_a_connection_is_for_one_request(address: str) -> None:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), PATIENCE)
    assert answer.endswith(b"ok\n")
    assert b"connection: close" in answer.lower()
    writer.close()


class Echo(asyncio.Protocol):
    """Says what it hears."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


async def gated(gate: Gate) -> tuple[asyncio.Server, int]:
    server = await asyncio.get_running_loop().create_server(gate, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def test_one_that_says_nothing_makes_room_and_one_that_asked_does_not() -> None:
    server, port = await gated(Gate(Echo, limit=2))
    asked, silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
    asked[1].write(b"GET / HTTP/1.1\r\n\r\n")
    assert await asyncio.wait_for(asked[0].read(64), PATIENCE)
    third = await asyncio.open_connection("127.0.0.1", port)
    third[1].write(b"a\r\n\r\n")
    assert await asyncio.wait_for(third[0].read(64), PATIENCE) == b"a\r\n\r\n"
    with pytest.raises(ConnectionResetError):
        await closed(silent[0])
    # Both have asked: there is no room for one more.
    fourth = await asyncio.open_connection("127.0.0.1", port)
    with pytest.raises(ConnectionResetError):
        await closed(fourth[0])
    asked[1].close()
    await asked[1].wait_closed()

    async def room() -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"b\r\n\r\n")
            return await reader.read(64) == b"b\r\n\r\n"
        except ConnectionResetError:
            return False
        finally:
            writer.transport.abort()

    await eventually(room)
    for _, writer in (silent, third, fourth):
        writer.transport.abort()
    server.close()


async def closed(reader: asyncio.StreamReader) -> None:
    if await asyncio.wait_for(reader.read(), PATIENCE) == b"":
        raise ConnectionResetError


async def test_a_head_that_does_not_come_ends_its_connection() -> None:
    server, port = await gated(Gate(Echo, head_timeout=0.0))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with pytest.raises(ConnectionResetError):
        await closed(reader)
    writer.transport.abort()
    server.close()
