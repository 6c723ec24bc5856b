import pytest
from support.snapshots import P, cycle, request, snapshot

from scheduler.framework import NoParams
from scheduler.plugins.kv_cache import KvCache


def test_score() -> None:
    pods = snapshot(P(kv=0), P(kv=0.25), P(kv=1), P(), P(kv=1.01), P(kv=-0.1))
    assert KvCache(NoParams()).score(request(), pods, cycle()).tolist() == pytest.approx([100, 75, 0, 50, 0, 100])
