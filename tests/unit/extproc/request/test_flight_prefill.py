"""Requests whose prompt another pod computes, without a socket: what is told, counted and learnt."""

import random
from typing import Any

import msgspec
import pytest

from extproc.outcome.ledger import Ledger
from extproc.outcome.outcome import Outcome
from extproc.protocol.events import BodyMode, ProtocolConfig, RequestBody, RequestHeaders, ResponseHeaders
from extproc.protocol.headers import Headers
from extproc.protocol.replies import Mutation, RequestBodyReply, RequestHeadersReply
from extproc.request.context import Context
from extproc.request.pipeline import Exchange, Pipeline
from extproc.routing.choice import Router
from extproc.routing.pool import Pool
from extproc.telemetry.decision_log import DecisionLog
from extproc.telemetry.metrics import Metrics
from scheduler.builder import build
from scheduler.config import SchedulerConfig
from scheduler.disaggregation import Disaggregation
from scheduler.pool.store import PodStore
from scheduler.registry import in_tree_registry
from scheduler.types import Pod

LABEL = "role"
DECODE, OTHER, PREFILL = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"
LONG = "A sentence that fills blocks. " * 50


class World:
    """Two pods that decode and one that prefills."""

    def __init__(self, *, foreign: bool = False) -> None:
        self.now = 1.0
        self.store = PodStore(2.0)
        pods = [Pod(DECODE), Pod(OTHER, labels={LABEL: "decode"}), Pod(PREFILL, labels={LABEL: "prefill"})]
        self.store.set_pods(pods, self.now)
        rng = random.Random(1)
        self.pipeline = Pipeline(
            router=Router(
                {"default": Pool("default", self.store, build(SchedulerConfig(), in_tree_registry())[0])},
                disaggregation=Disaggregation(label=LABEL, threshold=100),
                rng=rng,
            ),
            context=Context(
                metrics=Metrics(list),
                ledger=Ledger(),
                witnesses=[],
                clock=lambda: self.now,
                wall_clock=lambda: 1e9,
                rng=rng,
            ),
            authenticator=None,
            decisions=DecisionLog(10),
            max_body=1 << 20,
            forward_token=False,
            identity_headers={},
            foreign=foreign,
        )

    def send(self, prompt: str = LONG, **headers: str) -> tuple[Exchange, Mutation]:
        items = [(":method", b"POST"), (":path", b"/v1/completions"), ("content-type", b"application/json")]
        items += [(name.replace("_", "-"), value.encode()) for name, value in headers.items()]
        exchange = self.pipeline.open()
        (first,) = exchange.handle(RequestHeaders(Headers(items), config=ProtocolConfig(BodyMode.BUFFERED)))
        assert isinstance(first, RequestHeadersReply)
        #: What was said to the headers of the last request.
        self.first = first.mutation
        body = msgspec.json.encode({"model": "m", "prompt": prompt, "stream": True})
        (reply,) = exchange.handle(RequestBody(body, end_of_stream=True))
        assert isinstance(reply, RequestBodyReply)
        return exchange, reply.mutation

    def column(self, name: str) -> dict[str, Any]:
        return {row["address"]: row[name] for row in self.store.statistics(self.now)}


def finish(world: World, exchange: Exchange, status: int = 200) -> None:
    """The stream ends, and then the access log tells how the request did."""
    exchange.close()
    outcome = Outcome(status=status, ttft=0.002, stream=0.009)
    world.pipeline.context.ledger.arrived(exchange._flight.key, outcome, world.now)


