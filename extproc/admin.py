"""The admin pages: health, metrics, and what the gateway knows of its pods."""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from extproc import __version__, admin_page
from extproc.decisions import DecisionLog
from extproc.errors import Refusal
from extproc.headers import JSON_TYPE
from extproc.metrics import Metrics
from extproc.summary import summary
from extproc.unix_socket import UnixListener


class AdminServer:
    """HTTP on loopback, or on the Unix socket at `path`. `not_ready` says why the gateway is not, or nothing."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        metrics: Metrics,
        not_ready: Callable[[], str],
        pods: Callable[[], Iterable[Mapping[str, Any]]],
        decisions: DecisionLog,
        explain: Callable[[str, bytes], Mapping[str, Any]],
        path: str | None = None,
    ) -> None:
        self._host, self._port = host, port
        self._path = path
        self._listener: UnixListener | None = None
        self._metrics = metrics
        self._not_ready = not_ready
        self._pods = pods
        self._decisions = decisions
        self._explain = explain
        self._started = time.monotonic()
        self._page = admin_page.html()
        self._page_headers = admin_page.headers(self._page)
        app = web.Application(client_max_size=MAX_EXPLAINED_BODY)
        app.router.add_get("/", self._people)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics_page)
        app.router.add_get("/debug/endpoints", self._endpoints)
        app.router.add_get("/debug/decisions", self._decisions_page)
        app.router.add_get("/debug/summary", self._summary)
        app.router.add_post("/debug/explain", self._explanation)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self) -> str:
        """Binds and serves; returns `host:port`, with the port that was chosen, or `unix://path`.

        Raises:
            OSError: the address cannot be bound.
        """
        await self._runner.setup()
        path = self._path
        try:
            if path is not None:
                self._listener = UnixListener(Path(path))
                await web.SockSite(self._runner, self._listener.socket).start()
                return f"unix://{path}"
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError:
            await self._runner.cleanup()
            raise
        host, port = self._runner.addresses[0][:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def stop(self) -> None:
        if self._listener is not None:
            self._listener.close()
        await self._runner.cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        reason = self._not_ready()
        return web.Response(status=503 if reason else 200, text=f"{reason or 'ok'}\n")

    async def _metrics_page(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.exposition(), headers={"content-type": "text/plain; version=0.0.4"})

    async def _endpoints(self, _request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode({"endpoints": list(self._pods())}), content_type=JSON_TYPE)

    async def _decisions_page(self, request: web.Request) -> web.Response:
        text = request.query.get("limit", str(SHOWN_DECISIONS))
        if not text.isdecimal():
            return web.Response(status=400, text="limit must be a number\n")
        rows = list(self._decisions.rows(int(text)))
        return web.Response(body=msgspec.json.encode({"decisions": rows}), content_type=JSON_TYPE)

    async def _people(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._page, headers=self._page_headers)

    async def _summary(self, _request: web.Request) -> web.Response:
        now = summary(
            self._metrics.registry.collect(),
            version=__version__,
            uptime=time.monotonic() - self._started,
            not_ready=self._not_ready(),
            pods=self._pods(),
            matches=self._decisions.matches(),
            decisions=self._decisions.rows(SUMMARY_DECISIONS),
        )
        return web.Response(body=msgspec.json.encode(now), content_type=JSON_TYPE)

    async def _explanation(self, request: web.Request) -> web.Response:
        try:
            row = self._explain(request.query.get("path", DEFAULT_PATH), await request.read())
        except Refusal as refusal:
            return web.Response(status=refusal.status, body=refusal.body(), content_type=JSON_TYPE)
        return web.Response(body=msgspec.json.encode(row), content_type=JSON_TYPE)


#: Bytes of a body that is to be explained: as large as a request's may be by default.
MAX_EXPLAINED_BODY = 16 << 20
#: The API that a body is of where nobody says.
DEFAULT_PATH = "/v1/chat/completions"
#: Decisions that are shown where nobody says how many.
SHOWN_DECISIONS = 20
#: Decisions in a summary: as many as fit on a screen beside the pods.
SUMMARY_DECISIONS = 12
