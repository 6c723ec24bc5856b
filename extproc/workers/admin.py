"""The admin pages of several processes as one: health, summed metrics, and what they know of the pods."""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from extproc.admin.pages import Activity, AdminPages
from extproc.protocol.headers import JSON_TYPE
from extproc.workers.merge import decisions_of_all, matches_of_all, rows_of_all, sources_of_all
from extproc.workers.sums import Sums, restarts_page

#: Seconds for a process to answer; one that does not is left out of the page.
TIMEOUT = 2.0
#: Newest decisions of which the mean share of the prompts that pods held is taken. Each is written out for that by its
#: process, some 30 µs, while somebody watches.
MATCHED = 64
#: On a process' page of metrics.
_STREAMS = re.compile(rb"^infer_gateway_streams (\S+)$", re.MULTILINE)


class SharedAdmin(AdminPages):
    """HTTP on loopback, made of the pages that each process has on a Unix socket.

    Args:
        host: to bind.
        port: to bind; 0 for a free one.
        sockets: path of the socket of each process, by its name.
        runs: identifier of the current run of each process.
        not_ready: why no process can decide, or "".
        restarts: how often each process was started again.
        doubts: what is wrong though one can decide, or "".
        hosts: names by which it may be asked, beside IP addresses and localhost.
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
        doubts: Callable[[], str] = str,
        hosts: Iterable[str] = (),
    ) -> None:
        super().__init__(host, port, None, not_ready, doubts, hosts)
        self._sockets = sockets
        self._runs = runs
        self._restarts = restarts
        self._sums = Sums()
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def start(self) -> str:
        address = await super().start()
        for name, path in self._sockets.items():
            self._sessions[name] = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(path), timeout=aiohttp.ClientTimeout(total=TIMEOUT)
            )
        return address

    async def stop(self) -> None:
        await super().stop()
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

    async def metrics(self) -> bytes:
        return (await self._metrics_text()).encode()

    async def _metrics_text(self) -> str:
        runs = self._runs()
        pages = await self._ask_all("/metrics")
        text = self._sums.page({name: (runs[name], page.decode()) for name, page in pages.items()})
        return text + restarts_page(self._restarts())

    async def streams(self) -> int:
        pages = await self._ask_all("/metrics")
        return sum(int(float(count)) for page in pages.values() for count in _STREAMS.findall(page))

    async def pods(self) -> list[dict[str, Any]]:
        pages = await self._ask_all("/debug/endpoints")
        return rows_of_all([msgspec.json.decode(page)["endpoints"] for page in pages.values()])

    async def sources(self) -> list[dict[str, Any]]:
        pages = await self._ask_all("/debug/endpoints")
        return sources_of_all([msgspec.json.decode(page)["discovery"] for page in pages.values()])

    async def decisions(self, limit: int) -> list[dict[str, Any]]:
        pages = await self._ask_all(f"/debug/decisions?limit={limit}")
        return decisions_of_all([msgspec.json.decode(page)["decisions"] for page in pages.values()], limit)

    async def activity(self, decisions: int) -> Activity:
        text, pods, sources, newest = await asyncio.gather(
            self._metrics_text(), self.pods(), self.sources(), self.decisions(MATCHED)
        )
        families = text_string_to_metric_families(text)
        return Activity(families, pods, matches_of_all(newest), newest[:decisions], sources)

    async def explanation(self, request: web.Request) -> web.Response:
        body = await request.read()
        for name, session in self._sessions.items():
            try:
                async with session.post(f"http://{name}{request.path_qs}", data=body) as response:
                    return web.Response(status=response.status, body=await response.read(), content_type=JSON_TYPE)
            except (aiohttp.ClientError, TimeoutError, OSError):
                continue
        return web.Response(status=503, text="no process answers\n")
