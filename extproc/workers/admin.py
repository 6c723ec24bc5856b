"""The admin pages of several processes as one: health, summed metrics, and what they know of the pods."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from extproc import __version__, admin_page
from extproc.headers import JSON_TYPE
from extproc.summary import summary
from extproc.workers.merge import decisions_of_all, matches_of_all, rows_of_all
from extproc.workers.sums import Sums, restarts_page

#: Seconds for a process to answer; one that does not is left out of the page.
TIMEOUT = 2.0
#: Bytes of a body that is to be explained.
MAX_BODY = 16 << 20
#: As in `extproc.admin`.
SHOWN_DECISIONS, SUMMARY_DECISIONS = 20, 12


class SharedAdmin:
    """HTTP on loopback, made of the pages that each process has on a Unix socket.

    Args:
        host: to bind.
        port: to bind; 0 for a free one.
        sockets: path of the socket of each process, by its name.
        runs: what tells this run of each process from its others.
        not_ready: why no process can decide, or "".
        restarts: how often each process was started again.
    """

    def __init__(
        self,
        host: str,
        port: int,
        sockets: Mapping[str, str],
        *,
        runs: Callable[[], Mapping[str, str]],
        not_ready: Callable[[], str],
        restarts: Callable[[], Mapping[str, int]],
    ) -> None:
        self._host, self._port = host, port
        self._sockets = sockets
        self._runs = runs
        self._not_ready = not_ready
        self._restarts = restarts
        self._sums = Sums()
        self._started = time.monotonic()
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._page = admin_page.html()
        self._page_headers = admin_page.headers(self._page)
        app = web.Application(client_max_size=MAX_BODY)
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
        """Binds and serves; returns `host:port`, with the port that was chosen.

        Raises:
            OSError: the address cannot be bound.
        """
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError:
            await self._runner.cleanup()
            raise
        for name, path in self._sockets.items():
            self._sessions[name] = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(path), timeout=aiohttp.ClientTimeout(total=TIMEOUT)
            )
        host, port = self._runner.addresses[0][:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def stop(self) -> None:
        await self._runner.cleanup()
        for session in self._sessions.values():
            await session.close()

    async def _ask_all(self, path: str) -> dict[str, bytes]:
        """The page of each process that answers."""

        async def ask(name: str, session: aiohttp.ClientSession) -> tuple[str, bytes | None]:
            try:
                async with session.get(f"http://{name}{path}") as response:
                    return name, await response.read() if response.status == 200 else None
            except (aiohttp.ClientError, TimeoutError, OSError):
                return name, None

        answers = await asyncio.gather(*[ask(name, session) for name, session in self._sessions.items()])
        return {name: page for name, page in answers if page is not None}

    async def _metrics_text(self) -> str:
        runs = self._runs()
        pages = await self._ask_all("/metrics")
        text = self._sums.page({name: (runs[name], page.decode()) for name, page in pages.items()})
        return text + restarts_page(self._restarts())

    async def _rows(self) -> list[dict[str, Any]]:
        pages = await self._ask_all("/debug/endpoints")
        return rows_of_all([msgspec.json.decode(page)["endpoints"] for page in pages.values()])

    async def _decisions(self, limit: int) -> list[dict[str, Any]]:
        pages = await self._ask_all(f"/debug/decisions?limit={limit}")
        return decisions_of_all([msgspec.json.decode(page)["decisions"] for page in pages.values()], limit)

    async def _people(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._page, headers=self._page_headers)

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        reason = self._not_ready()
        return web.Response(status=503 if reason else 200, text=f"{reason or 'ok'}\n")

    async def _metrics_page(self, _request: web.Request) -> web.Response:
        text = await self._metrics_text()
        return web.Response(body=text.encode(), headers={"content-type": "text/plain; version=0.0.4"})

    async def _endpoints(self, _request: web.Request) -> web.Response:
        return _json({"endpoints": await self._rows()})

    async def _decisions_page(self, request: web.Request) -> web.Response:
        text = request.query.get("limit", str(SHOWN_DECISIONS))
        if not text.isdecimal():
            return web.Response(status=400, text="limit must be a number\n")
        return _json({"decisions": await self._decisions(int(text))})

    async def _summary(self, _request: web.Request) -> web.Response:
        text, rows, decisions = await asyncio.gather(
            self._metrics_text(), self._rows(), self._decisions(SUMMARY_DECISIONS)
        )
        now = summary(
            text_string_to_metric_families(text),
            version=__version__,
            uptime=time.monotonic() - self._started,
            not_ready=self._not_ready(),
            pods=rows,
            matches=matches_of_all(decisions),
            decisions=decisions,
        )
        return _json(now)

    async def _explanation(self, request: web.Request) -> web.Response:
        body = await request.read()
        for name, session in self._sessions.items():
            try:
                async with session.post(f"http://{name}{request.path_qs}", data=body) as response:
                    return web.Response(status=response.status, body=await response.read(), content_type=JSON_TYPE)
            except (aiohttp.ClientError, TimeoutError, OSError):
                continue
        return web.Response(status=503, text="no process answers\n")


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type=JSON_TYPE)
