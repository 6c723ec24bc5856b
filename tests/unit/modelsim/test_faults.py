import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsim.faults import Faults, validated


@given(st.integers(0, 100), st.integers(1, 500))
def test_errors_are_as_many_as_asked_for(percent: int, requests: int) -> None:
    faults = Faults(error_rate=percent / 100)
    failed = sum(faults.fails(number) for number in range(1, requests + 1))
    assert failed == percent * requests // 100


def test_errors_are_spread_evenly() -> None:
    faults = Faults(error_rate=0.25)
    assert [number for number in range(1, 13) if faults.fails(number)] == [4, 8, 12]


@pytest.mark.parametrize(
    "body",
    [
        '{"error_rate": 1.1}',
        '{"error_rate": -0.1}',
        '{"error_rate": "0.5"}',
        '{"status": 200}',
        '{"crash_after_tokens": -1}',
        '{"metrics": "odd"}',
        '{"first_token_delay": -1}',
        '{"token_delay": 1e9}',
        '{"unknown": 1}',
        "[]",
    ],
)
def test_a_bad_document(body: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=Faults)


def test_faults_made_in_python_are_checked_too() -> None:
    with pytest.raises(msgspec.ValidationError, match="error_rate"):
        validated(Faults(error_rate=2))
    faults = Faults(error_rate=0.5, crash_after_tokens=3)
    assert validated(faults) == faults


def test_a_delay_of_zero_is_scripted() -> None:
    assert Faults(first_token_delay=0).scripted
    assert Faults(token_delay=0).scripted
    assert not Faults(error_rate=1).scripted
