from math import nan

import pytest
from support.snapshots import P, snapshot

from scheduler.config import BOUNDS, Bounds
from scheduler.overload import overloaded


@pytest.mark.parametrize(
    ("pods", "over"),
    [
        ([], False),
        ([P(waiting=5)], True),
        ([P(waiting=4, kv=0.79)], False),
        ([P(waiting=0, kv=0.8), P(waiting=9, kv=0)], True),
        ([P(waiting=9), P(waiting=0, kv=0)], False),
        # Not known is not over.
        ([P(waiting=9), P(waiting=nan, kv=nan)], False),
    ],
)
def test_every_pod_is_over_a_bound(pods: list[P], over: bool) -> None:
    assert overloaded(snapshot(*pods), BOUNDS) is over


def test_bounds() -> None:
    assert overloaded(snapshot(P(waiting=1)), Bounds(waiting=1))
    assert not overloaded(snapshot(P(waiting=5)), Bounds(waiting=6))
