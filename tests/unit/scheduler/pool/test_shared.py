"""Two stores that are told of each other's events say the same of every pod."""

from collections import deque
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.pool import shared
from scheduler.pool.shared import (
    BEGUN,
    FAILED,
    GIVEN_BACK,
    MISSING,
    REFUSED,
    SUCCEEDED,
    TAKEN,
    Event,
    Other,
    SharedStore,
    turned,
)
from scheduler.pool.signals import Sample
from scheduler.pool.store import Ticket
from scheduler.types import Adapters, Pod

PODS = tuple(Pod(f"10.0.0.{number}:8000") for number in range(1, 4))
STALE = 2.0
FULL = Sample(
    waiting=3, running=8, kv_usage=0.5, ttft=0.2, tpot=0.02, adapters=Adapters(frozenset({"lora"}), capacity=4)
)


class Side:
    """One process."""

    def __init__(self) -> None:
        self.sent: deque[bytes] = deque()
        self.left: list[Pod] = []
        self.store = SharedStore(STALE, self.left.append, self._tell)
        self.store.set_pods(PODS, 0.0)
        self.tickets: list[Ticket] = []

    def _tell(self, event: Event) -> None:
        self.sent.append(msgspec.msgpack.encode(event))

    def rows(self, now: float) -> list[dict[str, Any]]:
        return self.store.statistics(now)


def deliver(sender: Side, other: Other, most: int = 1 << 30) -> None:
    while sender.sent and most:
        other.apply(msgspec.msgpack.decode(sender.sent.popleft()))
        most -= 1


def pair() -> tuple[Side, Side, Other, Other]:
    a, b = Side(), Side()
    return a, b, Other(b.store), Other(a.store)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["acquire", "release", "move", "scrape", "lost", "outcome", "failed", "ok", "begin", "deliver"]
        ),
        st.booleans(),
        st.integers(0, 2),
        st.integers(0, 5),
    ),
    max_size=60,
)


@given(STEPS)
def test_what_both_do_is_known_to_both(steps: list[tuple[str, bool, int, int]]) -> None:
    a, b, at_b, at_a = pair()
    now = 1.0
    for step, first, pod, number in steps:
        side, other = (a, at_b) if first else (b, at_a)
        now += 0.001
        address = PODS[pod].address
        tickets = side.tickets
        match step:
            case "acquire":
                tickets.append(side.store.acquire(PODS[pod], number * 100, now))
            case "release" if tickets:
                tickets.pop(number % len(tickets)).release(now)
            case "begin" if tickets:
                tickets[number % len(tickets)].begin(now)
            case "move" if tickets:
                tickets[number % len(tickets)].move(PODS[pod], now)
            case "scrape" if first:  # one of them scrapes
                side.store.observe(address, FULL, now)
            case "lost" if first:
                side.store.observe_failure(address, now, "away")
            case "outcome":
                side.store.observe_outcome(address, ttft=0.1, uncached_tokens=10, tpot=None, now=now)
            case "failed":
                side.store.observe_failure_of_request(address, now)
            case "ok":
                side.store.observe_success_of_request(address)
            case "deliver":
                deliver(side, other, number)
    deliver(a, at_b)
    deliver(b, at_a)
    counted = ("in_flight", "in_flight_tokens", "served")
    for mine, theirs in zip(a.rows(now), b.rows(now), strict=True):
        assert [mine[key] for key in counted] == [theirs[key] for key in counted]
    assert at_a.in_flight == len(b.tickets)
    assert at_b.in_flight == len(a.tickets)
    # One goes, and leaves nothing behind; the other's own stay.
    at_a.end()
    assert sum(row["in_flight"] for row in a.rows(now)) == len(a.tickets)
    assert at_a.in_flight == 0


def test_signals_arrive_whole() -> None:
    a, b, at_b, _ = pair()
    a.store.observe(PODS[0].address, FULL, 1.0)
    a.store.observe_failure(PODS[1].address, 1.0, "away")
    a.store.observe_outcome(PODS[2].address, ttft=0.3, uncached_tokens=10, tpot=0.01, now=1.0)
    deliver(a, at_b)
    assert b.rows(1.0) == a.rows(1.0)
    assert b.rows(1.0)[0]["adapters"]["running"] == ["lora"]
    assert b.rows(1.0)[1]["error"] == "away"


