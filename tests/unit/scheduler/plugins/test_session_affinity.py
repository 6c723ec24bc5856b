"""`session-affinity`: a session keeps its pod, a pod that leaves moves its own sessions alone."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.snapshots import P, cycle, fleets, request, snapshot

from scheduler.framework import MAX_SCORE
from scheduler.plugins.session_affinity import SessionAffinity, SessionAffinityParams
from scheduler.types import FloatArray, Request, Snapshot

BY_HEADER = SessionAffinity(SessionAffinityParams())
NAMES = [f"10.0.0.{number}:8000" for number in range(1, 9)]
PODS = snapshot(*[P(address=name) for name in NAMES])
SESSIONS = [f"session-{number}" for number in range(800)]
#: Pods of five sessions.
GOLDEN = ["10.0.0.4:8000", "10.0.0.7:8000", "10.0.0.2:8000", "10.0.0.8:8000", "10.0.0.6:8000"]
texts = st.text(min_size=1, max_size=40)


def of(session: str) -> Request:
    return request(header_x_session_id=session)


def scores(session: str, pods: Snapshot = PODS) -> FloatArray:
    return BY_HEADER.score(of(session), pods, cycle())


def home(session: str, pods: Snapshot = PODS) -> str:
    return pods.pods[int(scores(session, pods).argmax())].address


def without(name: str) -> Snapshot:
    return snapshot(*[P(address=one) for one in NAMES if one != name])


def test_the_place_in_the_list_does_not_matter() -> None:
    backwards = snapshot(*[P(address=name) for name in reversed(NAMES)])
    assert scores("a").tolist() == scores("a", backwards).tolist()[::-1]


@given(texts, fleets())
def test_one_pod_has_all_and_no_two_are_equal(session: str, rows: list[P]) -> None:
    found = scores(session, snapshot(*rows))
    assert found.shape == (len(rows),)
    assert found.max() == MAX_SCORE  # to the last bit
    assert found.min() > 0
    assert len(set(found.tolist())) == len(rows)


@given(texts)
def test_a_pod_that_leaves_moves_its_own_sessions_to_the_next_in_order(session: str) -> None:
    order = [NAMES[row] for row in scores(session).argsort()[::-1]]
    assert home(session, without(order[0])) == order[1]
    for other in order[1:]:
        assert home(session, without(other)) == order[0]


def test_sessions_are_spread_and_a_pod_that_comes_takes_its_share() -> None:
    """800 sessions over 8 pods: 100 each, give or take 4 standard deviations (9.4) of such a throw."""
    counts = Counter(home(session) for session in SESSIONS)
    assert counts.keys() == set(NAMES)
    assert all(62 <= count <= 138 for count in counts.values())
    before = without(NAMES[0])
    moved = [session for session in SESSIONS if home(session) != home(session, before)]
    assert {home(session) for session in moved} == {NAMES[0]}
    assert len(moved) == counts[NAMES[0]]


def test_the_second_best_stands_well_apart() -> None:
    """By exponential waits: the median of the second over the best is 1/2, so that other scorers rarely overrule it."""
    seconds = sorted(sorted(scores(session).tolist())[-2] for session in SESSIONS)
    assert seconds[len(seconds) // 2] < 0.75 * MAX_SCORE


def test_the_same_in_every_process() -> None:
    """Fixed by the protocol between replicas: a change moves every session at an upgrade."""
    assert [home(session) for session in ("a", "b", "c", "d", "ü")] == GOLDEN


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({}, {"header_x_session_id": "a"}),
        ({"header": "X-Conversation"}, {"header_x_conversation": "a"}),
        ({"cookie": "sid"}, {"cookie_sid": "a"}),
        ({"claim": "sub"}, {"claim_sub": "a"}),
        # In the order header, cookie, claim; a source that is empty or has nothing is passed over.
        ({"header": "h", "cookie": "c", "claim": "s"}, {"header_h": "a", "cookie_c": "b", "claim_s": "b"}),
        ({"header": "h", "cookie": "c", "claim": "s"}, {"cookie_c": "a", "claim_s": "b"}),
        ({"header": "h", "cookie": "c", "claim": "s"}, {"header_h": "", "cookie_c": "", "claim_s": "a"}),
    ],
)
def test_where_the_session_is_looked_up(params: dict[str, Any], found: dict[str, Any]) -> None:
    plugin = SessionAffinity(SessionAffinityParams(**params))
    assert plugin.score(request(**found), PODS, cycle()).tolist() == scores("a").tolist()


@pytest.mark.parametrize("params", [{}, {"cookie": "sid"}, {"claim": "sub"}])
def test_without_a_session_no_pod_is_better(params: dict[str, Any]) -> None:
    plugin = SessionAffinity(SessionAffinityParams(**params))
    found: dict[str, Any] = {"header_x_session_id": "", "cookie_sid": "", "claim_sub": ""}
    for one in (request(), request(**found), request(header_other="a")):
        assert plugin.score(one, PODS, cycle()).tolist() == [0.0] * len(NAMES)


def test_the_header_is_not_asked_where_another_source_is_named() -> None:
    plugin = SessionAffinity(SessionAffinityParams(cookie="sid"))
    assert not plugin.score(of("a"), PODS, cycle()).any()


@given(texts)
def test_any_name_of_a_session(session: str) -> None:
    assert scores(session + "\ud800").max() == MAX_SCORE  # bytes of a header that are no text


@pytest.mark.parametrize("params", [{"header": ""}, {"cookie": ""}, {"claim": ""}, {"other": "x"}, {"header": 1}])
def test_parameters_that_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SessionAffinityParams(**params)
