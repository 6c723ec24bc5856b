import random

import msgspec
import pytest
from support.snapshots import P, snapshot

from extproc.telemetry.decision_log import DecisionLog
from scheduler.builder import build
from scheduler.config import SchedulerConfig
from scheduler.cycle import schedule
from scheduler.registry import in_tree_registry
from scheduler.types import Decision, Prompt, Request

REQUEST = Request(id="r", model="m", prompt=Prompt(["text"]))


def decision() -> Decision:
    profile, _ = build(SchedulerConfig(), in_tree_registry())
    return schedule(profile, REQUEST, snapshot(P(), P()), now=0.0, rng=random.Random(1))


def test_the_newest_comes_first_and_old_ones_go() -> None:
    log = DecisionLog(2)
    made = decision()
    for at in (1.0, 2.0, 3.0):
        log.add(at, REQUEST, made)
    assert [row["time"] for row in log.rows(10)] == [3.0, 2.0]
    assert [row["time"] for row in log.rows(1)] == [3.0]
    assert list(log.rows(0)) == []
    row = next(log.rows(1))
    assert row["request_id"] == "r"
    assert row["pods"] == [pod.address for pod in made.pods]
    assert set(row["candidates"][0]["scores"]) == {"least-request", "kv-cache", "least-latency", "prefix-cache"}


def test_no_prompt_is_kept() -> None:
    log = DecisionLog(1)
    log.add(1.0, Request(prompt=Prompt(["secret words"])), decision())
    assert "secret" not in str(list(log.rows(1)))


def test_none_are_kept_where_none_are_wanted() -> None:
    log = DecisionLog(0)
    log.add(1.0, REQUEST, decision())
    assert list(log.rows(5)) == []


def test_matches_are_means_by_pod() -> None:
    log = DecisionLog(10)
    profile, _ = build(SchedulerConfig(), in_tree_registry())
    assert log.matches() == {}
    asked = Request(prompt=Prompt(["text " * 100]))
    for at in (1.0, 2.0, 3.0):
        log.add(at, asked, schedule(profile, asked, snapshot(P()), now=at, rng=random.Random(1)))
    assert log.matches() == {next(log.rows(1))["pods"][0]: pytest.approx(2 / 3)}


def test_decisions_without_a_match_are_left_out() -> None:
    log = DecisionLog(10)
    log.add(1.0, REQUEST, msgspec.structs.replace(decision(), prefix_match=None))
    assert log.matches() == {}


def test_the_pool_and_both_names_are_told() -> None:
    log = DecisionLog(2)
    log.add(1.0, REQUEST, decision())
    log.add(2.0, REQUEST, decision(), model="asked", pool="small")
    rows = [(row["model"], row["rewritten_model"], row["pool"]) for row in log.rows(2)]
    assert rows == [("asked", "m", "small"), ("m", None, "")]
