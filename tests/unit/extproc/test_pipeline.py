"""One request's way, without a socket: events in, replies and counts out."""

import asyncio
import gc
import random
from typing import Any

import msgspec
import pytest

from extproc.access_log import AccessLog
from extproc.auth.base import Identity, Pending
from extproc.decisions import DecisionLog
from extproc.errors import RemoteProtocolError, unauthorized
from extproc.events import (
    BodyMode,
    ProtocolConfig,
    RequestBody,
    RequestHeaders,
    ResponseHeaders,
    TokenUsage,
)
from extproc.flight import _computed, _failed_before
from extproc.headers import Headers
from extproc.ledger import PATIENCE, Ledger
from extproc.metrics import Metrics
from extproc.mutation import admission
from extproc.outcomes import Outcome
from extproc.pipeline import Exchange, Pipeline
from extproc.pools import Pool
from extproc.replies import ImmediateReply, RequestBodyReply, RequestHeadersReply
from scheduler.builder import build
from scheduler.config import SchedulerConfig, ScorerRef
from scheduler.pool.signals import Sample
from scheduler.pool.store import PodStore
from scheduler.profile import PICKED, Member
from scheduler.registry import in_tree_registry
from scheduler.types import Decision, Pod, Snapshot

PODS = [Pod("10.0.0.1:80"), Pod("10.0.0.2:80")]
LONG = "A sentence that fills blocks. " * 20


