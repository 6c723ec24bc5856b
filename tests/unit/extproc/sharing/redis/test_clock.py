import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.sharing.redis.clock import DRIFT, ServerClock, before, milliseconds_of, order


def test_an_answer_tells_the_difference() -> None:
    clock = ServerClock()
    clock.answered(1_000_000, 50.0)
    assert clock.local(999_000, 60.0) == pytest.approx(49.0)
    # Nothing was sent in the future.
    assert clock.local(1_020_000, 60.0) == 60.0


def test_the_quickest_answer_is_nearest_to_the_truth() -> None:
    clock = ServerClock()
    clock.answered(1_000_000, 50.010)
    clock.answered(1_001_000, 51.001)
    clock.answered(1_002_000, 52.500)
    assert clock.local(1_002_000, 99.0) == pytest.approx(52.001, abs=1.6 * DRIFT)


def test_clocks_that_drift_are_followed() -> None:
    clock = ServerClock()
    for second in range(1000):
        clock.answered(int(second * 1000 * (1 - DRIFT / 2)), float(second))
    assert clock.local(int(999_000 * (1 - DRIFT / 2)), 2000.0) == pytest.approx(999.0, abs=0.01)


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_a_clock_that_is_set_is_followed_at_once(jump: float) -> None:
    clock = ServerClock()
    clock.answered(10_000_000, 50.0)
    clock.answered(10_000_000 + int((1 + jump) * 1000), 51.0)
    assert clock.local(10_000_000 + int((1 + jump) * 1000), 60.0) == pytest.approx(51.0, abs=0.01)


@given(st.integers(0, 1 << 50), st.integers(0, 1 << 60))
def test_ids_are_in_order(milliseconds: int, sequence: int) -> None:
    entry = b"%d-%d" % (milliseconds, sequence)
    assert milliseconds_of(entry) == milliseconds
    assert order(entry) == (milliseconds, sequence)
    assert order(before(entry, 1.5)) == (max(milliseconds - 1500, 0), 0)


@pytest.mark.parametrize("entry", [b"", b"x", b"-1"])
def test_what_is_no_id(entry: bytes) -> None:
    with pytest.raises(ValueError, match="."):
        order(entry)