def test_who_has_no_room_and_who_does_not_know_a_model_is_told() -> None:
    a, b, at_b, _ = pair()
    a.store.observe_refusal(PODS[0].address, 5.0, 1.0)
    a.store.observe_missing(PODS[1].address, "sql", 1.0)
    deliver(a, at_b)
    snapshot = b.store.snapshot(2.0)
    assert snapshot.refusing is not None
    assert snapshot.refusing.tolist() == [True, False, False]
    assert snapshot.missing["sql"].tolist() == [False, True, False]


@pytest.mark.parametrize(
    "event",
    [
        (REFUSED, PODS[0].address, "5", 1.0),
        (REFUSED, PODS[0].address, 5.0, "now"),
        (MISSING, PODS[0].address, 7, 1.0),
        (MISSING, PODS[0].address, "sql", None),
    ],
)
def test_what_is_no_refusal_changes_nothing(event: Event) -> None:
    _, b, at_b, _ = pair()
    with pytest.raises((TypeError, ValueError)):
        at_b.apply(event)
    assert b.store.snapshot(1.0).refusing is None
    assert not b.store.snapshot(1.0).missing


@pytest.mark.parametrize("event", [(REFUSED, "a:1", 5.0, 97.0), (MISSING, "a:1", "sql", 97.0), (BEGUN, 1, 97.0)])
def test_times_become_ages_on_the_way_to_another_machine(event: Event) -> None:
    assert turned(event, 100.0) == (*event[:-1], 3.0)


def test_what_waits_at_a_pod_is_known_to_all() -> None:
    a, b, at_b, _ = pair()
    first, _second = (a.store.acquire(PODS[0], 10_000, 1.0) for _ in range(2))
    deliver(a, at_b)
    assert [row["backlog"] for row in b.rows(1.0)] == [2.0, 0.0, 0.0]
    first.begin(1.0)
    deliver(a, at_b)
    assert [row["backlog"] for row in b.rows(1.0)] == [1.0, 0.0, 0.0]
    at_b.end()
    assert [row["backlog"] for row in b.rows(1.0)] == [0.0, 0.0, 0.0]


def test_a_restart_is_known_to_all() -> None:
    a, b, at_b, _ = pair()
    a.store.observe(PODS[0].address, Sample(restarted=True), 1.0)
    deliver(a, at_b)
    assert a.left == b.left == [PODS[0]]


def test_an_outcome_that_says_nothing_is_not_told() -> None:
    a, *_ = pair()
    a.store.observe_outcome(PODS[0].address, ttft=None, uncached_tokens=1, tpot=None, now=1.0)
    assert not a.sent


def test_who_served_in_the_end_is_told() -> None:
    a, b, at_b, _ = pair()
    ticket = a.store.acquire(PODS[0], 7, 1.0)
    ticket.release(2.0)
    ticket.move(PODS[1], 1.0)
    deliver(a, at_b)
    assert [row["served"] for row in a.rows(2.0)] == [row["served"] for row in b.rows(2.0)] == [0, 1, 0]


def test_success_is_told_where_it_matters() -> None:
    a, b, at_b, _ = pair()
    address = PODS[0].address
    a.store.observe_success_of_request(address)
    a.store.observe_success_of_request("10.9.9.9:1")
    assert not a.sent
    for _ in range(3):
        a.store.observe_failure_of_request(address, 1.0)
    deliver(a, at_b)
    assert b.rows(1.0)[0]["failed_requests"] == 3
    a.store.observe_success_of_request(address)
    assert [msgspec.msgpack.decode(event)[0] for event in a.sent] == [SUCCEEDED]
    deliver(a, at_b)
    assert b.rows(1.0)[0]["failed_requests"] == 0


def test_what_a_newcomer_is_told() -> None:
    a, b, at_b, _ = pair()
    kept = a.store.acquire(PODS[0], 7, 1.0)
    a.store.acquire(PODS[1], 5, 1.0).release(1.0)
    a.sent.clear()
    for event in a.store.own():
        at_b.apply(event)
    assert [(row["in_flight"], row["in_flight_tokens"]) for row in b.rows(1.0)] == [(1, 7), (0, 0), (0, 0)]
    kept.release(2.0)
    deliver(a, at_b)
    assert at_b.in_flight == 0


