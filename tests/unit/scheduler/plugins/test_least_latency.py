from random import Random

import pytest
from support.snapshots import P, cycle, request, snapshot

from scheduler.cycle import schedule
from scheduler.plugins.least_latency import LeastLatency, LeastLatencyParams
from scheduler.profile import Profile

FAST_FIRST = P(ttft=0.1, tpot=0.05)
FAST_AFTER = P(ttft=0.3, tpot=0.01)
HALF_WAY = P(ttft=0.2, tpot=0.03)


@pytest.mark.parametrize(
    ("factor", "pods", "scores"),
    [
        # Twice as long, half of the points.
        (1.0, [FAST_FIRST, FAST_AFTER, HALF_WAY], [100, 100 / 3, 50]),
        (0.0, [FAST_FIRST, FAST_AFTER, HALF_WAY], [20, 100, 100 / 3]),
        (0.5, [FAST_FIRST, FAST_AFTER], [60, 200 / 3]),
        (0.75, [FAST_FIRST, FAST_AFTER], [80, 50]),
        # All equal.
        (0.5, [HALF_WAY, HALF_WAY], [100, 100]),
        # A difference of milliseconds is no reason.
        (1.0, [P(ttft=0.200), P(ttft=0.204)], [100, 100 / 1.02]),
        # Unknown: 50, each metric for itself.
        (0.5, [FAST_FIRST, P()], [100, 50]),
        (0.5, [FAST_FIRST, P(ttft=0.2), P()], [100, 50, 50]),
        # 0 s was not measured.
        (1.0, [FAST_FIRST, P(ttft=0.0)], [100, 50]),
    ],
)
def test_score(factor: float, pods: list[P], scores: list[float]) -> None:
    plugin = LeastLatency(LeastLatencyParams(weight_factor=factor))
    assert plugin.score(request(), snapshot(*pods), cycle()).tolist() == pytest.approx(scores)


def test_two_of_one_fleet_keep_their_own() -> None:
    pods = snapshot(FAST_FIRST, FAST_AFTER)
    plugins = {"a": LeastLatency(LeastLatencyParams()), "b": LeastLatency(LeastLatencyParams(weight_factor=1.0))}
    profile = Profile(plugins=plugins, scorers=[("a", 1), ("b", 1)])
    for _ in range(2):
        scores = schedule(profile, request(), pods, now=0.0, rng=Random(1)).scores
        assert scores["a"].tolist() == pytest.approx([60, 200 / 3])
        assert scores["b"].tolist() == pytest.approx([100, 100 / 3])
