import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.auth.freshness import MAX_LIFETIME, MAX_RETRY, MIN_LIFETIME, lifetime, retry_delay

DAY = 86400.0


@pytest.mark.parametrize(
    ("cache_control", "age", "seconds"),
    [
        ("", "", 300),
        ("public", "", 300),
        ("max-age=600", "", 600),
        ("public, Max-Age=600, must-revalidate", "", 600),
        ('max-age="600"', "", 600),
        ("max-age = 600", "", 600),
        ("max-age=600", "250", 350),
        ("max-age=600", "4000", 30),
        ("max-age=600", "x", 600),
        ("max-age=0", "", 30),
        ("max-age=1", "", 30),
        ("no-store", "", 30),
        ("max-age=600, no-cache", "", 30),
        ('no-cache="set-cookie"', "", 30),
        ("max-age=9999999999", "", 86400),
        ("s-maxage=600", "", 300),
        ("x-max-age=600", "", 300),
        ("max-age=-1", "", 300),
        ("max-age=many", "", 300),
    ],
)
def test_lifetime(cache_control: str, age: str, seconds: float) -> None:
    assert lifetime(cache_control, age, 7 * DAY) == seconds


def test_a_set_is_refreshed_before_it_is_too_old() -> None:
    assert lifetime("max-age=86400", "", DAY) == DAY / 2
    assert lifetime("", "", 60.0) == 30.0


@given(st.text(), st.text())
def test_no_header_leads_out_of_the_bounds(cache_control: str, age: str) -> None:
    assert MIN_LIFETIME <= lifetime(cache_control, age, 7 * DAY) <= MAX_LIFETIME


def test_retries_slow_down_to_a_bound() -> None:
    assert [retry_delay(n) for n in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert retry_delay(10**6) == MAX_RETRY
