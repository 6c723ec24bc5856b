import pytest
from support.snapshots import P, cycle, request, snapshot

from scheduler.plugins.least_cost import LeastCost, LeastCostParams

PLUGIN = LeastCost(LeastCostParams())
#: 39,996 characters are 10,000 tokens: a second, at 0.0001 s each.
TEXT = "x" * 39_996
#: Pods that cost more than any other here, to have more than are looked at one by one.
CROWD = [P(backlog=1e6)] * 20


def costs(*rows: P, match: list[float] | None = None, now: float = 0.0, plugin: LeastCost = PLUGIN) -> list[float]:
    """Seconds at each pod; few and many pods are counted alike."""
    found = []
    for crowd in ([], CROWD):
        made = cycle(None if match is None else [*match, *[0.0] * len(crowd)], now=now)
        scores = plugin.score(request(TEXT), snapshot(*rows, *crowd), made)
        assert made.costs is not None
        sums = [made.costs.of(row)["seconds"] for row in range(len(rows))]
        assert scores[: len(rows)].tolist() == pytest.approx([100 / (1 + one - min(sums)) for one in sums], abs=0.2)
        found.append(sums)
    assert found[0] == pytest.approx(found[1])
    return found[0]


def test_the_wait_for_prefill_that_is_ahead() -> None:
    assert costs(P(backlog=2.5), P()) == [3.5, 1.0]


def test_the_backlog_shrinks_as_time_passes_and_never_below_nothing() -> None:
    assert costs(P(backlog=2.5), P(backlog=0.5), now=2.0) == [2.0, 1.0]


def test_its_own_prefill_where_the_cache_does_not_hold_it() -> None:
    assert costs(P(), P(), P(pace=3e-4), match=[0.0, 0.75, 0.75]) == [1.0, 0.25, 0.75]


def test_those_in_flight_are_held_up_by_it() -> None:
    assert costs(P(in_flight=3), P(in_flight=3), match=[0.0, 1.0]) == pytest.approx([1 + 3 * (0.4 + 0.05), 3 * 0.05])


def test_requests_that_others_sent_to_the_engine_count_as_well() -> None:
    assert costs(P(in_flight=1, running=3), P(in_flight=3, running=1)) == [2.35, 2.35]


def test_the_wait_for_room_in_the_cache() -> None:
    assert costs(P(kv=0.7), P(kv=0.9), P()) == pytest.approx([1.0, 3.0, 1.0])


def test_every_constant_can_be_given() -> None:
    params = LeastCostParams.model_validate(
        {
            "interferenceShare": 1.0,
            "requestSeconds": 0.5,
            "kvUsageFrom": 0.5,
            "kvUsageSeconds": 2.0,
            "halfScoreSeconds": 1.0,
        }
    )
    assert costs(P(in_flight=1, kv=1.0), plugin=LeastCost(params)) == [1 + 1 + 0.5 + 1]


def test_half_the_score_at_that_many_seconds_above_the_least() -> None:
    plugin = LeastCost(LeastCostParams(half_score=2.0))
    scores = plugin.score(request(TEXT), snapshot(P(backlog=5.0), P(backlog=7.0), P(backlog=11.0)), cycle())
    assert scores.tolist() == pytest.approx([100, 50, 25])
