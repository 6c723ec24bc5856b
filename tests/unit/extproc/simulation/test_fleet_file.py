from math import inf
from pathlib import Path

import pytest

from extproc.errors import GatewayError
from extproc.simulation.fleet_file import plan_of
from extproc.simulation.run import FleetPlan


def fleet(tmp_path: Path, text: str) -> FleetPlan:
    path = tmp_path / "fleet.yaml"
    path.write_text(text, encoding="utf-8")
    return plan_of(str(path), 8, "8b-h100", 2, 0.01)


def test_without_a_file_pods_are_alike() -> None:
    plan = plan_of(None, 3, "32b-2xh100", 1, None)
    assert [pod.name for pod in plan.pods] == ["pod-1", "pod-2", "pod-3"]
    assert {pod.engine.num_blocks for pod in plan.pods} == {307_328 // 16}
    assert plan.delay is None


def test_pods_differ_join_leave_and_fail(tmp_path: Path) -> None:
    plan = fleet(
        tmp_path,
        """
        discoveryDelay: 2s
        pods:
        - {count: 2, name: h100, labels: {zone: a}}
        - {name: a100, speed: 0.5, joins: 1m, leaves: 2m}
        - {name: own, engine: {prefillTokensPerSecond: 1000, kvTokens: 1600}, fails: 10s, returns: 20s}
        """,
    )
    one, two, slow, own = plan.pods
    assert (one.name, two.name, slow.name, own.name) == ("h100-1", "h100-2", "a100-3", "own-4")
    assert one.labels == {"zone": "a"}
    assert slow.engine.profile.per_prompt_token == 2 * one.engine.profile.per_prompt_token
    assert (slow.joins, slow.leaves, slow.fails, own.fails, own.returns) == (60.0, 120.0, inf, 10.0, 20.0)
    assert (own.engine.profile.per_prompt_token, own.engine.num_blocks) == (0.001, 100)
    assert (plan.discovery_delay, plan.gateways, plan.delay) == (2.0, 2, 0.01)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "cannot be read"),
        ("{}", "pods"),
        ("pods: []", "pods"),
        ("pods: [{count: 0}]", "pods.0.count"),
        ("pods: [{speed: 0}]", "pods.0.speed"),
        ("pods: [{colour: red}]", "pods.0.colour"),
        ("pods: [{joins: soon}, {leaves: -1}]", "pods.1.leaves"),
        ("pods: [{fails: 20s, returns: 10s}]", "returns before it fails"),
        ("pods: [{returns: 10s}]", "returns before it fails"),
        ("pods: [{engine: gpu}]", "there is no engine 'gpu': 8b-h100"),
        ("pods: [{engine: {kvTokens: 1}}]", "num_blocks"),
        ("pods: [{engine: {prefillTokensPerSecond: 0}}]", "greater than 0"),
        ("pods: [{engine: {speed: 1}}]", "speed"),
        ("pods: [{count: 4096}, {}]", "more than 4096 pods"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(GatewayError) as caught:
        fleet(tmp_path, text)
    assert said in str(caught.value)


def test_an_engine_may_be_in_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "engine.yaml"
    path.write_text("interToken: 0.02\n", encoding="utf-8")
    assert plan_of(None, 1, str(path), 1, None).pods[0].engine.profile.inter_token == 0.02
    path.write_text("- 1\n", encoding="utf-8")
    with pytest.raises(GatewayError, match=r"engine\.yaml"):
        plan_of(None, 1, str(path), 1, None)
