"""`costs_of` for few pods and for many; what the parts mean is in plugins/test_least_cost.py."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.snapshots import fleets, snapshot

from scheduler import cost
from scheduler.cost import Prices, costs_of

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
        assert few.of(row) == pytest.approx(many.of(row), abs=2e-3)
        assert min(few.of(row).values()) >= 0
