from math import inf, isnan, nan

import numpy as np
import pytest

from scheduler.pool.columns import Columns, Measured
from scheduler.types import NO_ADAPTERS, Adapters, Pod

PODS = (Pod("10.0.0.1:80"), Pod("10.0.0.2:80"))
MINE = Adapters(running=frozenset({"a"}), capacity=2)


def test_nothing_is_known_at_first() -> None:
    columns = Columns(2)
    snapshot = columns.snapshot(PODS, 0.0, 100.0)
    for column in (snapshot.waiting, snapshot.running, snapshot.kv_usage, snapshot.ttft, snapshot.tpot):
        assert np.isnan(column).all()
    assert snapshot.adapters == (NO_ADAPTERS, NO_ADAPTERS)
    assert snapshot.in_flight.tolist() == snapshot.in_flight_tokens.tolist() == snapshot.served.tolist() == [0, 0]
    assert columns.known_until(0.0) == inf


def test_gauges_are_known_up_to_their_time() -> None:
    columns = Columns(2)
    for row, until in enumerate((5.0, 9.0)):
        columns.waiting[row], columns.running[row], columns.kv_usage[row] = 1, 2, 0.5
        columns.adapters[row] = MINE
        columns.gauges_until[row] = until
    for now, known, deadline in ((4.9, [True, True], 5.0), (5.0, [False, True], 9.0), (9.0, [False, False], inf)):
        snapshot = columns.snapshot(PODS, now, 0.0)
        for column in (snapshot.waiting, snapshot.running, snapshot.kv_usage):
            assert (~np.isnan(column)).tolist() == known
        assert [adapters == MINE for adapters in snapshot.adapters] == known
        assert columns.known_until(now) == deadline


@pytest.mark.parametrize(
    ("engine_at", "own_at", "now", "expected"),
    [
        (1.0, -inf, 2.0, 0.1),
        (-inf, 1.0, 2.0, 0.2),
        (1.0, 1.5, 2.0, 0.2),
        (1.5, 1.0, 2.0, 0.1),
        (1.0, 1.0, 2.0, 0.1),
        # Known for 10 seconds each.
        (1.0, 0.0, 10.5, 0.1),
        (0.0, 1.0, 10.5, 0.2),
        (1.0, 1.5, 11.2, 0.2),
        (1.0, 1.5, 12.0, nan),
        (-inf, -inf, 0.0, nan),
    ],
)
def test_the_newer_of_what_is_known(engine_at: float, own_at: float, now: float, expected: float) -> None:
    columns = Columns(1)
    for engine, own in ((columns.engine_ttft, columns.own_ttft), (columns.engine_tpot, columns.own_tpot)):
        engine.set(0, 0.1, engine_at, engine_at + 10)
        own.set(0, 0.2, own_at, own_at + 10)
    columns.own_slope[0] = columns.own_tokens[0] = 0.0
    snapshot = columns.snapshot(PODS[:1], now, 0.0)
    for value in (snapshot.ttft[0], snapshot.tpot[0]):
        assert value == expected or (isnan(value) and isnan(expected))


def test_own_ttft_is_told_for_one_length_of_prompt() -> None:
    columns = Columns(2)
    for row, (ttft, tokens, slope) in enumerate(((0.3, 200.0, 0.001), (0.5, 900.0, 0.002))):
        columns.own_ttft.set(row, ttft, 0.0, 10.0)
        columns.own_tokens[row], columns.own_slope[row] = tokens, slope
    assert columns.snapshot(PODS, 1.0, 500.0).ttft.tolist() == pytest.approx([0.6, 0.0])


def test_what_is_known_moves_with_a_pod_and_counters_do_not() -> None:
    old, new = Columns(2), Columns(1)
    old.waiting[1], old.gauges_until[1], old.adapters[1], old.in_flight[1] = 7, 10.0, MINE, 5
    old.engine_ttft.set(1, 0.4, 1.0, 10.0)
    new.copy_measured(0, old, 1)
    snapshot = new.snapshot(PODS[:1], 2.0, 0.0)
    assert (snapshot.waiting[0], snapshot.ttft[0], snapshot.adapters, snapshot.in_flight[0]) == (7, 0.4, (MINE,), 0)


def test_forget() -> None:
    columns = Columns(2)
    for row in range(2):
        columns.waiting[row], columns.gauges_until[row], columns.adapters[row], columns.in_flight[row] = (
            7,
            10.0,
            MINE,
            5,
        )
        columns.own_tpot.set(row, 0.4, 1.0, 10.0)
    columns.forget(0)
    snapshot = columns.snapshot(PODS, 2.0, 0.0)
    assert np.isnan(snapshot.waiting).tolist() == np.isnan(snapshot.tpot).tolist() == [True, False]
    assert snapshot.adapters == (NO_ADAPTERS, MINE)
    assert snapshot.in_flight.tolist() == [5, 5]


def test_measured_are_views() -> None:
    value, until, at = np.zeros(2), np.zeros(2), np.zeros(2)
    Measured(value, until, at).set(1, 1.0, 2.0, 3.0)
    assert (value.tolist(), at.tolist(), until.tolist()) == ([0, 1], [0, 2], [0, 3])
