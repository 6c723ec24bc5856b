"""One suite over all transports, with grpcio's client as the peer; then what only the lean one does."""

import asyncio
import contextlib
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
import trustme
import uvloop
from grpc_health.v1 import health_pb2
from support.envoy_messages import ProcessingRequest, ProcessingResponse, StreamAccessLogsMessage
from support.eventually import PATIENCE, eventually
from support.http2_peer import HELLO, REQUEST, Frame, message, opening, parse

from extproc.auth.base import Pending
from extproc.errors import RemoteProtocolError
from extproc.protocol.events import Event, LogEntry, RequestBody
from extproc.protocol.replies import Reply, RequestBodyReply
from extproc.transport.budget import BodyBudget
from extproc.transport.grpcio import GrpcServer
from extproc.transport.http2 import server as sidecar
from extproc.transport.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    settings,
)
from extproc.transport.http2.server import Http2Server
from extproc.transport.http2.stream import WINDOW
from extproc.transport.services import LOG_METHOD, LOG_SERVICE, MESSAGE_OVERHEAD, METHOD, SERVICE
from extproc.transport.tls import Tls

PROCESS = f"/{SERVICE}/{METHOD}"
ACCESS_LOG = f"/{LOG_SERVICE}/{LOG_METHOD}"
MAX_BODY = 24 << 20
#: Much longer than anything takes: a test that hangs shall fail.
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # else two channels to one path share a connection
]


class Exchange:
    """Sends each body back. Some bodies are wishes."""

    def __init__(self, log: "Log") -> None:
        self._log = log
        self.pending: Pending | None = None
        self.push: Callable[[list[Reply]], None] | None = None
        log.opened += 1

    def handle(self, event: Event) -> list[Reply]:
        assert self.pending is None
        assert type(event) is RequestBody
        body = event.body
        if body == b"illegal":
            raise RemoteProtocolError("as wished")
        if body == b"bug":
            raise ValueError("as wished")
        if body.startswith(b"wait"):
            self._waits = int(body.removeprefix(b"wait") or 1)
            self.pending = Pending(self._log.wait)
            return []
        if body.startswith(b"keep"):
            self._log.kept.append(body[:6])
            return []
        if body == b"twice":
            return [RequestBodyReply(body=b"one"), RequestBodyReply(body=b"two")]
        return [RequestBodyReply(body=body)]

    def resume(self) -> list[Reply]:
        self._waits -= 1
        self.pending = Pending(self._log.wait) if self._waits else None
        return [] if self.pending else [RequestBodyReply(body=b"waited")]

    def close(self) -> None:
        self._log.closed += 1
        self._log.news.set()
        if self._log.close_fails:
            raise ValueError("as wished")


class Log:
    """What the exchanges have seen. Also the metrics."""

    def __init__(self) -> None:
        self.opened = self.closed = self.protocol_errors = 0
        self.entries: list[LogEntry] = []
        self.broken_status = 0
        #: What was kept of bodies, by the first letters.
        self.kept: list[bytes] = []
        self.open_fails = self.close_fails = False
        self.waiting = asyncio.Event()
        self.go_on = asyncio.Event()
        self.wait_fails: BaseException | None = None
        self.news = asyncio.Event()

    def open(self) -> Exchange:
        if self.open_fails:
            raise ValueError("as wished")
        return Exchange(self)

    async def wait(self) -> None:
        self.waiting.set()
        await self.go_on.wait()
        if self.wait_fails is not None:
            raise self.wait_fails

    def entry(self, entry: LogEntry) -> None:
        if entry.status == self.broken_status:
            raise ValueError("as wished")
        self.entries.append(entry)

    def protocol_error(self) -> None:
        self.protocol_errors += 1

    async def all_closed_but(self, count: int) -> None:
        """Returns when all but `count` of the exchanges were closed."""
        while self.opened - self.closed > count:
            self.news.clear()
            await asyncio.wait_for(self.news.wait(), PATIENCE)

    async def all_closed(self, count: int) -> None:
        """Returns when `count` exchanges were closed."""
        while self.closed < count:
            self.news.clear()
            await asyncio.wait_for(self.news.wait(), PATIENCE)
        assert self.closed == self.opened == count


class Client:
    """A server and a channel to it."""

    def __init__(self, server: Any, log: Log, path: Path, address: str, root: bytes | None = None) -> None:
        self.server = server
        self.log = log
        self.path = path
        self.address = address
        if root is None:
            self.channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        else:
            options = [*OPTIONS, ("grpc.ssl_target_name_override", "localhost")]
            self.channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(root), options)

    def call(self, method: str = PROCESS) -> Any:
        return self.channel.stream_stream(method)(timeout=PATIENCE)

    async def health(self, service: str) -> str:
        call = self.channel.unary_unary("/grpc.health.v1.Health/Check")
        answer = await call(health_pb2.HealthCheckRequest(service=service).SerializeToString(), timeout=PATIENCE)
        return str(
            health_pb2.HealthCheckResponse.ServingStatus.Name(health_pb2.HealthCheckResponse.FromString(answer).status)
        )


