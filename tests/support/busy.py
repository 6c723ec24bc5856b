"""The admin pages of a gateway that has done something: real store, metrics, decisions and server, no traffic."""

import contextlib
import json
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import aiohttp

from extproc.admin.server import AdminServer
from extproc.outcome.outcome import Outcome
from extproc.protocol.events import TokenUsage
from extproc.telemetry.decision_log import DecisionLog
from extproc.telemetry.metrics import Metrics
from scheduler.builder import build
from scheduler.config import SchedulerConfig, ScorerRef
from scheduler.cycle import schedule
from scheduler.pool.signals import Sample
from scheduler.pool.store import PodStore
from scheduler.registry import in_tree_registry
from scheduler.types import Pod, Prompt, Request

#: What clients may call a model, to see what becomes of it.
HOSTILE = "<img src=x onerror=document.title='taken'><script>document.title='taken'</script>\"'&[bold]\x1b[2J\u202e"
#: The moment at which everything happens, in seconds of the clock of pods and of people.
NOW, AT = 100.0, 1_700_000_000.0


class Busy:
    """Tell it what happened, then look at its pages."""

    def __init__(self, pods: int = 3) -> None:
        self.store = PodStore(5.0)
        self.metrics = Metrics(self.rows)
        self.decisions = DecisionLog(256)
        self.not_ready = ""
        self._asked = 0
        self._profile, _ = build(
            SchedulerConfig(scores_enabled=(ScorerRef("least-request"), ScorerRef("least-cost"))), in_tree_registry()
        )
        self._rng = Random(1)
        self.set_pods(pods)

    def rows(self) -> list[dict[str, Any]]:
        return [{**row, "pool": "default"} for row in self.store.statistics(NOW)]

    def set_pods(self, count: int) -> None:
        pods = [Pod(f"10.0.{n // 250}.{n % 250 + 1}:8000", name=f"model-{n + 1}") for n in range(count)]
        self.store.set_pods(pods, NOW)
        for number, pod in enumerate(pods):
            sample = Sample(waiting=number % 3, running=4, kv_usage=min(0.31 * number, 1.0), ttft=0.2, tpot=0.02)
            self.store.observe(pod.address, sample, NOW - 0.1)

    def request(
        self, model: str = "m", request_id: str = "r-1", *, status: int | None = 200, ends: bool = True
    ) -> str:  # fmt: skip
        """A request that is picked, and ends unless told otherwise. Returns the pod's address."""
        request = Request(id=request_id, model=model, prompt=Prompt(["text " * 200]))
        decision = schedule(self._profile, request, self.store.snapshot(NOW), now=NOW, rng=self._rng)
        self.metrics.decided(200e-6, decision.prefix_match)
        self.decisions.add(AT, request, decision, pool="default")
        ticket = self.store.acquire(decision.pod, decision.uncached_tokens, NOW)
        if ends:
            ticket.release(NOW)
            outcome = Outcome(status=status, attempts=1, ttft=0.2, stream=1.0, usage=TokenUsage(250, 50, 11))
            self.metrics.ended(model, decision.pod.address, outcome, 1.2, streamed=True)
        return decision.pod.address

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """The address of the admin pages, while they are there."""
        server = AdminServer(
            host="127.0.0.1", port=0, metrics=self.metrics, not_ready=lambda: self.not_ready, pods=self.rows,
            decisions=self.decisions, explain=lambda _path, _body: {},
        )  # fmt: skip
        address = await server.start()
        try:
            yield address
        finally:
            await server.stop()

    async def summary(self) -> Any:
        """As a client gets it."""
        async with (
            self.serving() as address,
            aiohttp.ClientSession() as session,
            session.get(f"http://{address}/debug/summary") as response,
        ):
            assert response.status == 200
            assert response.content_type == "application/json"
            self._asked += 1
            # Each has a server of its own; they are to look like one that goes on.
            return json.loads(await response.read()) | {"uptime": float(self._asked)}
