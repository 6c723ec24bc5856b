"""Requests to several pools, without a socket: which pool, under which name, and what is noted where."""

import random
from typing import Any

import msgspec
import pytest

from extproc.auth.base import Identity
from extproc.errors import Refusal
from extproc.outcome.ledger import Ledger
from extproc.outcome.outcome import Outcome
from extproc.parsers import parse
from extproc.protocol.events import (
    BodyMode,
    ProtocolConfig,
    RequestBody,
    RequestHeaders,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
    TokenUsage,
)
from extproc.protocol.headers import Headers
from extproc.protocol.replies import (
    ImmediateReply,
    Mutation,
    RequestBodyChunk,
    RequestBodyReply,
    RequestHeadersReply,
    ResponseBodyChunk,
    ResponseHeadersReply,
)
from extproc.request.context import Context
from extproc.request.pipeline import Exchange, Pipeline
from extproc.routing.choice import Router
from extproc.routing.pool import Pool
from extproc.routing.routes import Route, Routes, Rule, Target
from extproc.telemetry.access_log import AccessLog
from extproc.telemetry.decision_log import DecisionLog
from extproc.telemetry.metrics import Metrics
from scheduler.builder import build
from scheduler.config import SchedulerConfig
from scheduler.pool.signals import Sample
from scheduler.pool.store import PodStore
from scheduler.registry import in_tree_registry
from scheduler.types import Pod

PATH = "/v1/chat/completions"
RULES = [
    Rule(Route("base", (Target("large", model="org/m"),)), ("m",), ("lora",)),
    Rule(Route("canary", (Target("large", 1e9, "v1"), Target("small", 1e-9, "v2"))), ("c",)),
    Rule(Route("gone", (Target("empty"),)), ("gone",)),
]


class Allowed:
    """Lets everybody use these models."""

    token_headers: tuple[str, ...] = ()

    def __init__(self, *models: str) -> None:
        self._models = frozenset(models)

    def check(self, *_: object, **__: object) -> Identity:
        return Identity("someone", "issuer", {}, self._models)


