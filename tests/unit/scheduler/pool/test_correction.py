import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.pool.correction import corrected

nan = math.nan
counts = st.integers(0, 50)


@pytest.mark.parametrize(
    ("waiting", "running", "seen", "in_flight", "expected"),
    [
        # No queue: what was sent is being computed, what ended is not.
        (0, 3, 3, 3, (0, 3)),
        (0, 3, 3, 8, (0, 8)),
        (0, 3, 3, 1, (0, 1)),
        (0, 10, 3, 1, (0, 8)),  # others' requests too
        (0, 0, 5, 0, (0, 0)),
        # Requests that were on their way at the scrape.
        (0, 3, 5, 5, (0, 5)),
        (0, 3, 5, 7, (0, 7)),
        # A queue: what was sent waits, what ended lets others go on.
        (4, 8, 12, 12, (4, 8)),
        (4, 8, 12, 15, (7, 8)),
        (4, 8, 12, 10, (2, 8)),
        (4, 8, 12, 8, (0, 8)),
        (4, 8, 12, 6, (0, 6)),
        (4, 8, 20, 0, (0, 0)),
        # Unknown stays unknown.
        (nan, 3, 5, 6, (nan, 4)),
        (nan, 3, 5, 0, (nan, 0)),
        (0, nan, 0, 5, (0, nan)),
        (4, nan, 0, 5, (9, nan)),
        (4, nan, 9, 0, (0, nan)),
        (nan, nan, 0, 5, (nan, nan)),
    ],
)
def test_rule(waiting: float, running: float, seen: int, in_flight: int, expected: tuple[float, float]) -> None:
    assert corrected(waiting, running, seen, in_flight) == pytest.approx(expected, nan_ok=True)


@given(running=counts, seen=counts, sent=counts)
def test_without_a_queue_no_request_sent_since_looks_queued(running: int, seen: int, sent: int) -> None:
    in_flight = seen + sent
    _, now = corrected(0.0, running, seen, in_flight)
    # least-request takes what is in flight beyond `running` for queued.
    assert max(in_flight - now, 0) == 0


@given(waiting=st.integers(1, 50), running=counts, sent=counts)
def test_with_a_queue_each_request_sent_since_is_queued(waiting: int, running: int, sent: int) -> None:
    seen = waiting + running
    after, now = corrected(waiting, running, seen, seen + sent)
    assert after == seen + sent - now == waiting + sent


@given(waiting=counts, running=counts, seen=counts, in_flight=counts)
def test_never_negative(waiting: int, running: int, seen: int, in_flight: int) -> None:
    assert min(corrected(waiting, running, seen, in_flight)) >= 0
