from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.pool.pace import LEAST, MOST, UNKNOWN, Pace


def test_before_anything_was_seen() -> None:
    assert Pace().value == UNKNOWN
    assert Pace().beside(Pace()) == UNKNOWN


def test_follows_the_rate_whatever_prompts_are_long() -> None:
    pace, rng = Pace(), Random(1)
    for _ in range(200):
        tokens = rng.randrange(500, 20_000)
        pace.observe(0.03 + tokens * 2.25e-4, tokens)
    assert pace.value == pytest.approx(2.3e-4, rel=0.1)


def test_a_few_requests_that_waited_for_something_else_do_not_matter() -> None:
    pace, rng = Pace(), Random(1)
    for number in range(200):
        tokens = rng.randrange(500, 20_000)
        pace.observe(30.0 if number % 5 == 0 else tokens * 1e-4, tokens)
    assert pace.value == pytest.approx(1e-4, rel=0.25)


def test_nor_where_most_did() -> None:
    pace, rng = Pace(), Random(1)
    for _ in range(300):
        tokens = rng.randrange(500, 20_000)
        pace.observe(tokens * 1e-4 + (30.0 if rng.random() < 0.6 else 0.0), tokens)
    assert pace.value < 4e-4


def test_short_prompts_say_little_of_the_pace() -> None:
    pace = Pace()
    pace.observe(1.0, 10_000)
    for _ in range(10):
        pace.observe(0.04, 10)
    assert pace.value < 1.5e-4


def test_pods_that_are_alike_count_alike() -> None:
    pooled, one, other = Pace(), Pace(), Pace()
    for _ in range(4):
        pooled.observe(1.0, 10_000)
        one.observe(1.1, 10_000)
        other.observe(3.0, 10_000)
    assert one.beside(pooled) == pooled.value
    assert other.beside(pooled) == pytest.approx(3e-4)


@given(st.lists(st.tuples(st.floats(allow_nan=True, allow_infinity=True), st.integers(-5, 10**9))))
def test_stays_within_its_bounds(observations: list[tuple[float, int]]) -> None:
    pace = Pace()
    for seconds, tokens in observations:
        pace.observe(seconds, tokens)
        assert LEAST <= pace.value <= MOST