def test_a_pod_that_is_not_known_here() -> None:
    _, b, at_b, _ = pair()
    at_b.apply((TAKEN, 1, "10.9.9.9:1", 5, 1.0, True))
    at_b.apply((FAILED, "10.9.9.9:1", 1.0))
    assert not b.store.has("10.9.9.9:1")
    for _ in range(2):
        at_b.apply((GIVEN_BACK, 1, True, 1.0))
    assert at_b.in_flight == 0
    assert len(b.rows(1.0)) == 3


def test_a_pod_that_is_not_known_here_yet() -> None:
    """A process that was just started is told of requests before its own discovery has found their pods."""
    _, b, at_b, _ = pair()
    new = Pod("10.9.9.9:1", "new")
    at_b.apply((TAKEN, 1, new.address, 5, 1.0, True))
    b.store.set_pods([*PODS, new], 1.0)
    row = b.rows(1.0)[3]
    assert (row["name"], row["ready"], row["in_flight"], row["in_flight_tokens"]) == ("new", True, 1, 5)
    assert b.store.has(new.address)
    at_b.apply((GIVEN_BACK, 1, True, 1.0))
    assert b.rows(1.0)[3]["in_flight"] == 0


def test_one_request_at_a_time_tries_a_pod_that_rested() -> None:
    a, b, at_b, _ = pair()
    for _ in range(3):
        a.store.observe_failure_of_request(PODS[0].address, 1.0)
    deliver(a, at_b)
    assert b.store.snapshot(1.0).resting is not None
    now = 1.0 + b.rows(1.0)[0]["resting_for"]
    assert b.store.snapshot(now).resting is None
    ticket = a.store.acquire(PODS[0], 5, now)
    deliver(a, at_b)
    assert b.store.snapshot(now).resting is not None
    ticket.release(now)
    deliver(a, at_b)
    assert b.store.snapshot(now).resting is None


def test_a_pod_that_left_in_the_meantime() -> None:
    a, b, at_b, _ = pair()
    ticket = a.store.acquire(PODS[0], 5, 1.0)
    deliver(a, at_b)
    b.store.set_pods(PODS[1:], 2.0)
    assert b.rows(2.0)[-1]["in_flight"] == 1
    ticket.release(3.0)
    deliver(a, at_b)
    assert len(b.rows(3.0)) == 2


@pytest.mark.parametrize("event", [("?", 1), ("+",), ("s", "10.0.0.1:8000", 5, 1.0)])
def test_no_event(event: Any) -> None:
    _, _, at_b, _ = pair()
    with pytest.raises((KeyError, TypeError, msgspec.ValidationError)):
        at_b.apply(event)


def test_an_event_of_another_machine_has_an_age_in_the_place_of_its_time() -> None:
    """Its clock is another: every time that an event has must be turned, and no event may have one that is not."""
    a, _b, at_b, _ = pair()
    store, address = a.store, PODS[0].address
    ticket = store.acquire(PODS[0], 5, 1000.0)
    ticket.begin(1000.5)
    store.observe_outcome(address, ttft=0.1, uncached_tokens=1, tpot=None, now=1001.0)
    store.observe_failure_of_request(address, 1002.0)
    store.observe_success_of_request(address)
    store.observe(address, FULL, 1003.0)
    store.observe_failure(address, 1004.0, "away")
    store.observe_refusal(address, 2.0, 1005.0)
    store.observe_missing(address, "lora", 1006.0)
    ticket.move(PODS[1], 1007.0)
    ticket.release(1008.0)
    ticket.move(PODS[2], 1009.0)
    events = [msgspec.msgpack.decode(event) for event in a.sent]
    kinds = {name: value for name, value in vars(shared).items() if name.isupper() and isinstance(value, str)}
    assert {event[0] for event in events} == set(kinds.values())
    for event in events:
        sent = turned(event, 1010.0)
        assert not [value for value in sent if isinstance(value, float) and value > 900], sent
        back = turned(sent, 50.0 + 10.0)
        assert [value for value in back if isinstance(value, float) and value < 0] == []
        at_b.apply(back)
    assert at_b.in_flight == 0
    # What lies in the future there was sent a moment ago.
    assert turned((FAILED, address, 5.0), 4.0) == (FAILED, address, 0.0)


