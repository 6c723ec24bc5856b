"""How requests end: what is counted, learnt and taken back, without a socket."""

import gc
from typing import Any

import msgspec
import pytest
from support.pipeline_world import PODS, FakeAuthenticator, World, finish, routed

from extproc.auth.base import Identity
from extproc.outcome.ledger import PATIENCE
from extproc.outcome.outcome import Outcome
from extproc.protocol.events import (
    ResponseHeaders,
    TokenUsage,
)
from extproc.protocol.headers import Headers
from extproc.request.flight import _computed, _failed_before
from extproc.request.pipeline import Exchange
from scheduler.profile import PICKED, Member
from scheduler.types import Decision, Pod, Snapshot


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
        "time": 1e9, "request_id": "r-1", "path": "/v1/chat/completions", "model": "m", "pool": "default", "rewritten_model": None, "subject": "someone", "status": 200, "details": "",
        "picked": picked, "served": picked, "attempts": None, "score": 100.0, "cost": None, "prefix_match": 0.0, "seconds": 0.5, "decision_seconds": 0.0,
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


@pytest.mark.parametrize(
    ("status", "computed", "fails"),
    [
        (399, True, False), (400, False, False), (404, False, False), (429, False, False), (499, True, False),
        (500, False, True), (503, False, True),
    ],
)  # fmt: skip
def test_a_request_that_was_not_computed_takes_its_prefix_back(status: int, computed: bool, fails: bool) -> None:
    """And what the client did wrong is no failure of the pod."""
    world = World()
    exchange, picked = routed(world)
    entries = world.profile.plugins["prefix-cache"].index.entries
    assert entries
    finish(world, exchange, picked, status=status)
    assert world.profile.plugins["prefix-cache"].index.entries == (entries if computed else 0)
    failed_at = {row["address"]: row["failed_requests"] for row in world.store.statistics(world.now)}
    assert failed_at == {pod.address: int(fails and pod.address == picked) for pod in PODS}


@pytest.mark.parametrize("status", [499, 500])
def test_a_retry_that_was_answered_has_the_prefix_and_one_that_failed_has_none(status: int) -> None:
    world = World()
    exchange, picked = routed(world)
    entries = world.profile.plugins["prefix-cache"].index.entries
    other = next(pod.address for pod in PODS if pod.address != picked)
    finish(world, exchange, other, status=status)
    index = world.profile.plugins["prefix-cache"].index
    assert index.entries == (entries if status < 500 else 0)
    if status < 500:
        assert routed(world)[1] == other


def ended(world: World, exchange: Exchange, outcome: Outcome) -> None:
    """The stream is over, and the access log says how."""
    exchange.close()
    assert exchange._flight is not None
    world.ledger.arrived(exchange._flight.key, outcome, world.now)


def test_a_pod_that_is_full_is_left_alone_for_as_long_as_it_says() -> None:
    world = World()
    exchange, picked = routed(world)
    ended(world, exchange, Outcome(status=429, served=picked, attempts=1, retry_after=7.0))
    others = {pod.address for pod in PODS} - {picked}
    world.now += 6.9
    assert {routed(world)[1] for _ in range(20)} == others
    world.now += 0.2
    assert world.store.snapshot(world.now).refusing is None


def test_characters_per_token_are_learnt_from_usage() -> None:
    world = World()
    for _ in range(500):
        exchange, picked = routed(world)
        assert exchange._flight is not None
        request, tokens = exchange._flight._request, 0
        assert request is not None
        tokens = request.prompt.tokens
        finish(world, exchange, picked, usage=TokenUsage(request.prompt.length // 2, 0, 5))
    # Every second character is a token.
    assert tokens == pytest.approx(request.prompt.length / 2, rel=0.05)


def test_a_pod_that_does_not_know_the_model_is_not_asked_for_it() -> None:
    world = World()
    exchange, picked = routed(world)
    ended(world, exchange, Outcome(status=404, served=picked, attempts=1))
    assert picked not in {routed(world)[1] for _ in range(20)}


@pytest.mark.parametrize("status", [500, 503])
def test_a_retry_that_failed_as_well_leaves_no_prefix(status: int) -> None:
    world = World()
    exchange, picked = routed(world)
    other = next(pod.address for pod in PODS if pod.address != picked)
    finish(world, exchange, other, status=status)
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
    world.pipeline.context.wall_clock = lambda: 1e9 + world.now
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
    world.pipeline.context.clock = lambda: 1 / 0
    world.ledger.arrived(exchange._flight.key, Outcome(status=200, served=picked), world.now)
    assert [record.message for record in caplog.records] == ["a request's outcome is lost"]


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

        refused = ended

    world.pipeline.context.witnesses = [Broken(), *world.pipeline.context.witnesses]
    for number in range(3):
        exchange, picked = routed(world)
        finish(world, exchange, picked)
        assert len(world.lines) == number + 1, "the others are told"
    assert world.in_flight() == [0, 0]
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "disk full" in str(record.exc_info[1])
