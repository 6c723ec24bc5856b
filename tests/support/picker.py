"""The gateway as somebody else's Endpoint Picker, in this process, with a data plane's view of it: grpcio's client."""

import asyncio
import contextlib
import itertools
import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from aiohttp import web
from grpc_health.v1 import health_pb2
from support.envoy_messages import ProcessingRequest, ProcessingResponse
from support.eventually import PATIENCE, eventually

from extproc._pb import HeaderAppendAction
from extproc.config import loads
from extproc.gateway import FIRST_SYNC_WAIT, Gateway
from extproc.protocol.events import BodyMode
from extproc.protocol.headers import DESTINATION, DESTINATION_NAMESPACE, SERVED, SUBSET, SUBSET_NAMESPACE

#: Much longer than anything takes: a test that hangs shall fail.
METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
BODY = b'{"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}'
HEADERS = (
    (":method", "POST"), (":path", "/v1/chat/completions"), (":authority", "models"),
    ("content-type", "application/json"), ("x-request-id", "r-1"), ("user-agent", "a client"),
)  # fmt: skip
MODES = (BodyMode.BUFFERED, BodyMode.FULL_DUPLEX_STREAMED)


class Pods:
    """Model servers that have nothing but a metrics page. `addresses`: `127.0.0.1:port`, so they differ by port alone."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.waiting = 0
        self._runners: list[web.AppRunner] = []

    async def _page(self, _request: web.Request) -> web.Response:
        return web.Response(text=f"vllm:num_requests_waiting {self.waiting}\nvllm:num_requests_running 0\n")

    async def start(self, count: int) -> None:
        for _ in range(count):
            app = web.Application()
            app.router.add_get("/metrics", self._page)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            self._runners.append(runner)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.addresses.append(f"127.0.0.1:{runner.addresses[0][1]}")

    async def stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()


class Said:
    """What the picker said to one request, up to its decision and the body after it."""

    def __init__(self, replies: Sequence[Any]) -> None:
        self.replies = list(replies)
        self.kinds = [reply.WhichOneof("response") for reply in replies]
        self.status = 0
        self.refusal: Any = None
        self.set_headers: dict[str, str] = {}
        self.removed: list[str] = []
        self.actions: set[int] = set()
        self.metadata: dict[str, str] = {}
        self.chunks: list[bytes] = []
        self.ends = 0
        for kind, reply in zip(self.kinds, replies, strict=True):
            part = getattr(reply, kind)
            if kind == "immediate_response":
                self.status, self.refusal = part.status.code, part
                continue
            if DESTINATION_NAMESPACE in reply.dynamic_metadata.fields:
                told = reply.dynamic_metadata.fields[DESTINATION_NAMESPACE].struct_value.fields
                self.metadata |= {name: value.string_value for name, value in told.items()}
            if kind == "request_trailers":
                continue
            for option in part.response.header_mutation.set_headers:
                self.set_headers[option.header.key] = option.header.raw_value.decode()
                self.actions.add(option.append_action)
            self.removed += part.response.header_mutation.remove_headers
            mutation = part.response.body_mutation
            if mutation.WhichOneof("mutation") == "streamed_response":
                self.chunks.append(mutation.streamed_response.body)
                self.ends += mutation.streamed_response.end_of_stream

    @property
    def destination(self) -> str:
        """The pods in their order, after a look at that header and metadata are one value."""
        value = self.set_headers[DESTINATION]
        assert self.metadata == {DESTINATION: value}
        assert self.actions == {HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD}
        return value

    @property
    def pods(self) -> list[str]:
        return self.destination.split(",")

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)


class Call:
    """One ext_proc stream, as the data plane of a mode drives it."""

    def __init__(self, channel: grpc.aio.Channel, mode: BodyMode) -> None:
        self.mode = mode
        self.call: Any = channel.stream_stream(METHOD)(timeout=PATIENCE)

    async def headers(
        self, headers: Iterable[tuple[str, str]] = HEADERS, *, end: bool = False, subset: object = None
    ) -> None:
        message = ProcessingRequest()
        part = message.request_headers
        for name, value in headers:
            part.headers.headers.add(key=name, raw_value=value.encode())
        part.end_of_stream = end
        message.protocol_config.request_body_mode = int(self.mode)
        if self.mode is BodyMode.FULL_DUPLEX_STREAMED:
            message.protocol_config.response_body_mode = int(self.mode)
        _set(message, SUBSET_NAMESPACE, SUBSET, subset)
        await self.send(message)

    async def body(self, body: bytes, *, end: bool = True, subset: object = None) -> None:
        message = ProcessingRequest()
        message.request_body.body = body
        message.request_body.end_of_stream = end
        _set(message, SUBSET_NAMESPACE, SUBSET, subset)
        await self.send(message)

    async def trailers(self) -> None:
        message = ProcessingRequest()
        message.request_trailers.SetInParent()
        await self.send(message)

    async def response_headers(self, served: str = "", *, end: bool = False, status: str = "200") -> Any:
        message = ProcessingRequest()
        message.response_headers.headers.headers.add(key=":status", raw_value=status.encode())
        message.response_headers.headers.headers.add(key="content-type", raw_value=b"application/json")
        message.response_headers.end_of_stream = end
        _set(message, DESTINATION_NAMESPACE, SERVED, served or None)
        await self.send(message)
        return await self.read()

    async def response_body(self, body: bytes, *, end: bool) -> list[Any]:
        """The replies; full duplex has one for each chunk that goes on."""
        message = ProcessingRequest()
        message.response_body.body = body
        message.response_body.end_of_stream = end
        await self.send(message)
        replies = [await self.read()]
        if self.mode is BodyMode.FULL_DUPLEX_STREAMED:
            sent = len(replies[0].response_body.response.body_mutation.streamed_response.body)
            while sent < len(body):
                replies.append(await self.read())
                sent += len(replies[-1].response_body.response.body_mutation.streamed_response.body)
        return replies

    async def response_trailers(self, served: str = "") -> Any:
        message = ProcessingRequest()
        message.response_trailers.SetInParent()
        _set(message, DESTINATION_NAMESPACE, SERVED, served or None)
        await self.send(message)
        return await self.read()

    async def send(self, message: Any) -> None:
        await self.call.write(message.SerializeToString())

    async def read(self) -> Any:
        data = await self.call.read()
        assert data is not grpc.aio.EOF, await self.call.code()
        return ProcessingResponse.FromString(data)

    async def decision(self) -> Said:
        """Everything that is said of the request, once all of it was sent."""
        replies = []
        while True:
            replies.append(await self.read())
            said = Said(replies)
            last = said.kinds[-1]
            if said.refusal is not None or last == "request_trailers":
                return said
            if said.ends if self.mode is BodyMode.FULL_DUPLEX_STREAMED else last == "request_body":
                return said

    async def end(self) -> None:
        """The request is over: the stream is closed, and the picker's side of it as well."""
        await self.call.done_writing()
        assert await self.call.read() is grpc.aio.EOF
        assert await self.call.code() is grpc.StatusCode.OK

    async def code(self) -> grpc.StatusCode:
        """How the call ended, whatever was still said."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            while await self.call.read() is not grpc.aio.EOF:
                pass
        return await self.call.code()


def _set(message: Any, namespace: str, key: str, value: object) -> None:
    if value is not None:
        message.metadata_context.filter_metadata[namespace].update({key: value})


class Picker:
    """A running picker and a channel to it."""

    def __init__(self, gateway: Gateway, channel: grpc.aio.Channel, address: str, admin: str, pods: Pods) -> None:
        self.gateway, self.channel, self.address, self.admin, self.pods = gateway, channel, address, admin, pods

    def open(self, mode: BodyMode) -> Call:
        return Call(self.channel, mode)

    async def ask(
        self, mode: BodyMode, *, body: bytes | None = BODY, headers: Iterable[tuple[str, str]] = HEADERS,
        subset: object = None, subset_with_body: object = None,
    ) -> Said:  # fmt: skip
        """What is said to a request. `body` None: it has headers only."""
        call = self.open(mode)
        await call.headers(headers, end=body is None, subset=subset)
        if body is None:
            said = Said([await call.read()])
        else:
            await call.body(body, subset=subset_with_body)
            said = await call.decision()
        call.call.cancel()
        return said

    async def health(self, service: str) -> str:
        call = self.channel.unary_unary("/grpc.health.v1.Health/Check")
        answer = await call(health_pb2.HealthCheckRequest(service=service).SerializeToString(), timeout=PATIENCE)
        return _status(answer)

    async def watch(self, service: str) -> AsyncGenerator[str]:
        request = health_pb2.HealthCheckRequest(service=service).SerializeToString()
        call = self.channel.unary_stream("/grpc.health.v1.Health/Watch")(request, timeout=PATIENCE)
        try:
            while (answer := await call.read()) is not grpc.aio.EOF:
                yield _status(answer)
        finally:
            call.cancel()

    async def rows(self) -> dict[str, Mapping[str, Any]]:
        """The pods by address, as the debug page has them."""
        async with aiohttp.ClientSession() as client, client.get(f"http://{self.admin}/debug/endpoints") as response:
            return {row["address"]: row for row in (await response.json())["endpoints"]}

    async def until(self, **wanted: float) -> None:
        """Waits for values that all pods' rows have together (their sum): scrapes and ends of streams take a moment."""

        async def reached() -> bool:
            rows = (await self.rows()).values()
            return {name: sum(row[name] or 0 for row in rows) for name in wanted} == wanted

        await eventually(reached)