def body(payload: bytes) -> bytes:
    return bytes(ProcessingRequest(request_body={"body": payload}).SerializeToString())


async def reply(call: Any) -> bytes:
    """The body in the next reply."""
    data = await call.read()
    assert data is not grpc.aio.EOF
    return bytes(ProcessingResponse.FromString(data).request_body.response.body_mutation.body)


async def status(call: Any) -> tuple[grpc.StatusCode, str]:
    """How a call ended, with nothing more read."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        assert await call.read() is grpc.aio.EOF
    return await call.code(), await call.details()


async def started(kind: Any, log: Log, path: Path, **options: int) -> Client:
    options = {"max_body": MAX_BODY, "max_streams": 1000, **options}
    server = kind(log.open, log, log.entry, address=f"unix://{path}", **options)
    assert await server.start() == f"unix://{path}"
    return Client(server, log, path, f"unix://{path}")


async def on_tcp(kind: Any, log: Log, folder: Path, *, tls: bool) -> Client:
    given = root = None
    if tls:
        authority = trustme.CA()
        issued = authority.issue_cert("localhost")
        root = authority.cert_pem.bytes()
        issued.private_key_pem.write_to_path(str(folder / "tls.key"))
        issued.cert_chain_pems[0].write_to_path(str(folder / "tls.crt"))
        given = Tls(str(folder / "tls.crt"), str(folder / "tls.key"))
    server = kind(log.open, log, log.entry, address="127.0.0.1:0", max_body=MAX_BODY, max_streams=1000, tls=given)
    return Client(server, log, folder / "none", await server.start(), root)


FORMS = {
    f"{name}, {where}": (kind, where)
    for name, kind in {"grpc.aio": GrpcServer, "http2": Http2Server}.items()
    for where in ("Unix", "TCP", "TLS")
}


@pytest_asyncio.fixture(params=FORMS)
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Client]:
    kind, where = FORMS[request.param]
    if where == "Unix":
        made = await started(kind, Log(), tmp_path / "s.sock")
    else:
        made = await on_tcp(kind, Log(), tmp_path, tls=where == "TLS")
    yield made
    made.log.go_on.set()
    await made.channel.close()
    await made.server.stop(0)


@pytest.mark.parametrize("size", [0, 1, 1000, 16384, 65536, 100_000, 1 << 20, 20 << 20])
async def test_messages_of_any_size(client: Client, size: int) -> None:
    call = client.call()
    payload = bytes([size % 251]) * size
    for _ in range(2):
        await call.write(body(payload))
        assert await reply(call) == payload
    await call.done_writing()
    assert await status(call) == (grpc.StatusCode.OK, "")
    await client.log.all_closed(1)


async def test_many_calls_at_once(client: Client) -> None:
    async def talk(number: int) -> None:
        call = client.call()
        for turn in range(2):
            payload = b"%d/%d" % (number, turn) * 50
            await call.write(body(payload))
            assert await reply(call) == payload
        await call.done_writing()
        assert await status(call) == (grpc.StatusCode.OK, "")

    await asyncio.gather(*map(talk, range(300)))
    await client.log.all_closed(300)


async def test_bodies_that_are_collected_wait_for_each_other(client: Client) -> None:
    """One stream goes on, whatever it holds; another that would be too much is not read from until that one has ended."""
    client.server.budget = BodyBudget(200_000)

    async def kept(*what: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            while client.log.kept != list(what):
                await asyncio.sleep(0)

    old, new = client.call(), client.call()
    await old.write(body(b"keep a".ljust(150_000)))
    await kept(b"keep a")
    await new.write(body(b"keep b".ljust(100_000)))
    await kept(b"keep a", b"keep b")
    await new.write(body(b"keep c"))
    await new.write(body(b"done"))
    # The old one may exceed everything, and small ones never wait.
    await old.write(body(b"keep d".ljust(150_000)))
    await kept(b"keep a", b"keep b", b"keep d")
    small = client.call()
    await small.write(body(b"keep e"))
    await small.write(body(b"small"))
    assert await reply(small) == b"small"
    assert client.log.kept == [b"keep a", b"keep b", b"keep d", b"keep e"]
    # Once something was said, nothing counts any more.
    await small.write(body(b"keep f".ljust(500_000)))
    await small.write(body(b"small"))
    assert await reply(small) == b"small"
    await old.write(body(b"done"))
    assert await reply(old) == b"done"
    assert await reply(new) == b"done"
    assert client.log.kept[-1] == b"keep c"
    await nothing_held(client)
    # One that goes away lets go of what it held.
    gone = client.call()
    await gone.write(body(b"keep g".ljust(300_000)))
    async with asyncio.timeout(PATIENCE):
        while client.log.kept[-1] != b"keep g":
            await asyncio.sleep(0)
    assert client.server.budget.total >= 300_000
    for call in (gone, old, new, small):
        call.cancel()
    await client.log.all_closed(4)
    await nothing_held(client)


async def nothing_held(client: Client) -> None:
    """Returns when no body is held: a client may have its answer before the server has gone on from there."""
    async with asyncio.timeout(PATIENCE):
        while client.server.budget.total:
            await asyncio.sleep(0)


async def test_a_body_may_wait_and_go_away(client: Client) -> None:
    client.server.budget = BodyBudget(100_000)
    old, new = client.call(), client.call()
    for call, what in ((old, b"keep a"), (new, b"keep b")):
        await call.write(body(what.ljust(90_000)))
        async with asyncio.timeout(PATIENCE):
            while what not in client.log.kept:
                await asyncio.sleep(0)
    new.cancel()
    await client.log.all_closed_but(1)
    await old.write(body(b"done"))
    assert await reply(old) == b"done"
    await nothing_held(client)
    old.cancel()


async def test_call_without_messages(client: Client) -> None:
    call = client.call()
    await call.done_writing()
    assert await status(call) == (grpc.StatusCode.OK, "")
    await client.log.all_closed(1)


async def test_more_replies_than_messages(client: Client) -> None:
    call = client.call()
    await call.write(body(b"twice"))
    assert [await reply(call), await reply(call)] == [b"one", b"two"]
    call.cancel()


@pytest.mark.parametrize("waits", [b"wait", b"wait3"])
async def test_what_comes_meanwhile_waits(client: Client, waits: bytes) -> None:
    call = client.call()
    for payload in (b"first", waits, b"second", b"x" * 100_000, b"wait", b"last"):
        await call.write(body(payload))
    await call.done_writing()
    assert await reply(call) == b"first"
    await asyncio.wait_for(client.log.waiting.wait(), PATIENCE)
    other = client.call()
    await other.write(body(b"meanwhile"))
    assert await reply(other) == b"meanwhile"
    other.cancel()
    client.log.go_on.set()
    answers = [await reply(call) for _ in range(5)]
    assert answers == [b"waited", b"second", b"x" * 100_000, b"waited", b"last"]
    assert await status(call) == (grpc.StatusCode.OK, "")
    await client.log.all_closed(2)


async def test_illegal_message(client: Client) -> None:
    call, other = client.call(), client.call()
    await other.write(body(b"before"))
    assert await reply(other) == b"before"
    await call.write(body(b"illegal"))
    assert await status(call) == (grpc.StatusCode.INVALID_ARGUMENT, "illegal ext_proc message")
    await other.write(body(b"after"))
    assert await reply(other) == b"after"
    await other.done_writing()
    assert await status(other) == (grpc.StatusCode.OK, "")
    await client.log.all_closed(2)
    assert client.log.protocol_errors == 1


async def test_no_message_at_all(client: Client) -> None:
    call = client.call()
    await call.write(b"\xff\xff\xff")
    assert (await status(call))[0] is grpc.StatusCode.INVALID_ARGUMENT
    await client.log.all_closed(1)


async def test_bug_in_the_exchange(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    call, other = client.call(), client.call()
    await other.write(body(b"before"))
    assert await reply(other) == b"before"
    await call.write(body(b"bug"))
    assert await status(call) == (grpc.StatusCode.INTERNAL, "internal error")
    await other.write(body(b"after"))
    assert await reply(other) == b"after"
    other.cancel()
    await client.log.all_closed(2)
    assert client.log.protocol_errors == 0
    assert "as wished" in caplog.text


async def test_bug_while_waiting(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    call = client.call()
    client.log.wait_fails = ValueError("as wished")
    client.log.go_on.set()
    await call.write(body(b"wait"))
    assert await status(call) == (grpc.StatusCode.INTERNAL, "internal error")
    await client.log.all_closed(1)
    assert "as wished" in caplog.text


async def test_client_cancels(client: Client) -> None:
    call = client.call()
    await call.write(body(b"x"))
    assert await reply(call) == b"x"
    call.cancel()
    await client.log.all_closed(1)


async def test_client_cancels_while_the_exchange_waits(client: Client) -> None:
    call = client.call()
    await call.write(body(b"wait"))
    await asyncio.wait_for(client.log.waiting.wait(), PATIENCE)
    call.cancel()
    await client.log.all_closed(1)


async def test_client_goes_away(client: Client) -> None:
    calls = [client.call() for _ in range(3)]
    for call in calls:
        await call.write(body(b"x"))
        assert await reply(call) == b"x"
    await client.channel.close()
    await client.log.all_closed(3)


async def test_slow_reader_gets_everything(client: Client) -> None:
    """More replies than the client's windows take, and only then does it begin to read."""
    call = client.call()
    writing = asyncio.create_task(_write_all(call, [b"%05d" % n * 20_000 for n in range(20)]))
    await call.initial_metadata()
    other = client.call()
    await other.write(body(b"quick"))
    assert await reply(other) == b"quick"
    other.cancel()
    assert [(await reply(call))[:5] for _ in range(20)] == [b"%05d" % n for n in range(20)]
    await writing
    assert await status(call) == (grpc.StatusCode.OK, "")


