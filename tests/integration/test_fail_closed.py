"""With auth on nothing reaches a pod without a verified token: whatever the request looks like, whatever the sidecar does."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from support.echo import EchoPod, echo_pod
from support.eventually import PATIENCE, eventually
from support.faulty_sidecar import BEHAVIOURS, Behaviour, faulty_sidecar
from support.gateway import CHAT, configuration, gateway
from support.raw_http import Fields, RawAnswer, http1, http2, request
from support.tokens import AUTH, Signer

from extproc.demo.stack import Stack
from modelsim.server import Faults

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

JSON = b'{"model":"m"}'
#: Seconds after which Envoy takes a sidecar that is silent for gone. Long enough for one that merely shares its processor.
MESSAGE_TIMEOUT = 1

Send = Callable[[str, str | None], Coroutine[Any, Any, RawAnswer]]


class Shape(NamedTuple):
    """A kind of request."""

    name: str
    send: Send
    #: What it gets without a token, and with a good one. Interim answers come first; none: the connection is closed.
    refused: tuple[int, ...] = (401,)
    passed: tuple[int, ...] = (200,)
    #: How many requests reach a pod with a good token.
    reaching: int = 1

    @property
    def asked(self) -> bool:
        """Whether the sidecar is asked about it at all."""
        return 401 in self.refused

    def undecided(self) -> tuple[int, ...]:
        """What it gets where the sidecar says nothing: what it always gets, or the guard's answer."""
        return tuple([503 if status == 401 else status for status in self.refused])


def _one(
    name: str, start: str, *headers: tuple[str, str], body: bytes = b"", connection: str = "close", **kinds: Any
) -> Shape:
    async def send(address: str, token: str | None) -> RawAnswer:
        return await http1(address, request(start, _fields(token, connection, *headers), body))

    return Shape(name, send, **kinds)


def _fields(token: str | None, connection: str, *headers: tuple[str, str]) -> Fields:
    own = [("host", "gateway"), ("connection", connection), *headers]
    return own if token is None else [*own, ("authorization", f"Bearer {token}")]


def _raw(name: str, text: str, *, answers: int = 1, **kinds: Any) -> Shape:
    """`{token}` stands for the token."""

    async def send(address: str, token: str | None) -> RawAnswer:
        return await http1(address, text.replace("{token}", token or "").encode(), answers=answers)

    return Shape(name, send, **kinds)


def _two(
    name: str, *headers: tuple[str, str], method: str = "POST", path: str | None = CHAT, body: bytes | None = None,
    trailers: Fields | None = None, **kinds: Any,
) -> Shape:  # fmt: skip
    async def send(address: str, token: str | None) -> RawAnswer:
        fields = [(":method", method), (":authority", "gateway"), *headers]
        if path is not None:
            fields[1:1] = [(":scheme", "http"), (":path", path)]
        if token is not None:
            fields.append(("authorization", f"Bearer {token}"))
        return await http2(address, fields, body, trailers)

    return Shape(name, send, **kinds)


def _nobody(*statuses: int) -> dict[str, Any]:
    """Refused by Envoy before anybody is asked."""
    return {"refused": statuses, "passed": statuses, "reaching": 0}


_TYPE = ("content-type", "application/json")
_LENGTH = ("content-length", str(len(JSON)))
_CHUNKED = ("transfer-encoding", "chunked")
_POST = f"POST {CHAT} HTTP/1.1"
_CHUNK = b"%x\r\n%s\r\n" % (len(JSON), JSON)

