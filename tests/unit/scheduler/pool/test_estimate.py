import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.pool.estimate import HALF_LIFE, DecayingLine, DecayingMean, PooledSlope

times = st.floats(0, 1000)
seconds = st.floats(0.001, 100)
tokens = st.integers(0, 100_000)


def weights(at: list[float]) -> list[float]:
    """By definition: half for each half-life before the last."""
    left = [0.5 ** (max(later - earlier, 0) / HALF_LIFE) for earlier, later in pairwise(at)] + [1.0]
    return [math.prod(left[place:]) for place in range(len(left))]


class TestMean:
    def test_knows_nothing_at_first(self) -> None:
        mean = DecayingMean()
        assert math.isnan(mean.value)
        assert mean.weight == 0
        assert mean.at == -math.inf

    @given(st.lists(st.tuples(seconds, times), min_size=1))
    def test_is_the_weighted_mean(self, observed: list[tuple[float, float]]) -> None:
        observed.sort(key=lambda one: one[1])
        mean = DecayingMean()
        for value, at in observed:
            mean.observe(value, at)
        weight = weights([at for _, at in observed])
        expected = sum(w * value for w, (value, _) in zip(weight, observed, strict=True)) / sum(weight)
        assert mean.value == pytest.approx(expected)
        assert mean.weight == pytest.approx(sum(weight))
        assert mean.at == observed[-1][1]

    def test_a_half_life_counts_half(self) -> None:
        mean = DecayingMean()
        mean.observe(0.0, 0.0)
        mean.observe(3.0, HALF_LIFE)
        assert mean.value == pytest.approx(2.0)

    def test_a_time_that_goes_back_ages_nothing(self) -> None:
        mean = DecayingMean()
        mean.observe(1.0, 10.0)
        mean.observe(2.0, 9.0)
        assert mean.value == pytest.approx(1.5)

    def test_after_ages_only_the_newest_counts(self) -> None:
        mean = DecayingMean()
        mean.observe(1.0, 0.0)
        mean.observe(2.0, 1e9)
        assert mean.value == 2.0


class TestLine:
    def test_knows_no_slope_at_first(self) -> None:
        assert DecayingLine(PooledSlope()).slope() == 0

    @given(st.lists(st.tuples(tokens, seconds, times), min_size=1, max_size=20))
    def test_means_are_the_weighted_means(self, observed: list[tuple[int, float, float]]) -> None:
        observed.sort(key=lambda one: one[2])
        line = DecayingLine(PooledSlope())
        for x, y, at in observed:
            line.observe(x, y, at)
        weight = weights([at for _, _, at in observed])
        mean_x = sum(w * x for w, (x, _, _) in zip(weight, observed, strict=True)) / sum(weight)
        mean_y = sum(w * y for w, (_, y, _) in zip(weight, observed, strict=True)) / sum(weight)
        assert line.mean_x == pytest.approx(mean_x, abs=1e-6)
        assert line.mean_y == pytest.approx(mean_y)

    @given(
        xs=st.lists(st.tuples(tokens, times), min_size=2, max_size=20),
        base=st.floats(0, 10),
        slope=st.floats(0, 0.01),
    )
    def test_finds_the_line_that_is_there(self, xs: list[tuple[int, float]], base: float, slope: float) -> None:
        line = DecayingLine(PooledSlope())
        for x, at in sorted(xs, key=lambda one: one[1]):
            line.observe(x, base + slope * x, at)
        found = line.slope()
        assert found == 0 or found == pytest.approx(slope, rel=1e-3, abs=1e-6)

    def test_two_lengths_are_enough(self) -> None:
        line = DecayingLine(PooledSlope())
        for at in range(20):
            line.observe(100 + 900 * (at % 2), 0.1 + 0.001 * (100 + 900 * (at % 2)), float(at))
        assert line.slope() == pytest.approx(0.001)

    def test_recent_observations_weigh_more(self) -> None:
        line = DecayingLine(PooledSlope())
        for at, slope in [*[(float(t), 0.01) for t in range(20)], *[(200.0 + t, 0.001) for t in range(20)]]:
            line.observe(1000 * (at % 2), slope * 1000 * (at % 2), at)
        assert line.slope() == pytest.approx(0.001, rel=0.01)

    def test_longer_prompts_are_never_faster(self) -> None:
        line = DecayingLine(PooledSlope())
        line.observe(10, 5.0, 0.0)
        line.observe(1000, 1.0, 0.0)
        assert line.slope() == 0

    @given(st.floats(0, 1e5), st.lists(st.tuples(seconds, st.floats(0, 1e7)), min_size=1, max_size=30))
    def test_prompts_of_one_length_tell_no_slope(self, x: float, observed: list[tuple[float, float]]) -> None:
        line = DecayingLine(PooledSlope())
        for y, at in observed:
            line.observe(x, y, at)
        assert line.slope() == 0

    def test_a_pod_with_prompts_of_one_length_is_like_the_others(self) -> None:
        pooled = PooledSlope()
        other, mine = DecayingLine(pooled), DecayingLine(pooled)
        for x in (100, 500, 900):
            other.observe(x, 0.05 + 0.002 * x, 0.0)
            mine.observe(300, 0.9, 0.0)
        assert mine.slope() == pytest.approx(other.slope()) == pytest.approx(0.002)

    def test_much_that_a_pod_says_itself_outweighs_the_others(self) -> None:
        pooled = PooledSlope()
        other, mine = DecayingLine(pooled), DecayingLine(pooled)
        for x in range(0, 1000, 10):
            other.observe(x, 0.001 * x, 0.0)
            mine.observe(x, 0.005 * x, 0.0)
        assert mine.slope() == pytest.approx(0.005, rel=0.05)
        assert other.slope() == pytest.approx(0.001, rel=0.05)

    def test_a_slow_pod_with_short_prompts_does_not_hide_the_slope(self) -> None:
        pooled = PooledSlope()
        slow, fast = DecayingLine(pooled), DecayingLine(pooled)
        for x in range(0, 400, 10):
            slow.observe(x, 5.0 + 0.001 * x, 0.0)
            fast.observe(x * 10, 0.001 * x * 10, 0.0)
        assert slow.slope() == pytest.approx(0.001)
        assert fast.slope() == pytest.approx(0.001)

    @given(st.lists(st.tuples(st.integers(0, 2), tokens, times), min_size=1, max_size=20))
    def test_the_pooled_mean_is_over_all(self, observed: list[tuple[int, int, float]]) -> None:
        observed.sort(key=lambda one: one[2])
        pooled = PooledSlope()
        lines = [DecayingLine(pooled) for _ in range(3)]
        for pod, x, at in observed:
            lines[pod].observe(x, 1.0, at)
        weight = weights([at for _, _, at in observed])
        expected = sum(w * x for w, (_, x, _) in zip(weight, observed, strict=True)) / sum(weight)
        assert pooled.mean_x == pytest.approx(expected, abs=1e-6)