async def _write_all(call: Any, payloads: list[bytes]) -> None:
    for payload in payloads:
        await call.write(body(payload))
    await call.done_writing()


async def test_message_over_the_limit(client: Client) -> None:
    call = client.call()
    with contextlib.suppress(grpc.aio.AioRpcError):
        await call.write(bytes(MAX_BODY + MESSAGE_OVERHEAD + 1))
    assert (await status(call))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    await client.log.all_closed(1)


@pytest.mark.parametrize("method", ["/a.B/C", f"/{SERVICE}/Other", "/grpc.health.v1.Health/Nothing"])
async def test_unknown_method(client: Client, method: str) -> None:
    call = client.call(method)
    assert (await status(call))[0] is grpc.StatusCode.UNIMPLEMENTED
    assert client.log.opened == 0


async def test_health(client: Client) -> None:
    assert await client.health("liveness") == "SERVING"
    for service in ("", "readiness", SERVICE):
        assert await client.health(service) == "NOT_SERVING"
    await client.server.set_ready(True)
    for service in ("", "readiness", SERVICE):
        assert await client.health(service) == "SERVING"
    await client.server.set_ready(False)
    assert await client.health("") == "NOT_SERVING"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.health("else")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def watched(call: Any) -> str:
    """The next status that a Watch tells."""
    answer = health_pb2.HealthCheckResponse.FromString(await call.read())
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


