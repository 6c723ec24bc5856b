from support.snapshots import P, cycle, request, snapshot

from scheduler.framework import NoParams
from scheduler.plugins.running_requests import RunningRequests


def test_score() -> None:
    plugin = RunningRequests(NoParams())
    pods = snapshot(P(0, 10), P(9, 30), P(0, 15), P(0))
    assert plugin.score(request(), pods, cycle()).tolist() == [100, 0, 75, 50]
    assert plugin.score(request(), snapshot(P(0, 7), P(3, 7)), cycle()).tolist() == [100, 100]
