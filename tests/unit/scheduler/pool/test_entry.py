import pytest

from scheduler.pool.entry import Entry, is_another, statistics
from scheduler.pool.estimate import PooledSlope
from scheduler.pool.store import PodStore
from scheduler.types import Pod

ADDRESS = "127.0.0.1:80"


@pytest.mark.parametrize(
    ("before", "now", "another"),
    [
        ("a", "b", True),
        ("a", "a", False),
        ("", "b", False),
        ("a", "", False),
        (ADDRESS, "b", False),
        ("a", ADDRESS, False),
    ],
)
def test_an_address_that_was_given_to_another_pod(before: str, now: str, another: bool) -> None:
    """Only where both names are known, and are more than the address again."""
    assert is_another(Pod(ADDRESS, name=before), Pod(ADDRESS, name=now)) is another


def test_a_pod_that_is_not_in_the_pool_is_known_by_its_requests_alone() -> None:
    store = PodStore(2.0)
    entry = Entry(Pod(ADDRESS), PooledSlope())
    entry.in_flight = 3
    row = statistics(entry, store.snapshot(0.0), 0.0, 0.0)
    assert (row["ready"], row["in_flight"], row["waiting"], row["ttft"], row["scrape_age"]) == (
        False,
        3,
        None,
        None,
        None,
    )


def test_the_longest_rest_counts() -> None:
    store = PodStore(2.0)
    store.set_pods([Pod(ADDRESS)], 0.0)
    entry = Entry(Pod(ADDRESS), PooledSlope())
    entry.row = 0
    assert statistics(entry, store.snapshot(10.0), 10.0, 14.0)["resting_for"] == 4.0
    assert statistics(entry, store.snapshot(10.0), 10.0, 3.0)["resting_for"] == 0.0


def test_what_was_measured_is_forgotten_and_requests_are_not() -> None:
    entry = Entry(Pod(ADDRESS), PooledSlope())
    entry.in_flight, entry.served, entry.failures, entry.error = 2, 5, 3, "refused"
    entry.forget()
    assert (entry.in_flight, entry.served, entry.failures, entry.error) == (2, 5, 0, "")