WATCH = "/grpc.health.v1.Health/Watch"


def watch(client: Client, service: str) -> Any:
    request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    return client.channel.unary_stream(WATCH)(request, timeout=PATIENCE)


async def test_watch(client: Client) -> None:
    calls = [watch(client, service) for service in ("", "readiness", SERVICE)]
    alive, none = watch(client, "liveness"), watch(client, "else")
    assert await watched(alive) == "SERVING"
    assert await watched(none) == "SERVICE_UNKNOWN"
    for call in calls:
        assert await watched(call) == "NOT_SERVING"
    for ready, told in ((True, "SERVING"), (False, "NOT_SERVING")):
        await client.server.set_ready(ready)
        await client.server.set_ready(ready)
        for call in calls:
            assert await watched(call) == told
    # Nothing is said to those whose status has not changed, and one that is gone is not told.
    calls[0].cancel()
    await client.server.set_ready(True)
    for call in calls[1:]:
        assert await watched(call) == "SERVING"
        call.cancel()
    for call in (alive, none):
        call.cancel()


async def test_watch_does_not_hold_up_the_end(client: Client) -> None:
    watching = watch(client, "")
    assert await watched(watching) == "NOT_SERVING"
    call = client.call()
    await call.write(body(b"x"))
    assert await reply(call) == b"x"
    stopping = asyncio.create_task(client.server.stop(PATIENCE))
    await asyncio.sleep(0)
    await call.write(body(b"y"))
    assert await reply(call) == b"y"
    assert not stopping.done()
    await call.done_writing()
    assert await status(call) == (grpc.StatusCode.OK, "")
    await asyncio.wait_for(stopping, PATIENCE / 2)
    with contextlib.suppress(grpc.aio.AioRpcError):
        assert await watching.read() is grpc.aio.EOF


def entries(*statuses: int) -> bytes:
    found = StreamAccessLogsMessage()
    for number in statuses:
        found.http_logs.log_entry.add().response.response_code.value = number
    return bytes(found.SerializeToString())


async def test_access_log(client: Client) -> None:
    call = client.channel.stream_unary(ACCESS_LOG)(timeout=PATIENCE)
    await call.write(entries(200, 503))
    await call.write(entries())
    await call.write(entries(429))
    await call.done_writing()
    assert await call == b""
    assert [entry.status for entry in client.log.entries] == [200, 503, 429]
    assert client.log.opened == 0