class World:
    """Pools of two pods, one and none."""

    def __init__(self, authenticator: Any = None) -> None:
        self.pools: dict[str, Pool] = {}
        for name, addresses in {"large": ["10.1.0.1:80", "10.1.0.2:80"], "small": ["10.2.0.1:80"], "empty": []}.items():
            store = PodStore(2.0)
            store.set_pods([Pod(address) for address in addresses], 0.0)
            self.pools[name] = Pool(name, store, build(SchedulerConfig(), in_tree_registry())[0])
        self.metrics = Metrics(list)
        self.lines: list[bytes] = []
        self.replies: list[Any] = []
        rng = random.Random(1)
        self.pipeline = Pipeline(
            router=Router(self.pools, Routes(RULES, Route("", (Target("small"),))), rng=rng),
            context=Context(
                metrics=self.metrics,
                ledger=Ledger(),
                witnesses=[AccessLog(self.lines.append)],
                clock=lambda: 0.0,
                wall_clock=lambda: 1e9,
                rng=rng,
            ),
            authenticator=authenticator,
            decisions=DecisionLog(10),
            max_body=1 << 20,
            forward_token=False,
            explain_to_clients=True,
            identity_headers={},
        )

    def send(
        self, body: bytes, *, mode: BodyMode = BodyMode.BUFFERED, chunks: int = 1, length: bool = True, **headers: str
    ) -> tuple[Exchange, list[Any]]:
        """An exchange that was shown a whole request, and the last replies."""
        items = [(":method", b"POST"), (":path", PATH.encode()), ("x-request-id", b"r")]
        items += [(name.replace("_", "-"), value.encode()) for name, value in headers.items()]
        if length:
            items.append(("content-length", str(len(body)).encode()))
        exchange = self.pipeline.open()
        exchange.handle(RequestHeaders(Headers(items), config=ProtocolConfig(mode, BodyMode.NONE, True)))
        size = -(-len(body) // chunks)
        replies: list[Any] = []
        for start in range(0, len(body), size):
            replies = exchange.handle(RequestBody(body[start : start + size], start + size >= len(body)))
        return exchange, replies

    def mutation(self, model: str) -> Mutation:
        _, (reply,) = self.send(request(model))
        assert isinstance(reply, RequestBodyReply)
        return reply.mutation

    def in_flight(self) -> dict[str, int]:
        return {
            name: sum(row["in_flight"] for row in pool.store.statistics(0.0)) for name, pool in self.pools.items()
        }  # fmt: skip


def request(model: str, text: str = "Hello. " * 100) -> bytes:
    return msgspec.json.encode({"model": model, "messages": [{"role": "user", "content": text}]})


def test_the_body_names_the_model_as_the_pool_knows_it() -> None:
    world = World()
    exchange, (reply,) = world.send(request("m"))
    assert isinstance(reply, RequestBodyReply)
    assert reply.body == request("org/m")
    assert dict(reply.mutation.set_headers)["content-length"] == str(len(request("org/m")))
    assert reply.mutation.pool == "large"
    assert world.in_flight() == {"large": 1, "small": 0, "empty": 0}
    exchange.handle(ResponseTrailers(Headers(), attributes={"response.code": 200.0}))
    exchange.close()
    assert world.in_flight() == {"large": 0, "small": 0, "empty": 0}
    (row,) = world.pipeline.decisions.rows(5)
    assert (row["model"], row["rewritten_model"], row["pool"]) == ("m", "org/m", "large")
    line = msgspec.json.decode(world.lines[0])
    assert (line["model"], line["rewritten_model"], line["pool"]) == ("m", "org/m", "large")
    page = world.metrics.exposition()
    assert b'model="m"' in page
    assert b"org/m" not in page


def test_a_request_that_should_name_a_model_and_names_none_is_refused() -> None:
    """No route is for all models, so none has a model to give."""
    world = World()
    _, (reply,) = world.send(b'{"messages":[]}')
    assert isinstance(reply, ImmediateReply)
    error = msgspec.json.decode(reply.body)["error"]
    assert (reply.status, error["param"]) == (400, "model")
    assert world.in_flight() == {"large": 0, "small": 0, "empty": 0}


@pytest.mark.parametrize("model", ["lora", "org/m", "m"])
def test_what_keeps_its_name_keeps_its_body(model: str) -> None:
    world = World()
    world.pipeline.router.routes = Routes(
        [
            Rule(Route("", (Target("large", model="org/m"),)), ("org/m",), ("lora",)),
            Rule(Route("", (Target("small"),))),
        ],
        world.pipeline.router.routes.unnamed,
    )
    _, (reply,) = world.send(request(model))
    assert isinstance(reply, RequestBodyReply)
    assert reply.body is None
    assert "content-length" not in dict(reply.mutation.set_headers)


def test_a_body_of_unsaid_length_stays_one() -> None:
    _, (reply,) = World().send(request("m"), length=False)
    assert isinstance(reply, RequestBodyReply)
    assert reply.body == request("org/m")
    assert "content-length" not in dict(reply.mutation.set_headers)


@pytest.mark.parametrize("chunks", [1, 3])
def test_full_duplex_gives_the_new_body_back(chunks: int) -> None:
    _, (head, *body) = World().send(request("m"), mode=BodyMode.FULL_DUPLEX_STREAMED, chunks=chunks)
    assert isinstance(head, RequestHeadersReply)
    assert dict(head.mutation.set_headers)["content-length"] == str(len(request("org/m")))
    assert all(isinstance(chunk, RequestBodyChunk) for chunk in body)
    assert b"".join(bytes(chunk.body) for chunk in body) == request("org/m")


def test_streamed_without_waiting_gives_the_new_body_in_the_first_chunks_place() -> None:
    _, replies = World().send(request("m"), mode=BodyMode.STREAMED, chunks=3)
    assert isinstance(replies[0], RequestHeadersReply)
    assert [reply.body for reply in replies[1:]] == [request("org/m"), b"", b""]


def test_the_prefix_is_known_by_the_pods_name_of_the_model() -> None:
    world = World()
    index = world.pools["large"].profile.plugins["prefix-cache"].index
    parsed = parse(PATH, request("m"))
    world.mutation("m")

    def known(model: str) -> bool:
        hashes, _ = index.hasher.hashes(model, parsed.prompt)
        return bool(index.match(hashes, world.pools["large"].store.snapshot(0.0)).any())

    assert known("org/m")
    assert not known("m")


def test_an_unknown_model_is_a_404_like_openais() -> None:
    world = World()
    exchange, (reply,) = world.send(request("x" * 1000))
    assert isinstance(reply, ImmediateReply)
    assert reply.status == 404
    error = msgspec.json.decode(reply.body)["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "model_not_found", None)
    assert error["message"] == f"The model '{'x' * 199}…' does not exist or you do not have access to it."
    exchange.close()
    assert (
        'infer_gateway_refusals_total{reason="model_not_found",status="404"} 1.0' in world.metrics.exposition().decode()
    )


def test_targets_share_by_weight_and_stand_in_for_each_other() -> None:
    world = World()
    assert world.mutation("c").pool == "large"
    world.pools["large"].store.set_pods([], 0.0)
    _, (reply,) = world.send(request("c"))
    assert isinstance(reply, RequestBodyReply)
    assert (reply.mutation.pool, reply.body) == ("small", request("v2"))


def test_no_pod_in_any_target_is_a_503_and_a_full_pool_a_429() -> None:
    world = World()
    _, (reply,) = world.send(request("gone"))
    assert isinstance(reply, ImmediateReply)
    assert reply.status == 503
    for row in world.pools["large"].store.statistics(0.0):
        world.pools["large"].store.observe(row["address"], Sample(waiting=99.0), 0.0)
    _, (reply,) = world.send(request("c"))
    assert isinstance(reply, ImmediateReply)
    # Shares are for the operator to set: who is full does not push its requests to the others.
    assert reply.status == 429


def test_without_a_model_the_one_pool_for_that() -> None:
    world = World()
    head = RequestHeaders(Headers([(":method", b"GET"), (":path", b"/v1/models")]), end_of_stream=True)
    (reply,) = world.pipeline.open().handle(head)
    assert isinstance(reply, RequestHeadersReply)
    assert reply.mutation.pool == "small"


def test_tokens_allow_the_names_of_clients() -> None:
    world = World(Allowed("m", "unknown"))
    assert world.mutation("m").pool == "large"
    statuses = [world.send(request(model))[1][0].status for model in ("org/m", "unknown")]
    assert statuses == [403, 404]


def test_a_body_that_cannot_be_rewritten_leaves_nothing_behind() -> None:
    world = World()
    text = request("m")
    exchange, (reply,) = world.send(text[:-1] + b',"model":"m"' * 9 + b"}")
    assert isinstance(reply, ImmediateReply)
    assert reply.status == 400
    exchange.close()
    assert world.in_flight()["large"] == 0
    world.mutation("m")
    assert next(world.pipeline.decisions.rows(1))["prefix_match"] == 0.0


def test_explained_as_routed() -> None:
    world = World()
    row = world.pipeline.explain(PATH, request("m"))
    assert (row["model"], row["rewritten_model"], row["pool"]) == ("m", "org/m", "large")
    with pytest.raises(Refusal) as refused:
        world.pipeline.explain(PATH, request("x"))
    assert refused.value.status == 404
    assert world.in_flight()["large"] == 0


def test_a_client_that_may_is_told_the_pool() -> None:
    _, (reply,) = World().send(request("m"), x_gateway_debug="true")
    assert msgspec.json.decode(reply.tag.explanation)["pool"] == "large"


def answered(world: World, model: str, content_type: str = "application/json", encoding: str = "") -> Exchange:
    """An exchange of which Envoy showed the headers of the answer."""
    exchange, _ = world.send(request(model))
    headers = [(":status", b"200"), ("content-type", content_type.encode())]
    if encoding:
        headers.append(("content-encoding", encoding.encode()))
    world.replies = exchange.handle(ResponseHeaders(Headers(headers)))
    return exchange


def rewriting() -> World:
    world = World()
    world.pipeline.context.log_tells_more = True
    route = Route("", (Target("large", model="org/m"),), rewrite_answers=True)
    world.pipeline.router.routes = Routes([Rule(route, ("m", "org/m"), ("lora",))], Route("", (Target("small"),)))
    return world


def test_the_answer_names_the_model_as_the_client_did() -> None:
    world = rewriting()
    exchange = answered(world, "m")
    (reply,) = world.replies
    assert reply.mode.response_body_mode is BodyMode.FULL_DUPLEX_STREAMED
    text = b'{"model":"org/m","usage":{"prompt_tokens":5,"completion_tokens":2}}'
    assert exchange.handle(ResponseBody(text[:20])) == []
    (chunk,) = exchange.handle(ResponseBody(text[20:], end_of_stream=True))
    assert chunk == ResponseBodyChunk(text.replace(b"org/m", b"m"), True)
    exchange.close()
    # All of the outcome was seen.
    line = msgspec.json.decode(world.lines[0])
    assert (line["model"], line["status"], line["completion_tokens"]) == ("m", 200, 2)


@pytest.mark.parametrize(
    ("model", "content_type", "encoding"),
    [("lora", "application/json", ""), ("org/m", "application/json", ""), ("m", "audio/wav", ""),
     ("m", "application/json", "gzip")],
)  # fmt: skip
def test_other_answers_are_left_alone(model: str, content_type: str, encoding: str) -> None:
    world = rewriting()
    answered(world, model, content_type, encoding)
    assert world.replies == [ResponseHeadersReply()]


@pytest.mark.parametrize("logged", [True, False])
def test_of_an_answer_whose_headers_alone_are_shown_the_log_tells_more(logged: bool) -> None:
    world = rewriting()
    exchange = answered(world, "lora")
    exchange.close()
    assert world.lines == []
    assert world.in_flight()["large"] == 0
    if logged:
        outcome = Outcome(status=200, usage=TokenUsage(5, 0, 2))
        world.pipeline.context.ledger.arrived(exchange._flight.key, outcome, 0.0)
    else:
        world.pipeline.context.ledger.expire(1e9)
    line = msgspec.json.decode(world.lines[0])
    assert (line["status"], line["completion_tokens"]) == (200, 2 if logged else None)
