from hypothesis import given
from hypothesis import strategies as st

from scheduler.pool.trouble import FIRST_REST, MAX_REST, TRIP, Trouble


def tripped() -> Trouble:
    trouble = Trouble()
    assert [trouble.failed(0.0) for _ in range(TRIP)] == [False] * (TRIP - 1) + [True]
    return trouble


def test_a_few_failures_are_no_trouble_yet() -> None:
    trouble = Trouble()
    for _ in range(TRIP - 1):
        assert not trouble.failed(0.0)
    assert trouble.succeeded()
    assert not trouble.succeeded()
    assert not trouble.failed(0.0)


def test_it_rests_and_is_tried_again() -> None:
    trouble = tripped()
    assert trouble.until == FIRST_REST
    # What was under way when the rest began fails too, and changes nothing.
    assert not trouble.failed(FIRST_REST / 2)
    assert trouble.until == FIRST_REST
    assert trouble.failed(FIRST_REST)
    assert trouble.until == FIRST_REST + 2 * FIRST_REST
    assert trouble.succeeded()
    assert (trouble.failures, trouble.rest, trouble.until) == (0, 0.0, 0.0)


def test_rests_grow_up_to_a_bound() -> None:
    trouble = tripped()
    for _ in range(20):
        assert trouble.failed(trouble.until)
    assert trouble.rest == MAX_REST


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10))))
def test_whatever_happens_a_success_ends_it(steps: list[tuple[bool, float]]) -> None:
    trouble, now = Trouble(), 0.0
    for fails, pause in steps:
        now += pause
        if fails:
            trouble.failed(now)
        else:
            trouble.succeeded()
        assert trouble.until <= now + MAX_REST
    trouble.succeeded()
    assert trouble.until == 0.0