async def test_illegal_access_log(client: Client) -> None:
    call = client.call(ACCESS_LOG)
    await call.write(b"\xff\xff\xff")
    assert await status(call) == (grpc.StatusCode.INVALID_ARGUMENT, "illegal access log message")
    assert client.log.protocol_errors == 1


@pytest.mark.parametrize("kind", [GrpcServer, Http2Server])
async def test_socket_is_for_this_user_only(kind: Any, tmp_path: Path) -> None:
    client = await started(kind, Log(), tmp_path / "s.sock")
    assert stat.S_IMODE(client.path.stat().st_mode) == 0o600
    await client.channel.close()
    await client.server.stop(0)


async def test_drain_lets_open_calls_end(client: Client) -> None:
    call = client.call()
    await call.write(body(b"before"))
    assert await reply(call) == b"before"
    stopping = asyncio.create_task(client.server.stop(PATIENCE))
    await asyncio.sleep(0)
    await call.write(body(b"after"))
    assert await reply(call) == b"after"
    assert not stopping.done()
    await call.done_writing()
    assert await status(call) == (grpc.StatusCode.OK, "")
    await asyncio.wait_for(stopping, PATIENCE)
    await client.log.all_closed(1)


async def test_the_access_log_is_the_last_to_end(client: Client) -> None:
    """It tells of requests whose own streams have ended."""
    asked, answered = asyncio.Event(), asyncio.Event()

    async def told() -> None:
        asked.set()
        await answered.wait()

    access_log = client.channel.stream_unary(ACCESS_LOG)(timeout=PATIENCE)
    await access_log.write(entries(200))
    call = client.call()
    await call.write(body(b"x"))
    assert await reply(call) == b"x"
    stopping = asyncio.create_task(client.server.stop(PATIENCE, told))
    await asyncio.sleep(0)
    assert not asked.is_set()
    await call.done_writing()
    assert await status(call) == (grpc.StatusCode.OK, "")
    await asyncio.wait_for(asked.wait(), PATIENCE)
    await access_log.write(entries(429))
    await eventually(lambda: len(client.log.entries) >= 2)
    answered.set()
    await asyncio.wait_for(stopping, PATIENCE)
    assert [entry.status for entry in client.log.entries] == [200, 429]
    access_log.cancel()


async def test_stop_cuts_what_is_left(client: Client) -> None:
    call, waits = client.call(), client.call()
    await call.write(body(b"x"))
    assert await reply(call) == b"x"
    await waits.write(body(b"wait"))
    await asyncio.wait_for(client.log.waiting.wait(), PATIENCE)
    await client.server.stop(0)
    for cut in (call, waits):
        assert (await status(cut))[0] in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
    await client.log.all_closed(2)


# The lean transport only


@pytest_asyncio.fixture
async def lean(tmp_path: Path) -> AsyncIterator[Client]:
    made = await started(Http2Server, Log(), tmp_path / "s.sock", max_body=1 << 20, max_streams=2)
    yield made
    made.log.go_on.set()
    await made.channel.close()
    await made.server.stop(0)
    assert not made.path.exists()


async def test_restart_takes_the_socket_over(lean: Client) -> None:
    call = lean.call()
    await call.write(body(b"old"))
    assert await reply(call) == b"old"
    new = await started(Http2Server, Log(), lean.path)
    other = new.call()
    await other.write(body(b"new"))
    assert await reply(other) == b"new"
    assert (lean.log.opened, new.log.opened) == (1, 1)
    await call.done_writing()
    assert await status(call) == (grpc.StatusCode.OK, "")
    await lean.server.stop(PATIENCE)
    assert new.path.exists()
    third = new.call()
    await third.write(body(b"still"))
    assert await reply(third) == b"still"
    await new.channel.close()
    await new.server.stop(0)


