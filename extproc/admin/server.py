"""The admin pages of one process: health, metrics, and what it knows of its pods."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiohttp import web

from extproc.admin.pages import Activity, AdminPages, Row, doubts, json_page
from extproc.errors import Refusal
from extproc.protocol.headers import JSON_TYPE
from extproc.telemetry.decision_log import DecisionLog
from extproc.telemetry.metrics import Metrics

#: Path whose API a body is of where none is given.
DEFAULT_PATH = "/v1/chat/completions"


class AdminServer(AdminPages):
    """HTTP on loopback, or on the Unix socket at `path`. `not_ready`: why the gateway is not ready, or ""."""

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
        sources: Callable[[], Iterable[Mapping[str, Any]]] = list,
        path: str | None = None,
        hosts: Iterable[str] = (),
    ) -> None:
        super().__init__(host, port, path, not_ready, lambda: doubts(sources()), hosts)
        self._sources = sources
        self._metrics = metrics
        self._pods = pods
        self._decisions = decisions
        self._explainer = explain

    async def metrics(self) -> bytes:
        return self._metrics.exposition()

    async def streams(self) -> int:
        return self._metrics.streams

    async def pods(self) -> Iterable[Row]:
        return self._pods()

    async def sources(self) -> Iterable[Row]:
        return self._sources()

    async def decisions(self, limit: int) -> Iterable[Row]:
        return self._decisions.rows(limit)

    async def activity(self, decisions: int) -> Activity:
        return Activity(
            families=self._metrics.registry.collect(),
            pods=self._pods(),
            matches=self._decisions.matches(),
            decisions=self._decisions.rows(decisions),
            sources=self._sources(),
        )

    async def explanation(self, request: web.Request) -> web.Response:
        try:
            return json_page(self._explainer(request.query.get("path", DEFAULT_PATH), await request.read()))
        except Refusal as refusal:
            return web.Response(status=refusal.status, body=refusal.body(), content_type=JSON_TYPE)
