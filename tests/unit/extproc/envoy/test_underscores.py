import json
import re

from hypothesis import given
from hypothesis import strategies as st

from extproc.envoy.underscores import drop, removals


def removed(name: str, *, forwarded: bool) -> bool:
    (mutation,) = json.loads(removals(["x-user"], ["x-own-"], forwarded=forwarded))
    return re.fullmatch(mutation["remove_on_match"]["key_matcher"]["safe_regex"]["regex"], name) is not None


@given(st.text("-_", min_size=2, max_size=2), st.text("ab-_"), st.booleans())
def test_every_spelling_of_what_is_ours(between: str, rest: str, forwarded: bool) -> None:
    assert removed(f"x{between[0]}own{between[1]}{rest}", forwarded=forwarded)
    assert removed(f"x{between[0]}user", forwarded=forwarded)


@given(st.text("-_", min_size=2, max_size=2))
def test_what_http_lives_by_goes_only_under_another_spelling(between: str) -> None:
    for name in ("x{}forwarded{}for", "x{}request{}id"):
        spelled = name.format(*between)
        assert removed(spelled, forwarded=True) is ("_" in spelled)
        assert not removed(spelled, forwarded=False)


def test_headers_that_the_sidecar_sets_outlive_the_drop() -> None:
    first, *_, last = steps = json.loads(drop(["x-user", "team_name"]))
    assert first["append"]["header"] == {"key": "x-gateway-kept-0", "value": "%REQ(team_name)%"}
    assert steps[1] == {"remove_on_match": {"key_matcher": {"contains": "_"}}}
    assert steps[2]["append"]["header"] == {"key": "team_name", "value": "%REQ(x-gateway-kept-0)%"}
    assert last == {"remove": "x-gateway-kept-0"}
    assert len(json.loads(drop(["x-user"]))) == 1