SHAPES = [
    _one("no body", "GET /v1/files HTTP/1.1"),
    _one("an empty body", _POST, ("content-length", "0")),
    _one("POST without length", _POST),
    _one("a body", _POST, _TYPE, _LENGTH, body=JSON),
    *[_one(method, f"{method} /x HTTP/1.1") for method in
      ("HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND")],
    _one("an invented method", "FETCH /x HTTP/1.1", **_nobody(400)),
    _one("OPTIONS *", "OPTIONS * HTTP/1.1", **_nobody(404)),
    _one("a WebSocket", "GET /ws HTTP/1.1", ("upgrade", "websocket"), ("sec-websocket-version", "13"),
         ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="), connection="upgrade, close", **_nobody(403)),
    _one("an upgrade to what nobody knows", "GET /x HTTP/1.1", ("upgrade", "raw"), connection="upgrade, close",
         **_nobody(403)),
    _one("an upgrade to HTTP/2", "GET /v1/files HTTP/1.1", ("upgrade", "h2c"),
         ("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"), connection="upgrade, http2-settings, close"),
    _one("HTTP/1.0", "GET /v1/files HTTP/1.0", **_nobody(426)),
    _raw("HTTP/0.9", "GET /v1/files\r\n\r\n", **_nobody(426)),
    _raw("no host", "GET /x HTTP/1.1\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n", **_nobody(400)),
    _one("absolute form", "GET http://pod.test/v1/files HTTP/1.1"),
    _one("absolute form, https", "GET https://pod.test/v1/files HTTP/1.1", **_nobody(403)),
    _one("CONNECT with a path", "CONNECT /v1/files HTTP/1.1", **_nobody(400)),
    _one("Expect: 100-continue", _POST, ("expect", "100-continue"), _TYPE, _LENGTH, body=JSON,
         refused=(100, 401), passed=(100, 200)),
    _one("chunked", _POST, _CHUNKED, _TYPE, body=_CHUNK + b"0\r\n\r\n"),
    _one("chunked and empty", _POST, _CHUNKED, _TYPE, body=b"0\r\n\r\n"),
    _one("chunked with trailers", _POST, _CHUNKED, _TYPE, ("te", "trailers"), ("trailer", "authorization"),
         body=_CHUNK + b"0\r\nauthorization: Bearer x\r\nx-gateway-destination-endpoint: 127.0.0.1:1\r\n\r\n"),
    _one("length and chunks", _POST, _CHUNKED, ("content-length", "4"), body=b"0\r\n\r\n", **_nobody(400)),
    _one("two lengths", _POST, ("content-length", "4"), ("content-length", "5"), body=b"12345", **_nobody(400)),
    _one("an unknown coding", _POST, ("transfer-encoding", "xchunked"), body=b"0\r\n\r\n", **_nobody(501)),
    _one("dots in the path", "GET /a/../v1/files HTTP/1.1"),
    _one("an escaped slash", "GET /a%2f..%2fv1/files HTTP/1.1", **_nobody(307)),
    _one("two slashes", "GET //v1//files HTTP/1.1"),
    _raw("pipelined", "GET /a HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n"
         "GET /b HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n", answers=2,
         refused=(401, 401), passed=(200, 200), reaching=2),
    _raw("a request in a body", "GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 35\r\n"
         "authorization: Bearer {token}\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"),
    _raw("a folded header", "GET /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-a: b\r\n"
         " authorization: Bearer {token}\r\n\r\n", passed=(401,), reaching=0),
    _raw("a space before the colon", "GET /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
         "authorization : Bearer {token}\r\n\r\n", **_nobody(400)),
    _raw("NUL in a header", "GET /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
         "authorization: Bearer {token}\0\r\n\r\n", **_nobody(400)),
    _two("HTTP/2, no body", method="GET", path="/v1/files"),
    _two("HTTP/2, a body", _TYPE, body=JSON),
    _two("HTTP/2, an empty body", _TYPE, body=b""),
    _two("HTTP/2, trailers", _TYPE, body=JSON,
         trailers=[("authorization", "Bearer x"), ("x-gateway-destination-endpoint", "127.0.0.1:1")]),
    # No message with a body, no pick: with a token that may go anywhere, it does.
    _two("HTTP/2, trailers alone", _TYPE, trailers=[("x-last", "1")]),
    _two("HTTP/2, CONNECT", method="CONNECT", path=None, passed=(404,), reaching=0),
    _two("HTTP/2, extended CONNECT", (":protocol", "websocket"), method="CONNECT", path="/ws", **_nobody()),
    _two("HTTP/2, a header in capitals", ("X-User", "root"), body=JSON, **_nobody()),
    _two("HTTP/2, a header of HTTP/1", ("transfer-encoding", "chunked"), body=JSON, **_nobody()),
    _two("HTTP/2, no path", method="GET", path=None, **_nobody()),
    _two("HTTP/2, two tokens", ("authorization", "Bearer x"), body=JSON, passed=(401,), reaching=0),
]  # fmt: skip
#: A tunnel that is asked for is held, as a body that does not come, until the client's time is over: not with a token.
CONNECT = _one("CONNECT", "CONNECT pod.test:80 HTTP/1.1")


class Gate(NamedTuple):
    stack: Stack
    pod: EchoPod
    signer: Signer

    async def send(self, shapes: Iterable[Shape], token: str | None) -> dict[str, tuple[int, ...]]:
        """The statuses that each shape gets."""

        async def one(shape: Shape) -> tuple[str, tuple[int, ...]]:
            return shape.name, (await shape.send(self.stack.address, token)).statuses

        return dict(await asyncio.gather(*map(one, shapes)))

    async def assert_nothing_passes(self) -> None:
        """Neither with a token nor without: nobody can tell them apart now."""
        before = self.pod.requests
        for token in (None, self.signer.token()):
            answers = await self.send([*SHAPES, CONNECT], token)
            assert {name for name, statuses in answers.items() if 200 in statuses} == set()
            # What is well-formed gets the guard's answer, the rest what it always gets.
            assert answers == {shape.name: shape.undecided() for shape in (*SHAPES, CONNECT)}
        assert self.pod.requests == before

    async def recovered(self) -> bool:
        shape = SHAPES[0]
        return (await shape.send(self.stack.address, self.signer.token())).statuses == shape.passed


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gate(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gate]:
    folder, signer = tmp_path_factory.mktemp("config"), Signer()
    document = f"envoy: {{messageTimeout: {MESSAGE_TIMEOUT}s}}\n" + AUTH.format(jwks=signer.write(folder))
    async with echo_pod() as pod, Stack(configuration(document, folder), [pod.address]) as stack:
        yield Gate(stack, pod, signer)


@contextlib.asynccontextmanager
async def without_sidecar(gate: Gate) -> AsyncIterator[None]:
    assert gate.stack.sidecar is not None
    await gate.stack.sidecar.kill()
    try:
        yield
    finally:
        await gate.stack.start_sidecar()
    await eventually(gate.recovered)


async def test_every_shape_of_request_is_checked(gate: Gate) -> None:
    before = gate.pod.requests
    answers = await gate.send([*SHAPES, CONNECT], None)
    assert answers == {shape.name: shape.refused for shape in (*SHAPES, CONNECT)}
    assert gate.pod.requests == before
    # With a token the same ones pass: it was the token, and not the shape, that was missing.
    answers = await gate.send(SHAPES, gate.signer.token())
    assert answers == {shape.name: shape.passed for shape in SHAPES}
    assert gate.pod.requests - before == sum(shape.reaching for shape in SHAPES)


async def test_a_client_of_grpc_is_refused_in_its_own_words(gate: Gate) -> None:
    """Envoy turns a local answer to gRPC into its trailers: 200 is the status of the carrier."""
    before = gate.pod.requests
    shape = _two("gRPC", ("content-type", "application/grpc"), ("te", "trailers"), body=bytes(5))
    answer = await shape.send(gate.stack.address, None)
    assert (answer.status, answer.headers["grpc-status"]) == (200, "16")
    assert gate.pod.requests == before


async def test_a_sidecar_that_is_dead(gate: Gate) -> None:
    async with without_sidecar(gate):
        await gate.assert_nothing_passes()


async def test_a_sidecar_that_is_frozen(gate: Gate) -> None:
    assert gate.stack.sidecar is not None
    gate.stack.sidecar.signal(signal.SIGSTOP)
    try:
        await gate.assert_nothing_passes()
    finally:
        gate.stack.sidecar.signal(signal.SIGCONT)
    await eventually(gate.recovered)


async def test_answers_that_are_streaming_outlive_a_frozen_sidecar(tmp_path: Path) -> None:
    signer = Signer()
    document = f"envoy: {{messageTimeout: {MESSAGE_TIMEOUT}s}}\n" + AUTH.format(jwks=signer.write(tmp_path))
    token = {"authorization": f"Bearer {signer.token()}"}
    async with gateway(configuration(document, tmp_path), pods=2) as running:
        for replica in running.fleet.replicas:
            replica.faults = Faults(token_delay=0.03)
        begun = [asyncio.Event() for _ in range(6)]
        streams = [
            asyncio.create_task(running.stream(f"{number}", started, max_tokens=60, headers=token))
            for number, started in enumerate(begun)
        ]
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*[started.wait() for started in begun])
        sidecar = running.stack.sidecar
        assert sidecar is not None
        sidecar.signal(signal.SIGSTOP)
        try:
            refused = await running.chat("new", headers=token)
            assert (refused.status, refused.error()) == (503, "gateway_unavailable")
            # Ended while it is frozen still: the wait for its word on the end of an answer is bounded, too.
            for answer in await asyncio.gather(*streams):
                assert answer.status == 200
                assert answer.body.rstrip().endswith(b"data: [DONE]")
        finally:
            sidecar.signal(signal.SIGCONT)