def test_a_long_prompt_is_computed_elsewhere() -> None:
    world = World()
    exchange, mutation = world.send()
    assert dict(mutation.set_headers)["x-prefiller-host-port"] == PREFILL
    assert PREFILL not in mutation.destination
    picked = mutation.destination.split(",")[0]
    tokens = world.column("in_flight_tokens")
    assert tokens.pop(PREFILL) == len(LONG) // 4 + 1
    assert list(tokens.values()) == [0, 0]
    assert world.column("in_flight") == {DECODE: 0, OTHER: 0, PREFILL: 1} | {picked: 1}
    (row,) = world.pipeline.decisions.rows(1)
    assert (row["prefill"], row["uncached_tokens"]) == (PREFILL, 0)
    finish(world, exchange)
    assert world.column("in_flight") == {DECODE: 0, OTHER: 0, PREFILL: 0}
    assert world.column("in_flight_tokens") == {DECODE: 0, OTHER: 0, PREFILL: 0}
    # How long the prompt took says nothing of the pod that answered.
    assert world.column("ttft")[picked] is None
    assert world.column("tpot")[picked] is None


def test_a_short_prompt_and_a_known_one_are_not() -> None:
    world = World()
    short, mutation = world.send("Hi")
    assert mutation.set_headers == ()
    short.close()
    first, mutation = world.send()
    assert mutation.set_headers[-1][0] == "x-prefiller-host-port"
    finish(world, first)
    second, mutation = world.send()
    assert mutation.set_headers == ()
    second.close()
    assert sum(world.column("in_flight").values()) == 0


def test_the_prefill_pod_is_free_when_the_answer_begins() -> None:
    world = World()
    exchange, mutation = world.send()
    exchange.handle(ResponseHeaders(Headers([(":status", b"200")])))
    assert world.column("in_flight_tokens")[PREFILL] == 0
    assert world.column("in_flight")[PREFILL] == 0
    assert world.column("in_flight")[mutation.destination.split(",")[0]] == 1
    exchange.close()
    assert sum(world.column("in_flight").values()) == 0


def test_while_it_is_answered_nothing_is_kept_of_its_text() -> None:
    exchange, _ = World().send("0123456789" * 50_000)
    assert exchange._flight is not None
    request = exchange._flight._request
    assert request is not None
    assert request.prompt.length == 500_000
    assert str(request.prompt) == ""


def test_a_failure_takes_back_what_was_noted_of_both() -> None:
    world = World()
    exchange, _ = world.send()
    finish(world, exchange, 500)
    _, mutation = world.send()
    assert mutation.set_headers[-1] == ("x-prefiller-host-port", PREFILL)


@pytest.mark.parametrize("prompt", [LONG, "Hi"])
def test_behind_another_gateway_a_clients_own_word_is_removed_and_ours_set(prompt: str) -> None:
    world = World(foreign=True)
    _, mutation = world.send(prompt, x_prefiller_host_port="169.254.169.254:80", x_llm_d_a="1")
    # With the answer to the headers: nothing may come after them.
    assert set(world.first.remove_headers) == {"x-prefiller-host-port", "x-llm-d-a"}
    told = dict(mutation.set_headers).get("x-prefiller-host-port")
    assert told == (PREFILL if prompt == LONG else None)
    assert mutation.remove_headers == ()


@pytest.mark.parametrize("prompt", [LONG, "Hi"])
def test_where_all_is_said_at_once_what_is_set_is_not_removed(prompt: str) -> None:
    exchange = World(foreign=True).pipeline.open()
    items = [(":method", b"POST"), (":path", b"/v1/completions"), ("x-prefiller-host-port", b"169.254.169.254:80")]
    assert not exchange.handle(RequestHeaders(Headers(items), config=ProtocolConfig(BodyMode.FULL_DUPLEX_STREAMED)))
    body = msgspec.json.encode({"model": "m", "prompt": prompt})
    reply = exchange.handle(RequestBody(body, end_of_stream=True))[0]
    assert isinstance(reply, RequestHeadersReply)
    assert dict(reply.mutation.set_headers).get("x-prefiller-host-port") == (PREFILL if prompt == LONG else None)
    assert ("x-prefiller-host-port" in reply.mutation.remove_headers) is (prompt != LONG)
