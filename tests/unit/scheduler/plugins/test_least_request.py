import pytest
from support.snapshots import P, cycle, request, snapshot

from scheduler.plugins.least_request import LeastRequest, LeastRequestParams

NAN = float("nan")


@pytest.mark.parametrize(("limit", "kept"), [(10, [True, False, False, True]), (11, [True, True, False, True])])
def test_pods_that_queue_are_dropped(limit: int, kept: list[bool]) -> None:
    plugin = LeastRequest(LeastRequestParams(max_waiting_requests=limit))
    pods = snapshot(P(9), P(10), P(11), P(NAN))
    assert plugin.keep(request(), pods, cycle()).tolist() == kept


@pytest.mark.parametrize(
    ("pods", "scores"),
    [
        # All idle.
        ([P(), P(running=0)], [100, 100]),
        # In-flight alone where all of it runs.
        ([P(in_flight=5, running=5), P(in_flight=10, running=10), P(running=3)], [50, 0, 100]),
        # Two not started weigh as 200: 2 + 200 against 101.
        ([P(in_flight=2, running=0), P(in_flight=101, running=101)], [0, 50]),
        # Others' requests run there too: nothing of ours waits.
        ([P(in_flight=2, running=50), P(in_flight=4, running=50)], [50, 0]),
        # Unknown `running`: the second term is 0.
        ([P(in_flight=2), P(in_flight=4)], [50, 0]),
        ([P(in_flight=3), P(in_flight=3)], [0, 0]),
    ],
)
def test_score(pods: list[P], scores: list[float]) -> None:
    plugin = LeastRequest(LeastRequestParams())
    assert plugin.score(request(), snapshot(*pods), cycle()).tolist() == scores


def test_live_counters_are_read_at_each_request() -> None:
    plugin = LeastRequest(LeastRequestParams())
    pods = snapshot(P(running=0), P(running=0))
    assert plugin.score(request(), pods, cycle()).tolist() == [100, 100]
    pods.in_flight[0] += 1
    assert plugin.score(request(), pods, cycle()).tolist() == [0, 100]
    assert pods.in_flight.tolist() == [1, 0]