async def test_sidecars_that_do_wrong(gate: Gate) -> None:
    socket = gate.stack.folder / "extproc.sock"
    async with without_sidecar(gate):
        for behaviour in BEHAVIOURS:
            socket.unlink(missing_ok=True)
            async with faulty_sidecar(socket, behaviour) as sidecar:
                await _assert_nothing_passes_through(gate, behaviour)
                # It was the fault that was tested, and not a sidecar that nobody reached.
                assert sidecar.streams >= 2 * sum(shape.asked for shape in SHAPES), behaviour
        socket.unlink(missing_ok=True)


async def _assert_nothing_passes_through(gate: Gate, behaviour: Behaviour) -> None:
    before = gate.pod.requests
    for token in (None, gate.signer.token()):
        answers = await gate.send([shape for shape in SHAPES if shape.asked], token)
        assert {name for name, statuses in answers.items() if statuses[-1] < 400} == set(), behaviour
    assert gate.pod.requests == before, behaviour


async def test_a_sidecar_that_is_restarted_again_and_again(gate: Gate) -> None:
    """Under traffic: what reaches the pod is what was answered with 200, and only those with a token are."""
    before, stop = gate.pod.requests, asyncio.Event()
    answered: dict[bool, list[int]] = {True: [], False: []}
    shape = next(shape for shape in SHAPES if shape.name == "a body")

    async def client(with_token: bool) -> None:
        while not stop.is_set():
            answer = await shape.send(gate.stack.address, gate.signer.token() if with_token else None)
            answered[with_token].append(answer.status)

    clients = [asyncio.create_task(client(n % 2 == 0)) for n in range(8)]
    for number in (signal.SIGKILL, signal.SIGTERM):
        seen = len(answered[True])
        sidecar = gate.stack.sidecar
        assert sidecar is not None
        sidecar.signal(number)
        await sidecar.wait()
        await gate.stack.start_sidecar()

        async def more(goal: int = seen + 20) -> bool:
            return len(answered[True]) > goal

        await eventually(more)
    stop.set()
    await asyncio.gather(*clients)
    assert set(answered[True]) <= {200, 503}
    assert set(answered[False]) <= {401, 503}
    assert 401 in answered[False]
    assert gate.pod.requests - before == answered[True].count(200)