async def test_what_is_wrong_with_a_log_entry_costs_that_entry(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.log.broken_status = 500
    garbage = b"\x12\x03\x0a\x01\xff"  # http_logs, of an entry of one byte
    call = client.channel.stream_unary(ACCESS_LOG)(timeout=PATIENCE)
    await call.write(garbage + entries(200, 500, 503) + garbage)
    await call.write(garbage + entries(404))
    await call.done_writing()
    assert await call == b""
    assert [entry.status for entry in client.log.entries] == [200, 503, 404]
    assert client.log.protocol_errors == 3
    assert "as wished" in caplog.text
    assert caplog.text.count("access log entries cannot be read") == 1


def test_on_uvloop(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = Log()
        client = await started(Http2Server, log, tmp_path / "s.sock")
        async with Raw(client.path) as raw:
            await raw.say(opening(1), message(1, body(b"x")), opening(3), message(3, body(b"wait")))
            await raw.until(lambda f: f.kind == DATA and f.stream_id == 1)
            await client.server.stop(0)
            await raw.until(lambda f: f.kind == RST_STREAM and f.stream_id == 3)
            await raw.gone()
        await log.all_closed(2)
        assert not client.path.exists()
        await client.channel.close()

    uvloop.run(scenario())


@pytest.mark.parametrize("tls", [False, True])
def test_on_uvloop_over_tcp(tmp_path: Path, tls: bool) -> None:
    async def scenario() -> None:
        log = Log()
        client = await on_tcp(Http2Server, log, tmp_path, tls=tls)
        for size in (0, 100_000, 3 << 20):
            call = client.call()
            await call.write(body(bytes(size)))
            assert await reply(call) == bytes(size)
            await call.done_writing()
            assert await status(call) == (grpc.StatusCode.OK, "")
        await client.channel.close()
        await client.server.stop(0)
        await log.all_closed(3)

    uvloop.run(scenario())


async def test_exchange_that_cannot_be_opened(lean: Client, caplog: pytest.LogCaptureFixture) -> None:
    lean.log.open_fails = True
    for write in (True, False):
        call = lean.call()
        if write:
            await call.write(body(b"x"))
        else:
            await call.done_writing()
        assert await status(call) == (grpc.StatusCode.INTERNAL, "internal error")
    assert "as wished" in caplog.text


async def test_exchange_that_cannot_be_closed(lean: Client, caplog: pytest.LogCaptureFixture) -> None:
    lean.log.close_fails = True
    call = lean.call()
    await call.write(body(b"x"))
    assert await reply(call) == b"x"
    await call.done_writing()
    assert await status(call) == (grpc.StatusCode.OK, "")
    assert "as wished" in caplog.text


async def test_access_log_does_not_hold_up_the_end(lean: Client) -> None:
    access_log = lean.channel.stream_unary(ACCESS_LOG)(timeout=PATIENCE)
    await access_log.write(entries(200))
    call = lean.call()
    await call.write(body(b"x"))
    assert await reply(call) == b"x"
    stopping = asyncio.create_task(lean.server.stop(PATIENCE))
    await asyncio.sleep(0)
    await access_log.write(entries(429))
    await call.write(body(b"y"))
    assert await reply(call) == b"y"
    assert not access_log.done()
    call.cancel()
    assert await access_log == b""
    await asyncio.wait_for(stopping, PATIENCE / 2)
    assert [entry.status for entry in lean.log.entries] == [200, 429]


async def test_protocol_error_while_waiting(lean: Client) -> None:
    lean.log.wait_fails = RemoteProtocolError("as wished")
    lean.log.go_on.set()
    call = lean.call()
    await call.write(body(b"wait"))
    assert (await status(call))[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert lean.log.protocol_errors == 1


async def test_cancellation_of_what_is_awaited_does_not_leave_the_call_hanging(lean: Client) -> None:
    lean.log.wait_fails = asyncio.CancelledError()
    lean.log.go_on.set()
    call = lean.call()
    await call.write(body(b"wait"))
    assert await status(call) == (grpc.StatusCode.INTERNAL, "internal error")
    await lean.log.all_closed(1)


async def test_health_request_that_is_none(lean: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await lean.channel.unary_unary("/grpc.health.v1.Health/Check")(b"\xff", timeout=PATIENCE)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_watch_that_asks_for_nothing(lean: Client) -> None:
    for request in (b"\xff", None):
        call = lean.call(WATCH)
        if request is not None:
            await call.write(request)
        await call.done_writing()
        assert (await status(call))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_connections_are_limited(lean: Client) -> None:
    lean.server._max_connections = 1
    async with Raw(lean.path) as first:
        await first.until(lambda f: f.kind == SETTINGS)
        await first.say(opening(1), message(1, body(b"x")))
        await first.until(lambda f: f.kind == DATA)
        async with Raw(lean.path) as second:
            await second.gone()
        await first.say(frame(PING, 0, 0, b"12345678"))
        await first.until(lambda f: f.kind == PING)


async def test_connections_without_calls_make_room(lean: Client) -> None:
    lean.server._max_connections = 2
    async with Raw(lean.path) as idle, Raw(lean.path) as busy:
        await idle.until(lambda f: f.kind == SETTINGS and bool(f.flags & ACK))
        lean.server.look_after()
        await busy.say(opening(1), message(1, body(b"x")))
        await busy.until(lambda f: f.kind == DATA)
        async with Raw(lean.path) as new:
            await new.until(lambda f: f.kind == SETTINGS)
            await idle.gone()
            await busy.say(message(1, body(b"y")))
            await busy.until(lambda f: f.kind == DATA)
            await new.say(opening(1), message(1, body(b"x")))
            await new.until(lambda f: f.kind == DATA)


async def looked_after(server: Http2Server, looks: int) -> None:
    for _ in range(looks):
        server.look_after()


async def test_peer_that_does_not_begin_is_cut(lean: Client, caplog: pytest.LogCaptureFixture) -> None:
    async with Raw(lean.path, hello=HELLO[:10]) as raw, Raw(lean.path) as fine:
        await raw.until(lambda f: f.kind == WINDOW_UPDATE)
        await fine.until(lambda f: f.kind == SETTINGS and bool(f.flags & ACK))
        await looked_after(lean.server, sidecar.GREETING)
        assert "connection cut" not in caplog.text
        await looked_after(lean.server, 1)
        await raw.gone()
        await fine.say(frame(PING, 0, 0, b"12345678"))
        await fine.until(lambda f: f.kind == PING)
    assert caplog.text.count("connection cut") == 1


async def test_header_block_without_an_end_is_cut(lean: Client) -> None:
    async with Raw(lean.path) as raw:
        await raw.say(frame(HEADERS, 0, 1, REQUEST[:9]), frame(CONTINUATION, 0, 1, REQUEST[9:10]))
        await raw.until(lambda f: f.kind == SETTINGS and bool(f.flags & ACK))
        for n in range(sidecar.GREETING):
            await raw.say(frame(CONTINUATION, 0, 1, REQUEST[10 + n : 11 + n]))
            await looked_after(lean.server, 1)
        await looked_after(lean.server, 1)
        await raw.gone()


async def test_call_without_a_message_is_ended(lean: Client) -> None:
    async with Raw(lean.path) as raw:
        await raw.say(opening(1), message(1, body(b"x")), opening(3), frame(DATA, 0, 3, b"\0\0"))
        await raw.until(lambda f: f.kind == DATA and f.stream_id == 1)
        await looked_after(lean.server, 2 * sidecar.FIRST_MESSAGE)
        ending = await raw.until(lambda f: f.stream_id == 3)
        assert ending.flags & END_STREAM
        assert b"grpc-status" in ending.payload
        await lean.log.all_closed_but(1)
        # The other had its message, and may take as long as it likes.
        await raw.say(message(1, body(b"y")))
        await raw.until(lambda f: f.kind == DATA and f.stream_id == 1)


async def test_peer_that_vanished_is_found_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    client = await on_tcp(Http2Server, Log(), tmp_path, tls=False)
    server, log = client.server, client.log
    try:
        async with Raw(client.address) as gone, Raw(client.address) as there:
            for raw in (gone, there):
                await raw.say(opening(1), message(1, body(b"x")))
                await raw.until(lambda f: f.kind == DATA)
            await looked_after(server, sidecar.SILENCE)
            for raw in (gone, there):
                ping = await raw.until(lambda f: f.kind == PING)
            await there.say(frame(PING, ACK, 0, ping.payload), message(1, body(b"y")))
            await there.until(lambda f: f.kind == DATA)
            await looked_after(server, sidecar.NO_ANSWER)
            await gone.gone()
            await log.all_closed_but(1)
        assert [vars(one)["detail"] for one in caplog.records] == ["the peer does not answer"]
    finally:
        await client.channel.close()
        await server.stop(0)


async def test_half_a_handshake_does_not_last(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    client = await on_tcp(Http2Server, Log(), tmp_path, tls=True)
    client.server._listener.handshake_timeout = 0.05
    try:
        host, _, port = client.address.rpartition(":")
        for said in (b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n"):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(said)
            with contextlib.suppress(ConnectionResetError):
                await asyncio.wait_for(reader.read(), PATIENCE)
            writer.close()
        assert "TLS handshake failed" in caplog.text
        async with asyncio.timeout(PATIENCE):
            while client.server._listener.handshakes:
                await asyncio.sleep(0)
    finally:
        await client.channel.close()
        await client.server.stop(0)


async def test_address_that_cannot_be_had(tmp_path: Path) -> None:
    client = await on_tcp(Http2Server, Log(), tmp_path, tls=False)
    for address in (client.address, "192.0.2.1:1", "no-such-host.invalid:1"):
        other = Http2Server(Log().open, Log(), print, address=address, max_body=1, max_streams=1)
        with pytest.raises(OSError, match="cannot listen on"):
            await other.start()
        await other.stop(0)
    await client.channel.close()
    await client.server.stop(0)
    # It is free at once.
    again = Http2Server(Log().open, Log(), print, address=client.address, max_body=1, max_streams=1)
    assert await again.start() == client.address
    await again.stop(0)


async def test_paused_stream_holds_its_peer_up(lean: Client) -> None:
    async with Raw(lean.path) as raw:
        await raw.say(opening(1), message(1, body(b"wait")))
        await asyncio.wait_for(lean.log.waiting.wait(), PATIENCE)
        half = message(1, body(bytes(WINDOW // 2)))
        await raw.say(half, opening(3), message(3, body(b"x")))
        answered: list[Frame] = []

        def other_answered(f: Frame) -> bool:
            answered.append(f)
            return f.kind == DATA and f.stream_id == 3

        await raw.until(other_answered)
        assert not [f for f in answered if f.kind == WINDOW_UPDATE and f.stream_id == 1]
        lean.log.go_on.set()
        await raw.until(lambda f: f.kind == WINDOW_UPDATE and f.stream_id == 1)


async def test_connection_while_stopping_is_sent_away(lean: Client) -> None:
    lean.server.stopping = True
    async with Raw(lean.path) as raw:
        await raw.until(lambda f: f.kind == GOAWAY)
        ping = await raw.until(lambda f: f.kind == PING)
        await raw.say(frame(PING, ACK, 0, ping.payload))
        await raw.until(lambda f: f.kind == GOAWAY)
        await raw.gone()


async def test_garbage_is_told_so(lean: Client, caplog: pytest.LogCaptureFixture) -> None:
    async with Raw(lean.path, hello=b"GET / HTTP/1.1\r\n\r\n") as raw:
        await raw.until(lambda f: f.kind == GOAWAY)
        await raw.gone()
    assert "connection error" in caplog.text


async def test_peer_that_takes_nothing_loses_its_stream_only(lean: Client) -> None:
    async with Raw(lean.path, hello=HELLO + settings({4: 0})) as raw:
        await raw.say(opening(1))
        for _ in range(3):
            await raw.say(message(1, body(bytes(900_000))))
        await raw.until(lambda f: f.kind == RST_STREAM and f.stream_id == 1)
        await lean.log.all_closed(1)
        await raw.say(settings({4: 65535}), opening(3), message(3, body(b"alive")))
        await raw.until(lambda f: f.kind == DATA and f.stream_id == 3)


async def test_peer_that_does_not_read_is_not_read_from(lean: Client) -> None:
    with socket.socket(socket.AF_UNIX) as frozen:
        frozen.setblocking(False)
        frozen.connect(str(lean.path))
        frozen.send(HELLO)
        pings = frame(PING, 0, 0, b"12345678") * 1000
        stuck = 0
        while stuck < 1000:  # turns of the loop
            try:
                frozen.send(pings[:17])
                stuck = 0
            except BlockingIOError:
                stuck += 1
                await asyncio.sleep(0)
        (connection,) = lean.server._connections
        assert connection._transport.get_write_buffer_size() < 1 << 20
        # Others are not disturbed.
        call = lean.call()
        await call.write(body(b"x"))
        assert await reply(call) == b"x"
        # It may come back.
        taken = 0
        while connection._transport.get_write_buffer_size():
            with contextlib.suppress(BlockingIOError):
                taken += len(frozen.recv(1 << 20))
            await asyncio.sleep(0)
        assert taken
        assert connection._transport.is_reading()
        call.cancel()


async def test_frozen_peer_does_not_hold_up_the_end(lean: Client) -> None:
    with socket.socket(socket.AF_UNIX) as frozen:
        frozen.setblocking(False)
        frozen.connect(str(lean.path))
        frozen.send(HELLO + opening(1))
        stuck = 0
        while stuck < 1000:
            try:
                frozen.send(frame(PING, 0, 0, b"12345678"))
                stuck = 0
            except BlockingIOError:
                stuck += 1
                await asyncio.sleep(0)
        await asyncio.wait_for(lean.server.stop(0), PATIENCE)
        await lean.log.all_closed(1)


class Raw:
    """A client of frames on a Unix socket or on `host:port`."""

    def __init__(self, path: Path | str, hello: bytes = HELLO) -> None:
        self._path = path
        self._hello = hello
        self._buffer = b""

    async def __aenter__(self) -> "Raw":
        if isinstance(self._path, Path):
            self._reader, self._writer = await asyncio.open_unix_connection(str(self._path))
        else:
            host, _, port = self._path.rpartition(":")
            self._reader, self._writer = await asyncio.open_connection(host, int(port))
        self._writer.write(self._hello)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def say(self, *frames: bytes) -> None:
        self._writer.write(b"".join(frames))
        await self._writer.drain()

    async def gone(self) -> None:
        """Returns when the server has closed the connection, with nothing more said."""
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(self._reader.read(), PATIENCE) == b""

    async def until(self, wanted: Callable[[Frame], bool]) -> Frame:
        """Reads frames until one is as wanted."""
        while True:
            head = await asyncio.wait_for(self._reader.readexactly(9), PATIENCE)
            (found,) = parse(head + await self._reader.readexactly(int.from_bytes(head[:3])))
            if wanted(found):
                return found
