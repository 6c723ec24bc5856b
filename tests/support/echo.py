"""A pod that remembers what reached it, byte for byte."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web


class EchoPod:
    """The last request that was received. `address`: `ip:port`."""

    def __init__(self) -> None:
        self.address = ""
        self.body = b""
        self.headers: dict[str, str] = {}
        self.path = ""
        self.requests = 0
        #: What its metrics page says of its queue.
        self.waiting = 0

        #: Requests to come whose connection is reset in place of an answer.
        self.resets = 0
        #: Ends it: nothing listens at the address any more.
        self.close: Callable[[], Awaitable[None]]

    async def handle(self, request: web.Request) -> web.Response:
        if request.path == "/metrics":
            return web.Response(text=f"vllm:num_requests_waiting {self.waiting}\n")
        if request.path == "/v1/models":
            # Asked by the gateway, now and then.
            return web.json_response({"object": "list", "data": [{"id": "m"}]})
        if request.headers.get("user-agent", "").startswith("Envoy/HC"):
            return web.Response(text="well")
        self.requests += 1
        if self.resets:
            self.resets -= 1
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        self.body = await request.read()
        self.path = request.raw_path
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        return web.json_response({"ok": True})


@contextlib.asynccontextmanager
async def echo_pod() -> AsyncIterator[EchoPod]:
    pod = EchoPod()
    app = web.Application(client_max_size=64 << 20)
    app.router.add_route("*", "/{path:.*}", pod.handle)
    runner = web.AppRunner(app, access_log=None, auto_decompress=False)
    pod.close = runner.cleanup
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    pod.address = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield pod
    finally:
        await runner.cleanup()
