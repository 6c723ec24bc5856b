from support.snapshots import P, cycle, request, snapshot

from scheduler.framework import NoParams
from scheduler.plugins.queue import Queue


def test_score() -> None:
    plugin = Queue(NoParams())
    assert plugin.score(request(), snapshot(P(2), P(6), P(4), P()), cycle()).tolist() == [100, 0, 50, 50]
    assert plugin.score(request(), snapshot(P(2), P(2)), cycle()).tolist() == [100, 100]
