import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.outcome.characters import LEAST, LEAST_TOKENS, MOST, MOST_MODELS, Characters


def test_four_at_first() -> None:
    assert Characters().per_token("m") == 4


def test_each_model_has_its_own() -> None:
    of = Characters()
    for _ in range(100):
        of.observe("cjk", 1_500, 1_000)
        of.observe("code", 3_000, 1_000)
    assert of.per_token("cjk") == pytest.approx(1.5, rel=0.05)
    assert of.per_token("code") == pytest.approx(3.0, rel=0.05)
    assert of.per_token("other") == 4


def test_it_follows_what_a_model_is_used_for() -> None:
    of = Characters()
    for _ in range(2_000):
        of.observe("m", 4_000, 1_000)
    for _ in range(2_000):
        of.observe("m", 2_000, 1_000)
    assert of.per_token("m") == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize(("characters", "tokens"), [(40, LEAST_TOKENS - 1), (0, 1000), (100, 1000), (10**9, 1000)])
def test_what_says_nothing(characters: int, tokens: int) -> None:
    of = Characters()
    of.observe("m", characters, tokens)
    assert of.per_token("m") == 4


@given(st.lists(st.tuples(st.integers(-5, 10**9), st.integers(-5, 10**9)), max_size=50))
def test_stays_within_its_bounds(observations: list[tuple[int, int]]) -> None:
    of = Characters()
    for characters, tokens in observations:
        of.observe("m", characters, tokens)
        assert LEAST <= of.per_token("m") <= MOST


def test_any_number_of_models() -> None:
    of = Characters()
    for number in range(MOST_MODELS + 10):
        of.observe(f"m{number}", 10_000, 1_000)
    assert len(of._known) == MOST_MODELS
    assert of.per_token("m0") == 4
