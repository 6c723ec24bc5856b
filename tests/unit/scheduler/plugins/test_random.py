from support.snapshots import P, cycle, request, snapshot

from scheduler.framework import NoParams
from scheduler.plugins.random import Random


def test_score_is_uniform_and_seeded() -> None:
    plugin = Random(NoParams())
    pods = snapshot(*[P()] * 2000)
    scores = plugin.score(request(), pods, cycle(seed=4))
    assert scores.tolist() == plugin.score(request(), pods, cycle(seed=4)).tolist()
    assert scores.tolist() != plugin.score(request(), pods, cycle(seed=5)).tolist()
    assert 0 <= scores.min() < 2
    assert 98 < scores.max() <= 100
    assert 47 < scores.mean() < 53
    assert Random.alone
