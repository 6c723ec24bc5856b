"""The pages of an admin port, with the data of one process, or of all of them together."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from aiohttp import web

from extproc import __version__
from extproc.admin import page as admin_page
from extproc.admin.drained import Drained, TooManyWaits
from extproc.admin.gate import Gate, one_request, only_hosts
from extproc.admin.summary import summary
from extproc.process.unix_socket import BACKLOG, UNIX, UnixListener
from extproc.protocol.headers import JSON_TYPE

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

#: Bytes of a body that is to be explained: as large as a request's may be by default.
MAX_EXPLAINED_BODY = 16 << 20
#: Seconds for a body that is to be explained.
BODY_TIMEOUT = 30.0
#: Decisions that are shown where a request gives no number.
SHOWN_DECISIONS = 20
#: Decisions in a summary: as many as fit on a screen beside the pods.
SUMMARY_DECISIONS = 12

Row = Mapping[str, Any]


class Activity(NamedTuple):
    """The data of a summary, as `extproc.admin.summary` takes it."""

    families: Iterable["Metric"]
    pods: Iterable[Row]
    matches: Mapping[str, float]
    decisions: Iterable[Row]
    sources: Iterable[Row] = ()


class AdminPages(ABC):
    """HTTP on loopback, or on a Unix socket.

    Args:
        host: to bind.
        port: to bind; 0 for a free one.
        path: of the Unix socket that is bound instead, or None.
        not_ready: why the gateway is not ready, or "".
        doubts: what is wrong where it is ready all the same, or "".
        hosts: names by which it may be asked, beside IP addresses and localhost.
    """

    def __init__(
        self,
        host: str,
        port: int,
        path: str | None,
        not_ready: Callable[[], str],
        doubts: Callable[[], str],
        hosts: Iterable[str] = (),
    ) -> None:
        self._doubts = doubts
        self._host, self._port, self._path = host, port, path
        self._listener: UnixListener | None = None
        self._not_ready = not_ready
        self._started = time.monotonic()
        self._drained = Drained(self.streams, clock=time.monotonic)
        self._page = admin_page.html()
        self._page_headers = admin_page.headers(self._page)
        # A Unix socket is for its own user, whose client keeps connections open.
        middlewares = [] if path is not None else [only_hosts(hosts)]
        app = web.Application(client_max_size=MAX_EXPLAINED_BODY, middlewares=middlewares)
        if path is None:
            app.on_response_prepare.append(one_request)
        self._tcp: asyncio.Server | None = None
        app.router.add_get("/", self._people)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/drained", self._drained_page)
        app.router.add_get("/metrics", self._metrics_page)
        app.router.add_get("/debug/endpoints", self._endpoints)
        app.router.add_get("/debug/decisions", self._decisions_page)
        app.router.add_get("/debug/summary", self._summary)
        app.router.add_post("/debug/explain", self._explain)
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
                return f"{UNIX}{path}"
            server = self._runner.server
            assert server is not None  # noqa: S101 - it was set up
            loop = asyncio.get_running_loop()
            self._tcp = await loop.create_server(Gate(server), self._host, self._port, backlog=BACKLOG)
        except OSError:
            await self._runner.cleanup()
            raise
        host, port = self._tcp.sockets[0].getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def stop(self) -> None:
        if self._tcp is not None:
            self._tcp.close()
        # First: asyncio's own loop cannot let go of a socket that is closed already.
        await self._runner.cleanup()
        if self._listener is not None:
            self._listener.close()

    # What is known

    @abstractmethod
    async def metrics(self) -> bytes:
        """Prometheus' text format."""

    @abstractmethod
    async def pods(self) -> Iterable[Row]:
        """A row for each."""

    @abstractmethod
    async def sources(self) -> Iterable[Row]:
        """A row for each source of pods."""

    @abstractmethod
    async def decisions(self, limit: int) -> Iterable[Row]:
        """At most `limit`, newest first."""

    @abstractmethod
    async def activity(self, decisions: int) -> Activity:
        """For a summary with at most so many decisions."""

    @abstractmethod
    async def explanation(self, request: web.Request) -> web.Response:
        """The decision that the request in the body would get."""

    @abstractmethod
    async def streams(self) -> int:
        """Open ext_proc streams: requests whose answers are not over."""

    # Pages

    async def _people(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._page, headers=self._page_headers)

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        reason = self._not_ready()
        if reason:
            return web.Response(status=503, text=f"{reason}\n")
        # What is known stays in use while its source is away, in all gateways at the same time: none would be left.
        return web.Response(text="\n".join(["ok", *filter(None, [self._doubts()]), ""]))

    async def _drained_page(self, request: web.Request) -> web.Response:
        after, within = _seconds(request, "after"), _seconds(request, "within")
        if after is None or within is None:
            return web.Response(status=400, text="after and within must be numbers of seconds\n")
        try:
            left = await self._drained.wait(after, within)
        except TooManyWaits:
            return web.Response(status=503, text="too many wait already\n")
        return web.Response(status=200, text=f"{left} streams are open\n" if left else "drained\n")

    async def _metrics_page(self, _request: web.Request) -> web.Response:
        return web.Response(body=await self.metrics(), headers={"content-type": "text/plain; version=0.0.4"})

    async def _endpoints(self, _request: web.Request) -> web.Response:
        return json_page({"endpoints": list(await self.pods()), "discovery": list(await self.sources())})

    async def _decisions_page(self, request: web.Request) -> web.Response:
        text = request.query.get("limit", str(SHOWN_DECISIONS))
        if not text.isdecimal():
            return web.Response(status=400, text="limit must be a number\n")
        return json_page({"decisions": list(await self.decisions(int(text)))})

    async def _summary(self, _request: web.Request) -> web.Response:
        activity = await self.activity(SUMMARY_DECISIONS)
        now = summary(
            activity.families,
            version=__version__,
            uptime=time.monotonic() - self._started,
            not_ready=self._not_ready(),
            pods=activity.pods,
            matches=activity.matches,
            decisions=activity.decisions,
            sources=activity.sources,
        )
        return json_page(now)

    async def _explain(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                await request.read()
        except TimeoutError:
            return web.Response(status=408, text="the body did not arrive in time\n")
        return await self.explanation(request)


def doubts(sources: Iterable[Row]) -> str:
    """The faults of sources of pods, in words; "": none."""
    return "; ".join([f"{row['source']}: {row['error']}" for row in sources if row["error"]])


def json_page(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type=JSON_TYPE)


def _seconds(request: web.Request, name: str) -> float | None:
    """A parameter in seconds, 0 where it is left out; None: it is no such number."""
    try:
        seconds = float(request.query.get(name, "0"))
    except ValueError:
        return None
    return seconds if 0 <= seconds < inf else None
