"""A pipeline over two pods, without a socket: events in, replies and counts out."""

import random
from typing import Any

import msgspec

from extproc.outcome.ledger import Ledger
from extproc.outcome.outcome import Outcome
from extproc.protocol.events import (
    RequestBody,
    RequestHeaders,
    TokenUsage,
)
from extproc.protocol.headers import Headers
from extproc.protocol.replies import RequestBodyReply
from extproc.request.context import Context
from extproc.request.pipeline import Exchange, Pipeline
from extproc.routing.choice import Router
from extproc.routing.pool import Pool
from extproc.telemetry.access_log import AccessLog
from extproc.telemetry.decision_log import DecisionLog
from extproc.telemetry.metrics import Metrics
from scheduler.builder import build
from scheduler.config import SchedulerConfig, ScorerRef
from scheduler.pool.store import PodStore
from scheduler.registry import in_tree_registry
from scheduler.types import Pod

PODS = [Pod("10.0.0.1:80"), Pod("10.0.0.2:80")]
LONG = "A sentence that fills blocks. " * 20


class FakeAuthenticator:
    """Says what it is told to."""

    def __init__(self, *verdicts: Any) -> None:
        self.verdicts = list(verdicts)
        self.token_headers = ("x-api-key",)
        self.finals: list[bool] = []

    def check(self, headers: Headers, *, now: float, final: bool = False) -> Any:
        self.finals.append(final)
        verdict = self.verdicts.pop(0)
        if isinstance(verdict, Exception):
            raise verdict
        return verdict


class World:
    """A pipeline over two pods, at a time that stands still unless it is moved."""

    def __init__(self, authenticator: Any = None, identity_headers: dict[str, str] | None = None) -> None:
        self.now = 100.0
        self.store = PodStore(2.0, on_left=lambda pod: self.profile.left(pod))
        # One request in flight and one shared prefix weigh the same by default; here the prefix is to decide.
        scorers = (ScorerRef("least-request", 1), ScorerRef("prefix-cache", 2))
        self.profile, _ = build(SchedulerConfig(scores_enabled=scorers), in_tree_registry())
        self.store.set_pods(PODS, self.now)
        self.metrics = Metrics(list)
        self.decisions = DecisionLog(10)
        self.ledger = Ledger()
        self.lines: list[bytes] = []
        rng = random.Random(1)
        self.pipeline = Pipeline(
            router=Router({"default": Pool("default", self.store, self.profile)}, rng=rng),
            context=Context(
                metrics=self.metrics,
                ledger=self.ledger,
                witnesses=[AccessLog(self.lines.append)],
                clock=lambda: self.now,
                wall_clock=lambda: 1e9,
                rng=rng,
            ),
            authenticator=authenticator,
            decisions=self.decisions,
            max_body=1 << 20,
            forward_token=False,
            identity_headers=identity_headers or {},
        )

    def in_flight(self) -> list[int]:
        return [row["in_flight"] for row in self.store.statistics(self.now)]

    def served(self) -> list[int]:
        return [row["served"] for row in self.store.statistics(self.now)]

    def page(self) -> str:
        return self.metrics.exposition().decode()


def head(
    method: str = "POST", path: str = "/v1/chat/completions", *, end: bool = False, **headers: str
) -> RequestHeaders:
    items = [(":method", method.encode()), (":path", path.encode()), ("x-request-id", b"r-1")]
    items += [(name.replace("_", "-"), value.encode()) for name, value in headers.items()]
    return RequestHeaders(Headers(items), end_of_stream=end)


def body(**fields: Any) -> RequestBody:
    default: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": LONG}]}
    return RequestBody(msgspec.json.encode(default | fields), end_of_stream=True)


def routed(world: World, exchange: Exchange | None = None, *, stream: bool = True) -> tuple[Exchange, str]:
    """An exchange that was decided, and the pod that was picked."""
    exchange = exchange or world.pipeline.open()
    exchange.handle(head())
    (reply,) = exchange.handle(body(stream=stream))
    assert isinstance(reply, RequestBodyReply)
    return exchange, reply.mutation.destination.split(",")[0]


def finish(
    world: World, exchange: Exchange, served: str = "", status: int = 200, usage: TokenUsage | None = None
) -> None:
    """The stream ends, and then the access log tells how the request did."""
    exchange.close()
    outcome = Outcome(status=status, served=served, ttft=0.05, stream=0.09, usage=usage or TokenUsage())
    world.ledger.arrived(exchange._flight.key, outcome, world.now)