class FakeAuthenticator:
    """Says what it is told to."""

    def __init__(self, *verdicts: Any) -> None:
        self.verdicts = list(verdicts)
        self.finals: list[bool] = []

    def check(self, authorization: bytes | None, count: int, *, now: float, final: bool = False) -> Any:
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
        self.pipeline = Pipeline(
            pools={"default": Pool("default", self.store, self.profile)},
            authenticator=authenticator,
            metrics=self.metrics,
            decisions=self.decisions,
            ledger=self.ledger,
            witnesses=[AccessLog(self.lines.append)],
            max_body=1 << 20,
            forward_token=False,
            identity_headers=identity_headers or {},
            clock=lambda: self.now,
            wall_clock=lambda: 1e9,
            rng=random.Random(1),
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


def test_a_request_from_headers_to_its_end() -> None:
    world = World()
    exchange = world.pipeline.open()
    assert exchange.handle(head()) == [RequestHeadersReply()]
    assert world.in_flight() == [0, 0]
    (reply,) = exchange.handle(body())
    assert isinstance(reply, RequestBodyReply)
    value = reply.mutation.destination
    assert sorted(value.split(",")) == [pod.address for pod in PODS]
    assert reply.mutation.set_headers == ()
    assert sum(world.in_flight()) == 1
    exchange.close()
    exchange.close()
    assert world.in_flight() == [0, 0]
    (row,) = world.decisions.rows(5)
    assert (row["request_id"], row["model"], row["pods"]) == ("r-1", "m", value.split(","))


def test_a_second_request_with_the_prefix_follows_the_first_before_it_is_answered() -> None:
    world = World()
    _, first = routed(world)
    _, second = routed(world)
    assert first == second


def test_without_a_body_the_headers_decide() -> None:
    world = World()
    (reply,) = world.pipeline.open().handle(head("GET", "/v1/models", end=True))
    assert isinstance(reply, RequestHeadersReply)
    assert reply.mutation.destination


@pytest.mark.parametrize(
    ("path", "content_type", "data", "status"),
    [
        ("/v1/chat/completions", "text/plain", b"{", 400),
        ("/v1/audio/transcriptions", "multipart/form-data; boundary=x", b"--x", None),
        ("/v1/rerank", "application/json", b"{", 400),
        ("/v1/rerank", "application/vnd.x+json; charset=utf-8", b"{", 400),
        ("/v1/rerank", "application/json", b'{"model": "m"}', None),
    ],
)
def test_what_is_read_as_json(path: str, content_type: str, data: bytes, status: int | None) -> None:
    exchange = World().pipeline.open()
    exchange.handle(head(path=path, content_type=content_type))
    (reply,) = exchange.handle(RequestBody(data, end_of_stream=True))
    assert (reply.status if isinstance(reply, ImmediateReply) else None) == status


def test_a_body_that_was_cut_is_too_large_and_not_bad() -> None:
    exchange = World().pipeline.open()
    cut = RequestHeaders(head().headers, config=ProtocolConfig(BodyMode.BUFFERED_PARTIAL))
    exchange.handle(cut)
    (reply,) = exchange.handle(RequestBody(b'{"model": "m', end_of_stream=False))
    assert isinstance(reply, ImmediateReply)
    assert reply.status == 413


def test_no_pod_and_no_room_are_told_apart() -> None:
    world = World()
    subset = RequestHeaders(head().headers, end_of_stream=True, subset=("10.9.9.9:80",))
    (reply,) = world.pipeline.open().handle(subset)
    assert isinstance(reply, ImmediateReply)
    assert reply.status == 503
    for pod in PODS:
        world.store.observe(pod.address, Sample(waiting=99.0), world.now)
    exchange = world.pipeline.open()
    exchange.handle(head())
    (reply,) = exchange.handle(body())
    assert isinstance(reply, ImmediateReply)
    assert reply.status == 429
    exchange.close()
    assert 'infer_gateway_refusals_total{reason="saturated",status="429"} 1.0' in world.page()


def test_a_refused_token_ends_the_request_before_its_body() -> None:
    world = World(FakeAuthenticator(unauthorized("expired")))
    exchange = world.pipeline.open()
    (reply,) = exchange.handle(head(authorization="Bearer x"))
    assert isinstance(reply, ImmediateReply)
    assert reply.status == 401
    exchange.close()
    assert 'infer_gateway_refusals_total{reason="expired",status="401"} 1.0' in world.page()
    assert 'infer_gateway_auth_total{result="expired"} 1.0' in world.page()
    assert b"expired" not in reply.body


async def test_keys_are_waited_for() -> None:
    fetched = asyncio.Event()
    identity = Identity("someone", "issuer", {"sub": "someone"})
    authenticator = FakeAuthenticator(Pending(fetched.wait), identity)
    exchange = World(authenticator).pipeline.open()
    assert exchange.handle(head(authorization="Bearer x")) == []
    assert exchange.pending is not None
    fetched.set()
    await exchange.pending.wait()
    assert exchange.resume() == [RequestHeadersReply(admission((), ("authorization",)))]
    assert exchange.pending is None
    assert authenticator.finals == [False, True]


def test_keys_that_do_not_come_refuse() -> None:
    pending = Pending(asyncio.Event().wait)
    exchange = World(FakeAuthenticator(pending, unauthorized("unknown_key"))).pipeline.open()
    exchange.handle(head(authorization="Bearer x"))
    (reply,) = exchange.resume()
    assert isinstance(reply, ImmediateReply)
    assert reply.status == 401


def test_models_are_for_those_who_may_use_them() -> None:
    identity = Identity("someone", "issuer", {}, frozenset({"other"}))
    world = World(FakeAuthenticator(identity))
    exchange = world.pipeline.open()
    exchange.handle(head())
    (reply,) = exchange.handle(body())
    assert isinstance(reply, ImmediateReply)
    assert reply.status == 403
    # The token was good: what it does not allow is a refusal of another kind.
    assert 'infer_gateway_auth_total{result="ok"} 1.0' in world.page()
    assert world.page().count("infer_gateway_auth_total{") == 1


def test_identity_goes_upstream_and_the_token_does_not() -> None:
    claims = {"sub": "someone", "odd": 3, "evil": "a\r\nx: y", "word": "é"}
    headers = {"x-user": "sub", "x-odd": "odd", "x-evil": "evil", "x-word": "word", "x-gone": "gone"}
    world = World(FakeAuthenticator(Identity("someone", "issuer", claims)), headers)
    exchange = world.pipeline.open()
    (first,) = exchange.handle(head(authorization="Bearer x"))
    # With the token's own answer, so that it holds also where no decision follows.
    assert first == RequestHeadersReply(admission((("x-user", "someone"),), ("authorization",)))
    (reply,) = exchange.handle(body())
    assert isinstance(reply, RequestBodyReply)
    assert reply.mutation.set_headers == ()
    assert reply.mutation.remove_headers == ()


def test_without_a_body_all_is_said_at_once() -> None:
    world = World(FakeAuthenticator(Identity("someone", "issuer", {"sub": "someone"})), {"x-user": "sub"})
    (reply,) = world.pipeline.open().handle(head(end=True, authorization="Bearer x"))
    assert isinstance(reply, RequestHeadersReply)
    assert dict(reply.mutation.set_headers).keys() == {"x-user"}
    assert reply.mutation.remove_headers == ("authorization",)


def test_who_may_not_use_every_model_is_not_let_in_before_the_decision() -> None:
    identity = Identity("someone", "issuer", {}, frozenset({"m"}))
    exchange = World(FakeAuthenticator(identity)).pipeline.open()
    said = RequestHeadersReply(admission((), ("authorization",), False))
    assert exchange.handle(head(authorization="Bearer x")) == [said]
    (reply,) = exchange.handle(body())
    assert isinstance(reply, RequestBodyReply)
    assert reply.mutation.destination


@pytest.mark.parametrize("models", [None, frozenset({"m"})])
def test_what_clients_may_not_say_is_taken_out_before_the_decision(models: frozenset[str] | None) -> None:
    """Behind another Envoy than ours, which asks no second time where trailers are all that follows."""
    identity = Identity("someone", "issuer", {"sub": "someone"}, models)
    forged = {"x_user": "root", "x_gone": "1", "x_prefiller_host_port": "a", "x_gateway_destination_endpoint": "b"}
    gone = {"x-gone", "x-prefiller-host-port", "x-gateway-destination-endpoint"}
    for authenticator in (FakeAuthenticator(identity), None):
        world = World(authenticator, {"x-user": "sub", "x-gone": "gone"} if authenticator else {})
        world.pipeline.foreign = True
        exchange = world.pipeline.open()
        (first,) = exchange.handle(head(authorization="Bearer x", **forged))
        assert isinstance(first, RequestHeadersReply)
        told = (("x-user", "someone"),) if authenticator else ()
        removed = gone | {"authorization"} if authenticator else gone - {"x-gone"}
        assert (first.mutation.set_headers, set(first.mutation.remove_headers)) == (told, removed)
        assert first.mutation.admitted is (authenticator is not None and models is None)
        (reply,) = exchange.handle(body())
        assert isinstance(reply, RequestBodyReply)
        assert reply.mutation.set_headers == ()
        assert reply.mutation.remove_headers == ()


def test_a_long_name_is_not_said_back() -> None:
    exchange = World(FakeAuthenticator(Identity("someone", "issuer", {}, frozenset({"other"})))).pipeline.open()
    exchange.handle(head())
    (reply,) = exchange.handle(body(model="\U000e0000" * 1024))
    assert isinstance(reply, ImmediateReply)
    assert reply.status == 403
    assert len(reply.body) < 4096


def test_what_plugins_may_look_up() -> None:
    world = World(FakeAuthenticator(Identity("someone", "issuer", {"team": "a", "n": 1})))
    exchange = world.pipeline.open()
    exchange.handle(head(x_session="s-1", cookie="a=b; sid=c-1"))
    look = exchange._lookup
    assert (look("header", "x-session"), look("cookie", "sid"), look("claim", "team")) == ("s-1", "c-1", "a")
    unknown = (("header", "no"), ("cookie", "no"), ("claim", "n"), ("claim", "no"), ("other", "x"))
    assert [look(*what) for what in unknown] == [None] * 5


def finish(
    world: World, exchange: Exchange, served: str = "", status: int = 200, usage: TokenUsage | None = None
) -> None:
    """The stream ends, and then the access log tells how the request did."""
    exchange.close()
    outcome = Outcome(status=status, served=served, ttft=0.05, stream=0.09, usage=usage or TokenUsage())
    world.ledger.arrived(exchange._flight.key, outcome, world.now)


@pytest.mark.parametrize("usage", [TokenUsage(200, 50, 10), TokenUsage(None, None, 10)])
def test_an_answer_teaches_what_its_pod_takes(usage: TokenUsage) -> None:
    world = World()
    exchange, picked = routed(world)
    finish(world, exchange, picked, usage=usage)
    world.now += 0.2
    row = next(row for row in world.store.statistics(world.now) if row["address"] == picked)
    assert row["ttft"] == pytest.approx(0.05)
    assert row["tpot"] == pytest.approx(0.01)
    assert f'infer_gateway_requests_total{{model="m",pod="{picked}",status="200"}} 1.0' in world.page()


def test_an_answer_in_one_piece_teaches_nothing_of_its_first_token() -> None:
    world = World()
    exchange, picked = routed(world, stream=False)
    finish(world, exchange, picked, usage=TokenUsage(200, 50, 10))
    world.now += 0.2
    row = next(row for row in world.store.statistics(world.now) if row["address"] == picked)
    assert (row["ttft"], row["tpot"]) == (None, None)
    assert 'time_to_first_token_seconds_count{model="m",streamed="false"} 1.0' in world.page()


def test_a_line_in_the_access_log() -> None:
    world = World(FakeAuthenticator(Identity("someone", "issuer", {})))
    exchange, picked = routed(world)
    world.now += 0.5
    assert world.lines == []
    finish(world, exchange, picked, usage=TokenUsage(200, 50, 10))
    (raw,) = world.lines
    assert raw.endswith(b"\n")
    line = msgspec.json.decode(raw)
    assert line == {
        "time": 1e9, "request_id": "r-1", "model": "m", "pool": "default", "rewritten_model": None, "subject": "someone", "status": 200, "details": "",
        "picked": picked, "served": picked, "attempts": None, "score": 100.0, "prefix_match": 0.0, "seconds": 0.5, "decision_seconds": 0.0,
        "ttft": 0.05, "tpot": 0.01, "prompt_tokens": 200, "cached_tokens": 50, "completion_tokens": 10,
    }  # fmt: skip
    assert b"A sentence" not in raw


def test_a_retry_that_another_pod_answered_moves_what_was_noted() -> None:
    world = World()
    exchange, picked = routed(world)
    other = next(pod.address for pod in PODS if pod.address != picked)
    exchange.handle(ResponseHeaders(Headers([(":status", b"200")]), served=other))
    finish(world, exchange, other)
    assert world.in_flight() == [0, 0]
    assert world.served() == [int(pod.address == other) for pod in PODS]
    assert routed(world)[1] == other
    assert "infer_gateway_fallbacks_total 1.0" in world.page()


def test_a_pod_that_nobody_knows_any_more_changes_nothing() -> None:
    world = World()
    exchange, _ = routed(world)
    finish(world, exchange, "10.9.9.9:80")
    assert world.in_flight() == [0, 0]


def test_a_failed_request_takes_its_prefix_back() -> None:
    world = World()
    exchange, picked = routed(world)
    finish(world, exchange, picked, status=503)
    plugin = world.profile.plugins["prefix-cache"]
    assert plugin.index.entries == 0


def test_a_retry_that_failed_as_well_leaves_no_prefix() -> None:
    world = World()
    exchange, picked = routed(world)
    other = next(pod.address for pod in PODS if pod.address != picked)
    finish(world, exchange, other, status=503)
    assert world.profile.plugins["prefix-cache"].index.entries == 0
    assert world.served() == [int(pod.address == other) for pod in PODS]
    assert [row["failed_requests"] for row in world.store.statistics(world.now)] == [1, 1]


def failed(picked: str, served: str, attempts: int | None) -> list[str]:
    """Pods that count as failed, of a, b and c in this order."""
    pods = tuple([Pod(name) for name in "abc"])
    nothing = Snapshot.of(pods)
    decision = Decision(
        pods=pods, candidates=nothing, total=[0.0] * 3, scores={}, weights={}, filtered={}, uncached_tokens=0,
        prefix_match=None,
    )  # fmt: skip
    assert decision.pod.address == picked
    return _failed_before(decision, served, attempts)


@pytest.mark.parametrize(
    ("served", "attempts", "expected"),
    [
        ("a", 1, []),
        ("a", 3, []),  # it was tried again itself
        ("b", 2, ["a"]),
        ("c", 3, ["a", "b"]),
        # Envoy did not know the first, or the first two, yet.
        ("b", 1, []),
        ("c", 1, []),
        ("c", 2, ["b"]),
        ("c", 9, ["a", "b"]),
        # Envoy's own choice, when all of the list had failed.
        ("z", 4, ["a", "b", "c"]),
        ("z", 2, ["c"]),
        # Another gateway, which does not say.
        ("c", None, ["a"]),
    ],
)
def test_pods_at_which_a_request_was_tried_in_vain(served: str, attempts: int | None, expected: list[str]) -> None:
    assert failed("a", served, attempts) == expected


def test_an_answer_that_the_pod_broke_off_is_a_failure() -> None:
    world = World()
    for details in ("upstream_reset_after_response_started{connection_termination}", "downstream_remote_disconnect"):
        exchange, picked = routed(world)
        exchange.close()
        outcome = Outcome(status=200, served=picked, attempts=1, ttft=0.05, details=details)
        world.ledger.arrived(exchange._flight.key, outcome, world.now)
        row = next(row for row in world.store.statistics(world.now) if row["address"] == picked)
        broken = details.startswith("upstream")
        assert row["failed_requests"] == int(broken)
        world.now += 0.2
        row = next(row for row in world.store.statistics(world.now) if row["address"] == picked)
        assert (row["ttft"] is None) is broken


def test_a_pod_that_left_meanwhile_gets_no_series() -> None:
    world = World()
    exchange, picked = routed(world)
    world.store.set_pods([pod for pod in PODS if pod.address != picked], world.now)
    finish(world, exchange, picked)
    assert 'infer_gateway_requests_total{model="m",pod="gone",status="200"} 1.0' in world.page()


def test_an_end_is_told_of_as_of_the_end_and_not_of_its_log() -> None:
    world = World()
    world.pipeline.wall_clock = lambda: 1e9 + world.now
    exchange, picked = routed(world)
    world.now += 0.5
    exchange.close()
    world.now += 0.25
    world.ledger.arrived(exchange._flight.key, Outcome(status=200, served=picked), world.now)
    line = msgspec.json.decode(world.lines[0])
    assert (line["time"], line["seconds"]) == (1e9 + 100.5, 0.5)


def test_more_cached_tokens_than_there_are_is_none_to_compute() -> None:
    world = World()
    exchange, picked = routed(world)
    finish(world, exchange, picked, usage=TokenUsage(10, 20, 5))
    assert world.in_flight() == [0, 0]
    assert _computed(TokenUsage(10, 20, 5), world.pipeline.decisions._entries[-1][-1]) == 0


def test_a_fault_of_ours_at_the_end_is_not_the_logs(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    exchange, picked = routed(world)
    exchange.close()
    world.pipeline.clock = lambda: 1 / 0
    world.ledger.arrived(exchange._flight.key, Outcome(status=200, served=picked), world.now)
    assert [record.message for record in caplog.records] == ["internal error"]


@pytest.mark.parametrize("status", [200, 503])
def test_a_plugin_that_cannot_take_back_costs_nothing_else(caplog: pytest.LogCaptureFixture, status: int) -> None:
    class Stubborn:
        def picked(self, request: object, pod: object, cycle: object) -> Any:
            return lambda: 1 / 0

    world = World()
    world.profile.recorders.insert(0, Member("stubborn", PICKED, Stubborn().picked))
    exchange, picked = routed(world)
    other = next(pod.address for pod in PODS if pod.address != picked)
    finish(world, exchange, other if status == 200 else picked, status=status)
    assert [record.message for record in caplog.records] == ["what a plugin noted of a pick stays"]
    plugin = world.profile.plugins["prefix-cache"]
    assert plugin.index.entries == (9 if status == 200 else 0)
    assert f'status="{status}"}} 1.0' in world.page()


def test_an_outcome_that_comes_with_the_access_log() -> None:
    world = World()
    exchange, picked = routed(world)
    other = next(pod.address for pod in PODS if pod.address != picked)
    exchange.close()
    assert world.in_flight() == [0, 0]
    assert len(world.ledger) == 1
    world.now += 0.05
    world.ledger.arrived(exchange._flight.key, Outcome(status=200, served=other, attempts=2), world.now)
    assert len(world.ledger) == 0
    assert world.served() == [int(pod.address == other) for pod in PODS]
    assert routed(world)[1] == other
    assert f'infer_gateway_requests_total{{model="m",pod="{other}",status="200"}} 1.0' in world.page()


def test_an_outcome_that_never_comes() -> None:
    world = World()
    exchange, picked = routed(world)
    exchange.close()
    world.now += PATIENCE
    world.ledger.expire(world.now)
    assert f'infer_gateway_requests_total{{model="other",pod="{picked}",status="unknown"}} 1.0' in world.page()
    # Nobody said that it failed, so the pod is still taken to hold the prefix.
    assert routed(world)[1] == picked


def test_illegal_events_are_for_the_transport() -> None:
    exchange = World().pipeline.open()
    with pytest.raises(RemoteProtocolError):
        exchange.handle(body())
    exchange.close()
    assert "infer_gateway_streams 0.0" in World().page()


def test_a_prompt_does_not_wait_for_the_garbage_collector() -> None:
    world = World()
    exchange, picked = routed(world)
    gc.collect()
    finish(world, exchange, picked)
    del exchange
    assert gc.collect() == 0


def test_whoever_writes_requests_down_and_fails_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    world = World()

    class Broken:
        def ended(self, ended: object) -> None:
            raise OSError("disk full")

    world.pipeline.witnesses = [Broken(), *world.pipeline.witnesses]
    for number in range(3):
        exchange, picked = routed(world)
        finish(world, exchange, picked)
        assert len(world.lines) == number + 1, "the others are told"
    assert world.in_flight() == [0, 0]
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "disk full" in str(record.exc_info[1])


def test_a_pipeline_knows_its_own_keys() -> None:
    first, second = World().pipeline, World().pipeline
    assert not first.issued(first.next_key()[:-1] + "g")
    keys = [first.next_key() for _ in range(3)]
    assert all(map(first.issued, keys))
    assert not first.issued(f"{(int(keys[-1], 16) + 1) % 2**64:016x}")
    assert not first.issued(f"{int(keys[0], 16) - 2:016x}")
    second._keys = second._first_key = 2**64 - 2
    assert [second.issued(key) for key in (second.next_key(), second.next_key(), "0", "1")] == [True, True, True, False]


def test_what_is_checked_is_what_any_engine_takes_for_the_model() -> None:
    """Some JSON libraries take the first of two members, others the last."""
    identity = Identity("someone", "issuer", {}, frozenset({"m"}))
    for text, status in ((b'{"model":"secret","model":"m","prompt":"x"}', 400), (b'{"model":"m","prompt":"x"}', None)):
        exchange = World(FakeAuthenticator(identity)).pipeline.open()
        exchange.handle(head(path="/v1/completions", authorization="Bearer x"))
        (reply,) = exchange.handle(RequestBody(text, end_of_stream=True))
        assert isinstance(reply, RequestBodyReply if status is None else ImmediateReply)
        if isinstance(reply, ImmediateReply):
            assert reply.status == status
        exchange.close()
