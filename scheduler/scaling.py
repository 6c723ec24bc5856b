"""Scaling of measurements to scores."""

import numpy as np

from scheduler.framework import MAX_SCORE, NEUTRAL_SCORE
from scheduler.types import BoolArray, FloatArray


def min_max(values: FloatArray, known: BoolArray) -> FloatArray:
    """100 for the least known value, 0 for the greatest, linear between; all equal: 100. Not known: 50."""
    scores = np.full(len(values), NEUTRAL_SCORE)
    measured = values[known]
    if len(measured):
        least, most = float(measured.min()), float(measured.max())
        # Clipped, for the rounding of a quotient of nearly equal numbers may leave the range.
        scaled = (most - measured) / (most - least) * MAX_SCORE if most > least else np.full(len(measured), MAX_SCORE)
        scores[known] = np.clip(scaled, 0.0, MAX_SCORE)
    return scores


def fewest(counts: FloatArray) -> FloatArray:
    """`min_max` of counts of requests, NaN where a count is not known."""
    return min_max(counts, np.isfinite(counts))
