import numpy as np
import pytest

from scheduler.scaling import min_max

NAN = float("nan")


@pytest.mark.parametrize(
    ("values", "scores"),
    [
        ([1.0, 3.0, 2.0], [100.0, 0.0, 50.0]),
        ([2.0, 2.0], [100.0, 100.0]),
        ([NAN, 5.0], [50.0, 100.0]),
        ([NAN, 5.0, 7.0], [50.0, 100.0, 0.0]),
        ([NAN, NAN], [50.0, 50.0]),
        ([0.0, 5e-324], [100.0, 0.0]),
    ],
)
def test_min_max(values: list[float], scores: list[float]) -> None:
    column = np.array(values)
    assert min_max(column, np.isfinite(column)).tolist() == scores