# Auth off: requests go on without the sidecar, and are the gateway's own all the same.


async def test_the_fallback_takes_no_orders_from_clients(tmp_path: Path) -> None:
    forged = [
        ("x-envoy-upstream-rq-timeout-ms", "1"), ("x-gateway-destination-endpoint-subset", "127.0.0.1:1"),
        ("x-gateway-destination-endpoint-served", "127.0.0.1:1"),
    ]  # fmt: skip
    async with (
        echo_pod() as one,
        echo_pod() as two,
        Stack(configuration("{}", tmp_path), [one.address, two.address]) as stack,
    ):
        assert stack.sidecar is not None
        await stack.sidecar.kill()

        async def send(*headers: tuple[str, str]) -> int:
            fields = _fields("token", "close", *headers, *forged)
            return (await http1(stack.address, request("GET /v1/files HTTP/1.1", fields))).status

        # To where there is nothing: who obeyed would fail.
        for name in ("x-gateway-destination-endpoint", "X-GATEWAY-DESTINATION-ENDPOINT"):
            assert await send((name, "127.0.0.1:1"), (name, "127.0.0.1:2")) == 200

        async def both_serve() -> bool:
            assert await send(("x-gateway-destination-endpoint", one.address)) == 200
            return bool(one.requests and two.requests)

        await eventually(both_serve)
        for pod in (one, two):
            own = {name for name in pod.headers if name.startswith(("x-gateway-", "x-envoy-"))}
            assert own <= {"x-envoy-external-address"}
            # With auth off the token is no business of the gateway: it goes on.
            assert pod.headers["authorization"] == "Bearer token"
