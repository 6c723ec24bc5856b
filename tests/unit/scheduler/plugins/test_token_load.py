import pytest
from support.snapshots import P, cycle, request, snapshot

from scheduler.plugins.token_load import TokenLoad, TokenLoadParams

PLUGIN = TokenLoad(TokenLoadParams(half_score_tokens=1000))
#: 400 characters are 101 tokens.
TEXT = "x" * 400


def test_half_the_score_at_that_many_tokens() -> None:
    pods = snapshot(P(tokens=0), P(tokens=899), P(tokens=2899))
    scores = PLUGIN.score(request(TEXT), pods, cycle()).tolist()
    assert scores == pytest.approx([100_000 / 1101, 50, 25])


def test_what_a_cache_holds_does_not_count() -> None:
    pods = snapshot(P(), P(tokens=101))
    assert PLUGIN.score(request(TEXT), pods, cycle([1.0, 1.0])).tolist() == pytest.approx([100, 100_000 / 1101])
    # Half of the prompt was looked at, and the pod holds all of that.
    half = PLUGIN.score(request(TEXT), pods, cycle([1.0, 0.0], span=0.5)).tolist()
    assert half == pytest.approx([100_000 / 1050.5, 100_000 / 1202])
    assert pods.in_flight_tokens.tolist() == [0, 101]