@pytest.mark.parametrize(
    "event",
    [
        (TAKEN, "x", "a", 1, 0.0, True), (TAKEN, 1, 5, 1, 0.0, True), (TAKEN, 1, "a", 1.5, 0.0, True),
        (TAKEN, 1, "a", -1, 0.0, True), (TAKEN, 1, "a", 1 << 40, 0.0, True), (TAKEN, 1, "a", 1, "now", True),
        (TAKEN, 1, "a", 1, float("nan"), True), (GIVEN_BACK, 1, True, float("inf")), (FAILED, "a", None),
        ("o", "a", "fast", 1, None, 0.0, 0.0), ("o", "a", 0.1, 1, None, 0.0, float("nan")), ("b", 1, None),
        ("f", "a", "now"), (shared.REFUSED, "a", "long", 0.0), (shared.MISSING, "a", 5, 0.0),
    ],
)  # fmt: skip
def test_what_another_version_or_an_enemy_sends_changes_nothing(event: Any) -> None:
    _, b, at_b, _ = pair()
    at_b.apply((TAKEN, 1, PODS[0].address, 5, 0.0, True))
    before = b.rows(1.0)
    with pytest.raises((TypeError, ValueError)):
        at_b.apply(event)
    with pytest.raises((TypeError, ValueError, KeyError)):
        at_b.replace([(TAKEN, 2, PODS[0].address, 5, 0.0, True), event])
    assert (b.rows(1.0), at_b.in_flight) == (before, 1)


def test_a_request_that_is_told_of_twice_counts_once() -> None:
    _, b, at_b, _ = pair()
    for _ in range(2):
        at_b.apply((TAKEN, 1, PODS[0].address, 5, 0.0, True))
    assert next((row["in_flight"], row["served"]) for row in b.rows(1.0)) == (1, 1)
    # Its end was lost, and its number is used again.
    at_b.apply((TAKEN, 1, PODS[1].address, 7, 0.0, True))
    assert [row["in_flight_tokens"] for row in b.rows(1.0)] == [0, 7, 0]
    at_b.apply(("b", 9, 0.0))  # of one that is not known
    assert list(at_b.requests()) == [(PODS[1].address, 7)]


def test_all_that_is_in_flight_takes_the_place_of_what_was_known() -> None:
    _, b, at_b, _ = pair()
    for number in (1, 2):
        at_b.apply((TAKEN, number, PODS[0].address, 5, 0.0, True))
    at_b.replace(
        [
            (TAKEN, 1, PODS[0].address, 5, 0.0, False),
            (TAKEN, 2, PODS[1].address, 5, 0.0, True),
            (TAKEN, 3, PODS[2].address, 5, 0.0, False),
        ]
    )
    assert [row["in_flight"] for row in b.rows(1.0)] == [1, 1, 1]
    with pytest.raises(ValueError, match="no request"):
        at_b.replace([(GIVEN_BACK, 3, PODS[2].address, 5, 0.0, True)])
    at_b.replace([(TAKEN, 3, PODS[2].address, 5, 0.0, True)])
    assert [row["in_flight"] for row in b.rows(1.0)] == [0, 0, 1]


def test_the_oldest_fade_and_come_back_as_they_were() -> None:
    _, b, at_b, _ = pair()
    requests = [(TAKEN, number, PODS[number].address, 5, 0.0, True) for number in range(3)]
    at_b.replace(requests)
    at_b.fade(2)
    at_b.fade(5)
    assert [row["in_flight"] for row in b.rows(1.0)] == [0, 1, 1]
    at_b.replace(requests)
    assert [(row["in_flight"], row["served"]) for row in b.rows(1.0)] == [(1, 1)] * 3


def test_a_first_token_after_the_end_is_nothing() -> None:
    _, b, *_ = pair()
    ticket = b.store.taken_elsewhere(PODS[0].address, 5, 0.0)
    b.store.given_back_elsewhere(ticket, served=True, now=1.0)
    b.store.begun_elsewhere(ticket, 2.0)
    assert b.rows(2.0)[0]["in_flight"] == 0
