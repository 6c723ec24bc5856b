"""`costs_of` for few pods and for many; what the parts mean is in plugins/test_least_cost.py."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.snapshots import fleets, snapshot

from scheduler import cost
from scheduler.cost import Prices, costs_of
from scheduler.types import Costs

PRICES = Prices(0.4, 0.05, 0.7, 10.0)


@given(fleets(most=16), st.floats(0, 1e6), st.floats(0, 1), st.floats(-1, 100), st.data())
def test_few_and_many_are_counted_alike(
    rows: list, tokens: float, share: float, now: float, data: st.DataObject
) -> None:
    held = np.full(len(rows), tokens * share) if data.draw(st.booleans()) else None
    few, few_scores = costs_of(PRICES, snapshot(*rows), tokens, held, now, 1.0)
    many, many_scores = cost._of_many(PRICES, snapshot(*rows), tokens, held, now, 1.0)
    np.testing.assert_allclose(few_scores, many_scores)
    for row in range(len(rows)):
        one, other = few.of(row), many.of(row)
        one.pop("words"), other.pop("words")
        assert one == pytest.approx(other, abs=2e-3)
        assert min(one.values()) >= 0


def test_in_words() -> None:
    costs = Costs([0.8, 0.0], [1.2, 0.01], [0.3, 0.0], [0.0, 0.0])
    assert costs.of(0)["words"] == "waits 0.8 s, computes 1.2 s, others wait 0.3 s"
    assert costs.of(0)["seconds"] == 2.3
    assert costs.of(1) == {
        "seconds": 0.01,
        "waits": 0.0,
        "computes": 0.01,
        "others_wait": 0.0,
        "room": 0.0,
        "words": "less than 0.1 s",
    }
