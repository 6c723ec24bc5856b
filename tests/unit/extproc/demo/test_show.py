"""The demo's output."""

from typing import Any

import pytest

from extproc.demo.show import report, stays, table, why
from extproc.demo.workload import Served


def row(pod: str, total: float, **scores: float) -> dict[str, Any]:
    return {"pod": pod, "total": total, "scores": {name.replace("_", "-"): score for name, score in scores.items()}}


def served(turn: int, pod: str, *, conversation: str = "support-0", streamed: bool = False, error: str = "") -> Served:
    one = Served(conversation, turn, "id", streamed, status=503 if error else 200, seconds=1.2345, pod=pod, error=error)
    one.prompt_tokens, one.cached_tokens = 123_456, 98_765
    one.decision = [row("a", 2, least_request=100, prefix_cache=90), row("b", 1, least_request=100, prefix_cache=0)]
    return one


def test_pods_and_numbers_are_whole_on_80_columns() -> None:
    name = "pod-with-a-long-name-0"
    text = table([served(1, name), served(2, name, streamed=True)])
    assert text.count(name) == 2
    assert text.count("123456") == text.count("98765") == 2
    assert text.count("prefix-cache 90 vs 0") == 2
    lines = text.splitlines()
    assert [
        line.startswith(start) for line, start in zip(lines, ("turn", "support-0 #1 ", "support-0 #2 SSE"), strict=True)
    ] == [True] * 3
    assert max(map(len, table([served(1, "pod-1")]).splitlines())) <= 80


def test_a_failure_has_its_text_on_a_line_of_its_own() -> None:
    text = table([served(1, "", error="no pod is ready")])
    assert "503 failed" in text
    assert text.splitlines()[-1] == "support-0 #1: no pod is ready"


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        ([], ""),
        ([row("a", 1, queue=1)], "the only one"),
        ([row("a", 1, queue=1), row("b", 1, queue=1), row("c", 0, queue=0)], "one of 2 equals"),
        (
            [
                row("a", 100, least_cost=100) | {"cost": {"seconds": 0.0124}},
                row("b", 9, least_cost=9) | {"cost": {"seconds": 1.5}},
            ],
            "costs 12 ms, elsewhere 1500",
        ),
        ([row("a", 3, queue=50, kv_cache=60), row("b", 1, queue=40, kv_cache=10)], "kv-cache 60 vs 10"),
    ],
)
def test_why(decision: list[dict[str, Any]], words: str) -> None:
    assert why(decision) == words


def test_how_many_turns_stay() -> None:
    turns = [
        served(1, "a"),
        served(1, "b", conversation="x"),
        served(2, "a"),
        served(2, "a", conversation="x"),
        served(3, "b"),
    ]
    assert stays(turns) == "1 of 3 later turns went to the pod that holds their conversation."
    assert stays(turns, 2).endswith("conversation, each through another of 2 gateways than the turn before.")


def test_report() -> None:
    told = report([served(1, "a"), served(2, "", error="x")], {"gateway": "127.0.0.1:1"})
    assert (told["gateway"], told["failed"], len(told["requests"])) == ("127.0.0.1:1", 1, 2)
    assert told["requests"][0]["milliseconds"] == 1234.5
