"""A provider of keys on loopback, whose answers a test can change."""

from collections.abc import Awaitable, Callable, Mapping
from ssl import SSLContext

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def says(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Always this answer."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers=headers)

    return answer


class JwksServer:
    """Use as an async context manager. `answer` may be replaced at any time; `requests` counts."""

    def __init__(self, answer: Answer, tls: SSLContext | None = None) -> None:
        self.answer = answer
        self.requests = 0
        self.uri = ""
        self._tls = tls
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> "JwksServer":
        app = web.Application()
        app.router.add_get("/{path:.*}", self._serve)
        # A handler that hangs ends when its client is gone; to aiohttp, a time-out of 0 would be none.
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.05)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        port = self._runner.addresses[0][1]
        self.uri = f"{'https' if self._tls else 'http'}://127.0.0.1:{port}/jwks.json"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        return await self.answer(request)