def _status(answer: bytes) -> str:
    status = health_pb2.HealthCheckResponse.FromString(answer).status
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(status))


class _Serving(logging.Handler):
    """Where a gateway listens, as it says itself."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.addresses: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "serving":
            self.addresses = {name: vars(record)[name] for name in ("extproc", "admin")}


_numbers = itertools.count()


@contextlib.asynccontextmanager
async def picker(
    folder: Path,
    document: str = "",
    *,
    pods: int = 3,
    ready: bool = True,
    first_sync_wait: float = FIRST_SYNC_WAIT,
) -> AsyncIterator[Picker]:
    """A picker in front of `pods` pods. `document` is its configuration but for addresses; `ready`: waits for that."""
    servers = Pods()
    serving = _Serving()
    logger = logging.getLogger("extproc.gateway")
    level = logger.level
    logger.addHandler(serving)
    logger.setLevel(logging.INFO)
    try:
        await servers.start(pods)
        gateway_config = loads(_document(document, folder, servers.addresses), "picker").config
        gateway = Gateway(gateway_config, first_sync_wait=first_sync_wait)
        await gateway.start()
        try:
            where = serving.addresses["extproc"]
            options = [
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
                ("grpc.use_local_subchannel_pool", 1),
            ]
            if gateway_config.transport.tls is None:
                made = grpc.aio.insecure_channel(where, options)
            else:
                # Whatever it shows is believed; it says for whom it is.
                host, _, port = where.rpartition(":")
                shown = await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))
                trusted = grpc.ssl_channel_credentials(shown.encode())
                made = grpc.aio.secure_channel(
                    where, trusted, [*options, ("grpc.ssl_target_name_override", "localhost")]
                )
            async with made as channel:
                one = Picker(gateway, channel, where, serving.addresses["admin"], servers)
                if ready:
                    async with contextlib.aclosing(one.watch("readiness")) as statuses:
                        async for status in statuses:
                            if status == "SERVING":
                                break
                yield one
        finally:
            await gateway.stop()
    finally:
        await servers.stop()
        logger.removeHandler(serving)
        logger.setLevel(level)


#: Forms of the server that a picker may have.
SERVERS = {
    "http2, TCP": "",
    "http2, TLS": "tls: {selfSigned: true}",
    "grpc.aio, TCP": "mode: grpcio",
    "grpc.aio, TLS": "mode: grpcio, tls: {selfSigned: true}",
}


def transport(form: str) -> str:
    """The section of a server by one of the names in `SERVERS`."""
    more = SERVERS[form]
    return f"transport: {{address: '127.0.0.1:0', drainTimeout: 0s, maxEndpoints: 5{', ' * bool(more)}{more}}}\n"


def _document(document: str, folder: Path, pods: Sequence[str]) -> str:
    if "endpoints:" not in document:
        document += f"\nendpoints: {{static: {[*pods]}, scrape: {{interval: 20ms}}}}\n"
    if "transport:" not in document:
        document += transport("http2, TCP")
    return document + f"admin: {{port: 0}}\nenvoy: {{endpointsFile: {folder}/endpoints-{next(_numbers)}.yaml}}\n"
