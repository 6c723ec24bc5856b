import json
from collections import Counter
from math import isnan, nan
from random import Random

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from scheduler.pool.estimate import KNOWN_FOR
from scheduler.pool.pace import UNKNOWN
from scheduler.pool.signals import Sample
from scheduler.pool.store import (
    MISSING_FOR,
    MOST_MISSING,
    MOST_STALE,
    OUTCOME_REFRESH,
    TROUBLE_REFRESH,
    PodStore,
    Ticket,
)
from scheduler.pool.trouble import FIRST_REST, TRIP
from scheduler.types import NO_ADAPTERS, Adapters, Pod

A, B, C = (Pod(f"10.0.0.{number}:8000", name) for number, name in enumerate("abc", 1))
STALE = 2.0
LORA = Adapters(frozenset({"lora"}), capacity=4)
FULL = Sample(waiting=3, running=8, kv_usage=0.5, ttft=0.2, tpot=0.02, adapters=LORA)


def new(*pods: Pod, now: float = 0.0) -> PodStore:
    store = PodStore(STALE)
    store.set_pods(pods, now)
    return store


def outcome(
    store: PodStore, pod: Pod, *, ttft: float | None = None, tokens: int = 0, tpot: float | None = None, now: float
) -> None:
    store.observe_outcome(pod.address, ttft=ttft, uncached_tokens=tokens, tpot=tpot, now=now)


def test_samples_of_pods_that_are_scraped_more_rarely_hold_longer() -> None:
    store = PodStore(STALE, follows=True)
    store.set_pods([A, B], 0.0)

    def known(now: float) -> list[bool]:
        return (~np.isnan(store.snapshot(now).waiting)).tolist()

    # Nobody knows yet when the next one comes.
    store.observe(A.address, FULL, 0.0)
    assert known(MOST_STALE - 0.1) == [True, False]
    assert known(MOST_STALE + 0.1) == [False, False]
    # A second apart: five of them.
    for now in (100.0, 101.0):
        store.observe(A.address, FULL, now)
    assert known(105.9) == [True, False]
    assert known(106.1) == [False, False]
    # Often: as without.
    for now in (200.0, 200.1):
        store.observe(A.address, FULL, now)
    assert known(200.1 + STALE + 0.1) == [False, False]
    # A time without answers says nothing of how often it is asked.
    store.observe_failure(A.address, 210.0)
    store.observe(A.address, FULL, 300.0)
    assert known(300.0 + STALE + 0.1) == [False, False]


class TestPods:
    def test_an_empty_store(self) -> None:
        store = PodStore(STALE)
        assert len(store.snapshot(0.0)) == 0
        assert store.statistics(0.0) == []
        assert store.set_pods([], 1.0) == ([], [])

    def test_in_the_order_of_discovery(self) -> None:
        store = new(B, A)
        assert store.snapshot(0.0).pods == (B, A)
        store.set_pods([A, C, B], 1.0)
        assert store.snapshot(1.0).pods == (A, C, B)

    def test_who_joined_and_who_left(self) -> None:
        left: list[Pod] = []
        store = PodStore(STALE, on_left=left.append)
        assert store.set_pods([A, B], 0.0) == ([A, B], [])
        assert store.set_pods([B, C], 1.0) == ([C], [A])
        assert left == [A]
        assert store.set_pods([B, C], 2.0) == ([], [])

    def test_of_equal_addresses_the_first(self) -> None:
        store = new(A, Pod(A.address, "other"))
        assert store.snapshot(0.0).pods == (A,)

    def test_an_address_that_another_pod_has_now(self) -> None:
        left: list[Pod] = []
        store = PodStore(STALE, on_left=left.append)
        store.set_pods([A, B], 0.0)
        store.acquire(A, 10_000, 0.0)
        store.observe(A.address, FULL, 0.0)
        other = Pod(A.address, "other")
        assert store.set_pods([other, B], 1.0) == ([], [])
        # Its cache is empty, and nothing measured of the first holds; what was sent to the address is still counted.
        assert left == [other]
        snapshot = store.snapshot(1.0)
        assert snapshot.pods == (other, B)
        assert isnan(snapshot.kv_usage[0])
        assert (snapshot.in_flight[0], snapshot.prefill[0][0]) == (1, 0)

    @pytest.mark.parametrize(("before", "now"), [("", "a"), ("a", ""), (A.address, "a"), ("a", A.address)])
    def test_a_pod_that_gets_or_loses_its_name_is_the_same(self, before: str, now: str) -> None:
        store = new(Pod(A.address, before))
        store.acquire(A, 10, 0.0)
        store.observe(A.address, FULL, 0.0)
        renamed = Pod(A.address, now)
        assert store.set_pods([renamed], 1.0) == ([], [])
        snapshot = store.snapshot(1.0)
        assert snapshot.pods == (renamed,)
        assert (snapshot.in_flight[0], snapshot.kv_usage[0]) == (1, 0.5)

    def test_what_is_known_moves_with_a_pod(self) -> None:
        store = new(A, B)
        store.observe(B.address, FULL, 0.0)
        store.acquire(B, 70, 0.0)
        store.set_pods([C, B, A], 1.0)
        snapshot = store.snapshot(1.0)
        assert snapshot.kv_usage.tolist() == pytest.approx([nan, 0.5, nan], nan_ok=True)
        assert snapshot.waiting.tolist() == pytest.approx([nan, 4, nan], nan_ok=True)
        assert snapshot.in_flight.tolist() == [0, 1, 0]
        assert snapshot.in_flight_tokens.tolist() == [0, 70, 0]
        # And counts on in its new row.
        store.acquire(B, 5, 1.0)
        assert store.snapshot(1.0).in_flight.tolist() == [0, 2, 0]
        assert store.snapshot(1.0).waiting[1] == 5

    def test_a_pod_that_returns_finds_its_requests_and_nothing_else(self) -> None:
        store = new(A, B)
        store.observe(A.address, FULL, 0.0)
        store.observe_failure(A.address, 0.0, "down")
        outcome(store, A, ttft=1.0, tpot=1.0, now=0.0)
        tickets = [store.acquire(A, 10, 0.0) for _ in range(3)]
        store.set_pods([B], 0.1)
        tickets[0].release(0.2)
        assert store.in_flight(A.address) == 2
        store.set_pods([A, B], 0.3)
        snapshot = store.snapshot(0.3)
        assert (snapshot.in_flight[0], snapshot.in_flight_tokens[0]) == (2, 20)
        assert [isnan(column[0]) for column in (snapshot.waiting, snapshot.kv_usage, snapshot.ttft, snapshot.tpot)] == [
            True
        ] * 4
        assert snapshot.adapters[0] == NO_ADAPTERS
        row = store.statistics(0.3)[0]
        assert (row["scrape_age"], row["failures"], row["error"]) == (None, 0, "")
        outcome(store, A, ttft=3.0, tpot=3.0, now=0.3)
        snapshot = store.snapshot(0.3 + OUTCOME_REFRESH)
        assert (snapshot.ttft[0], snapshot.tpot[0]) == (3.0, 3.0)
        for ticket in tickets:
            ticket.release(0.4)
        assert store.snapshot(0.4).in_flight.tolist() == [0, 0]

    def test_a_pod_that_left_is_forgotten_with_its_last_request(self) -> None:
        store = new(A, B)
        ticket = store.acquire(A, 10, 0.0)
        store.set_pods([B], 0.1)
        assert [row["address"] for row in store.statistics(0.1)] == [B.address, A.address]
        ticket.release(0.2)
        assert [row["address"] for row in store.statistics(0.2)] == [B.address]

    def test_a_returning_pod_keeps_what_it_served(self) -> None:
        store = new(A, B)
        for _ in range(3):
            store.acquire(A, 1, 0.0)
        store.set_pods([B], 1.0)
        store.set_pods([B, A], 2.0)
        assert store.snapshot(2.0).served.tolist() == [0, 3]

    def test_an_earlier_snapshot_is_left_alone(self) -> None:
        store = new(A, B)
        store.observe(A.address, FULL, 0.0)
        before = store.snapshot(0.0)
        store.set_pods([B], 0.1)
        store.acquire(B, 10, 0.1)
        store.observe(B.address, FULL, 0.1)
        assert before.pods == (A, B)
        assert before.waiting.tolist() == pytest.approx([3, nan], nan_ok=True)
        assert before.in_flight.tolist() == [0, 0]


class TestScrapes:
    def test_a_sample_is_seen_at_once(self) -> None:
        store = new(A, B)
        before = store.snapshot(0.0)
        store.observe(B.address, FULL, 0.0)
        snapshot = store.snapshot(0.0)
        assert isnan(before.waiting[1])
        for column, value in (("waiting", 3), ("running", 8), ("kv_usage", 0.5), ("ttft", 0.2), ("tpot", 0.02)):
            assert getattr(snapshot, column).tolist() == pytest.approx([nan, value], nan_ok=True)
        assert snapshot.adapters == (NO_ADAPTERS, FULL.adapters)

    def test_the_same_object_until_something_changes(self) -> None:
        store = new(A, B)
        store.observe(A.address, FULL, 0.0)
        snapshot = store.snapshot(0.5)
        assert store.snapshot(1.9) is snapshot
        store.observe_failure(A.address, 1.9)
        assert store.snapshot(1.9) is snapshot
        store.observe(A.address, FULL, 1.0)
        assert store.snapshot(1.9) is not snapshot

    def test_what_is_stale_is_unknown(self) -> None:
        store = new(A, B)
        store.observe(A.address, FULL, 0.0)
        store.observe(B.address, FULL, 1.0)
        for now, known in ((1.99, [True, True]), (2.0, [False, True]), (3.0, [False, False])):
            snapshot = store.snapshot(now)
            for column in (snapshot.waiting, snapshot.running, snapshot.kv_usage, snapshot.ttft, snapshot.tpot):
                assert (~np.isnan(column)).tolist() == known
            assert [adapters != NO_ADAPTERS for adapters in snapshot.adapters] == known

    def test_a_gauge_that_a_page_leaves_out_is_unknown_at_once(self) -> None:
        store = new(A)
        store.observe(A.address, FULL, 0.0)
        store.observe(A.address, Sample(running=1), 0.1)
        snapshot = store.snapshot(0.1)
        assert isnan(snapshot.waiting[0])
        assert isnan(snapshot.kv_usage[0])
        assert snapshot.running[0] == 1
        assert snapshot.adapters == (NO_ADAPTERS,)

    def test_a_mean_without_new_observations_grows_old(self) -> None:
        store = new(A)
        store.observe(A.address, FULL, 0.0)
        store.observe(A.address, Sample(waiting=0), 1.5)
        assert (store.snapshot(1.9).ttft[0], store.snapshot(1.9).tpot[0]) == (0.2, 0.02)
        assert isnan(store.snapshot(2.0).ttft[0])
        assert store.snapshot(2.0).waiting[0] == 0

    def test_pods_that_are_not_there_are_ignored(self) -> None:
        store = new(A)
        ticket = store.acquire(B, 10, 0.0)
        for pod in (B, C):
            store.observe(pod.address, FULL, 0.0)
            store.observe_failure(pod.address, 0.0, "down")
            store.restarted(pod.address)
            outcome(store, pod, ttft=1.0, tpot=1.0, now=0.0)
        store.set_pods([A, B, C], 0.1)
        assert np.isnan(store.snapshot(0.1).ttft).all()
        assert [row["failures"] for row in store.statistics(0.1)] == [0, 0, 0]
        ticket.release(0.2)

    def test_a_restart_voids_what_was_known(self) -> None:
        left: list[Pod] = []
        store = PodStore(STALE, on_left=left.append)
        store.set_pods([A, B], 0.0)
        store.acquire(A, 10, 0.0)
        for pod in (A, B):
            store.observe(pod.address, FULL, 0.0)
            outcome(store, pod, ttft=1.0, tpot=1.0, now=0.1)
        store.observe(A.address, Sample(waiting=0, restarted=True), 0.2)
        assert left == [A]
        snapshot = store.snapshot(0.2)
        assert np.isnan(snapshot.ttft).tolist() == np.isnan(snapshot.kv_usage).tolist() == [True, False]
        assert snapshot.waiting[0] == 0
        assert snapshot.in_flight[0] == 1
        store.restarted(B.address)
        assert left == [A, B]
        assert isnan(store.snapshot(0.2).waiting[1])


class TestCorrection:
    """Between scrapes; the rule itself is in test_correction.py."""

    def load(self, store: PodStore, now: float) -> list[float]:
        """What least-request computes."""
        snapshot = store.snapshot(now)
        queued = np.fmax(snapshot.in_flight - snapshot.running, 0)
        return [float(value) for value in snapshot.in_flight + 100 * queued]

    def test_a_burst_to_an_idle_pod_does_not_look_queued(self) -> None:
        store = new(A, B)
        for pod in (A, B):
            store.observe(pod.address, Sample(waiting=0, running=0), 0.0)
        store.snapshot(0.0)
        tickets = [store.acquire(A, 10, 0.001) for _ in range(20)]
        assert self.load(store, 0.001) == [20, 0]
        for ticket in tickets:
            ticket.release(0.002)
        assert self.load(store, 0.002) == [0, 0]
        assert store.snapshot(0.002).running.tolist() == [0, 0]

    def test_behind_a_queue_it_does(self) -> None:
        store = new(A)
        tickets = [store.acquire(A, 10, 0.0) for _ in range(10)]
        store.observe(A.address, Sample(waiting=2, running=8), 0.0)
        assert self.load(store, 0.0) == [10 + 200]
        tickets += [store.acquire(A, 10, 0.001) for _ in range(5)]
        assert store.snapshot(0.001).waiting[0] == 7
        assert self.load(store, 0.001) == [15 + 700]
        for ticket in tickets[:9]:
            ticket.release(0.002)
        assert store.snapshot(0.002).waiting[0] == 0
        assert store.snapshot(0.002).running[0] == 6

    def test_in_the_snapshot_that_is_there_and_in_the_next(self) -> None:
        store = new(A)
        store.observe(A.address, Sample(waiting=1, running=1), 0.0)
        snapshot = store.snapshot(0.0)
        store.acquire(A, 10, 0.5)
        assert store.snapshot(1.9) is snapshot
        assert snapshot.waiting[0] == 2
        store.observe(A.address, Sample(waiting=3, running=1), 1.9)
        store.acquire(A, 10, 1.9)
        later = store.snapshot(1.9)
        assert later is not snapshot
        assert later.waiting[0] == 4

    def test_requests_sent_while_the_page_was_made_are_not_on_it(self) -> None:
        store = new(A)
        asked, seen = 0.0, store.in_flight(A.address)
        for _ in range(4):
            store.acquire(A, 10, 0.1)
        store.observe(A.address, Sample(waiting=1, running=1), asked, seen)
        assert store.snapshot(0.2).waiting[0] == 5

    def test_what_is_unknown_stays_so(self) -> None:
        store = new(A, B)
        store.observe(A.address, Sample(kv_usage=0.5), 0.0)
        store.observe(B.address, FULL, 0.0)
        store.snapshot(STALE)
        for pod in (A, B):
            store.acquire(pod, 10, STALE)
        snapshot = store.snapshot(STALE)
        assert np.isnan(snapshot.waiting).all()
        assert np.isnan(snapshot.running).all()


class TestOutcomes:
    def test_they_are_seen_soon(self) -> None:
        store = new(A)
        snapshot = store.snapshot(0.0)
        outcome(store, A, ttft=0.5, tokens=100, tpot=0.05, now=0.0)
        assert store.snapshot(0.0) is snapshot
        after = store.snapshot(OUTCOME_REFRESH)
        assert (after.ttft[0], after.tpot[0]) == (0.5, 0.05)
        assert store.snapshot(KNOWN_FOR - 0.01) is after

    def test_a_pod_that_is_not_observed_drifts_back_to_unknown(self) -> None:
        store = new(A)
        for _ in range(1000):
            outcome(store, A, ttft=0.5, tokens=100, tpot=0.05, now=0.0)
        assert not isnan(store.snapshot(KNOWN_FOR - 0.01).ttft[0])
        snapshot = store.snapshot(KNOWN_FOR)
        assert isnan(snapshot.ttft[0])
        assert isnan(snapshot.tpot[0])

    def test_the_fresher_of_engine_and_gateway(self) -> None:
        store = new(A)
        outcome(store, A, ttft=0.5, now=1.0)
        store.observe(A.address, Sample(ttft=0.1), 1.1)
        assert store.snapshot(1.2).ttft[0] == 0.1
        outcome(store, A, ttft=0.5, now=1.3)
        assert store.snapshot(1.5).ttft[0] == 0.5
        store.observe(A.address, Sample(ttft=0.1), 2.0)
        assert store.snapshot(2.0).ttft[0] == 0.1
        # The engine's last word is stale first.
        assert store.snapshot(4.0).ttft[0] == 0.5

    def test_pods_are_compared_as_if_for_the_same_prompt(self) -> None:
        """Equal pods, of which one got the long prompts, are told to be equal."""
        store, rng = new(A, B), Random(1)
        for at in range(50):
            for pod, most in ((A, 400), (B, 4000)):
                tokens = rng.randrange(most)
                outcome(store, pod, ttft=0.05 + 0.0005 * tokens, tokens=tokens, now=at / 10)
        ttft = store.snapshot(10.0).ttft
        assert ttft[0] == pytest.approx(ttft[1], rel=0.05)

    def test_a_slow_pod_is_told_apart_from_one_with_long_prompts(self) -> None:
        store, rng = new(A, B), Random(1)
        for at in range(50):
            for pod, most, base in ((A, 400, 0.5), (B, 4000, 0.05)):
                tokens = rng.randrange(most)
                outcome(store, pod, ttft=base + 0.0005 * tokens, tokens=tokens, now=at / 10)
        ttft = store.snapshot(10.0).ttft
        assert ttft[0] - ttft[1] == pytest.approx(0.45, rel=0.1)

    @pytest.mark.parametrize("value", [None, nan, -1.0, float("inf")])
    def test_nonsense_is_ignored(self, value: float | None) -> None:
        store = new(A)
        outcome(store, A, ttft=value, tpot=value, now=0.0)
        snapshot = store.snapshot(1.0)
        assert isnan(snapshot.ttft[0])
        assert isnan(snapshot.tpot[0])


class TestTickets:
    def test_release_counts_once(self) -> None:
        store = new(A)
        ticket = store.acquire(A, 30, 0.0)
        assert store.snapshot(0.0).in_flight_tokens[0] == 30
        ticket.release(0.1)
        ticket.release(0.2)
        snapshot = store.snapshot(0.2)
        assert (snapshot.in_flight[0], snapshot.in_flight_tokens[0], snapshot.served[0]) == (0, 0, 1)

    def test_move(self) -> None:
        store = new(A, B)
        ticket = store.acquire(A, 30, 0.0)
        ticket.move(A, 0.0)
        assert store.snapshot(0.0).in_flight.tolist() == [1, 0]
        ticket.move(B, 0.0)
        assert ticket.pod == B
        snapshot = store.snapshot(0.0)
        assert snapshot.in_flight.tolist() == snapshot.served.tolist() == [0, 1]
        assert snapshot.in_flight_tokens.tolist() == [0, 30]
        ticket.release(0.1)
        assert store.snapshot(0.1).in_flight.tolist() == [0, 0]

    def test_move_after_release_is_about_who_served(self) -> None:
        store = new(A, B)
        ticket = store.acquire(A, 30, 0.0)
        ticket.release(0.0)
        ticket.move(A, 0.0)
        ticket.move(B, 0.0)
        ticket.move(C, 0.0)
        assert ticket.pod == C
        assert store.snapshot(0.0).in_flight.tolist() == [0, 0]
        assert store.snapshot(0.0).served.tolist() == [0, 0]
        ticket.move(B, 0.0)
        assert store.snapshot(0.0).served.tolist() == [0, 1]

    def test_pods_that_left_are_not_in_the_pool(self) -> None:
        store = new(A, B)
        ticket = store.acquire(A, 30, 0.0)
        store.set_pods([B], 1.0)
        assert (store.has(A.address), store.has(B.address), store.has(C.address)) == (False, True, False)
        ticket.release(1.0)
        assert not store.has(A.address)

    def test_to_a_pod_that_is_not_there(self) -> None:
        store = new(A)
        ticket = store.acquire(A, 30, 0.0)
        ticket.move(C, 0.0)
        assert store.in_flight(C.address) == 1
        store.set_pods([A, C], 0.1)
        assert store.snapshot(0.1).in_flight.tolist() == [0, 1]
        ticket.release(0.2)
        assert store.in_flight(C.address) == 0


class TestRefusals:
    def masks(self, store: PodStore, now: float, model: str = "m") -> tuple[list[bool] | None, list[bool] | None]:
        snapshot = store.snapshot(now)
        missing = snapshot.missing.get(model)
        return (
            None if snapshot.refusing is None else snapshot.refusing.tolist(),
            None if missing is None else missing.tolist(),
        )

    def test_for_as_long_as_was_said(self) -> None:
        store = new(A, B)
        store.observe_refusal(B.address, 5.0, 1.0)
        store.observe_refusal(B.address, 1.0, 1.0)
        store.observe_refusal(C.address, 5.0, 1.0)
        assert self.masks(store, 5.9) == ([False, True], None)
        assert store.statistics(4.0)[1]["resting_for"] == 2.0
        assert self.masks(store, 6.1) == (None, None)

    def test_of_one_model(self) -> None:
        store = new(A, B)
        store.observe_missing(A.address, "m", 1.0)
        store.observe_missing(A.address, "", 1.0)
        assert self.masks(store, 1.0) == (None, [True, False])
        assert self.masks(store, 1.0, "other") == (None, None)
        assert self.masks(store, 1.0, "") == (None, None)
        assert self.masks(store, 1.0 + MISSING_FOR) == (None, None)

    def test_a_new_engine_has_said_nothing(self) -> None:
        store = new(A, B)
        store.observe_refusal(A.address, 5.0, 1.0)
        store.observe_missing(A.address, "m", 1.0)
        store.restarted(A.address)
        assert self.masks(store, 1.0) == (None, None)

    def test_clients_make_up_any_number_of_models(self) -> None:
        store = new(A, B)
        for number in range(MOST_MISSING + 5):
            store.observe_missing(A.address, f"m{number}", 1.0)
        assert len(store.snapshot(1.0).missing) == MOST_MISSING
        assert self.masks(store, 1.0, "m0") == (None, None)


class TestKvTokens:
    def test_stays_known_until_the_engine_is_another(self) -> None:
        store = new(A, B)
        store.observe(A.address, Sample(kv_tokens=1000), 0.0)
        store.observe(A.address, Sample(waiting=1), 100.0)
        assert store.snapshot(200.0).kv_tokens.tolist() == pytest.approx([1000, nan], nan_ok=True)
        store.set_pods([B, A], 200.0)
        assert store.snapshot(200.0).kv_tokens.tolist() == pytest.approx([nan, 1000], nan_ok=True)
        store.restarted(A.address)
        assert np.isnan(store.snapshot(200.0).kv_tokens).all()


class TestBacklog:
    """What waits at a pod, by whatever tells of it; the rules are in test_backlog.py."""

    def backlog(self, store: PodStore, now: float = 0.0) -> list[float]:
        return [row["backlog"] for row in store.statistics(now)]

    def test_a_pick_adds_its_prefill_and_the_first_token_takes_it_off(self) -> None:
        store = new(A, B)
        ticket = store.acquire(A, 10_000, 0.0)
        assert self.backlog(store) == [1.0, 0.0]
        assert store.snapshot(0.0).prefill.tolist() == [[1.0, 0.0], [0.0, 0.0], [1e-4, 1e-4]]
        ticket.begin(0.0)
        assert self.backlog(store) == [0.0, 0.0]
        assert store.snapshot(0.0).in_flight.tolist() == [1, 0]

    def test_an_end_takes_it_off_as_well(self) -> None:
        store = new(A)
        store.acquire(A, 10_000, 0.0).release(0.0)
        assert self.backlog(store) == [0.0]

    def test_the_engine_counts_first_tokens_of_others_too(self) -> None:
        store = new(A)
        for _ in range(4):
            store.acquire(A, 10_000, 0.0)
        # Eight are there, so that half of what began is ours.
        store.observe(A.address, Sample(waiting=4, running=4, first_tokens=4), 0.0)
        assert self.backlog(store) == [2.0]
        store.observe(A.address, Sample(waiting=0, running=4, first_tokens=4), 0.0)
        assert self.backlog(store) == [0.0]

    def test_an_engine_that_restarts_has_none(self) -> None:
        store = new(A)
        ticket = store.acquire(A, 10_000, 0.0)
        store.observe(A.address, Sample(waiting=0, restarted=True), 1.0)
        assert self.backlog(store, 1.0) == [0.0]
        ticket.release(1.0)
        assert store.snapshot(1.0).in_flight.tolist() == [0]

    def test_a_request_that_another_pod_answered_waits_nowhere(self) -> None:
        store = new(A, B)
        store.acquire(A, 10_000, 0.0).move(B, 0.0)
        assert self.backlog(store) == [0.0, 0.0]
        assert store.snapshot(0.0).in_flight.tolist() == [0, 1]

    def test_the_pace_is_learnt_from_times_to_first_token(self) -> None:
        store = new(A, B)
        for number in range(20):
            ticket = store.acquire(A, 10_000, float(number))
            ticket.release(number + 0.5)
            store.observe_outcome(
                A.address, ttft=3.0, uncached_tokens=10_000, tpot=None, now=number + 0.5, ahead=ticket.ahead
            )
        # Of a pod that has answered nothing, what all have in common.
        assert store.snapshot(30.0).prefill[2].tolist() == pytest.approx([3e-4, 3e-4])
        store.acquire(B, 10_000, 30.0)
        assert self.backlog(store, 30.0)[1] == pytest.approx(3.0)

    def test_a_pod_whose_cache_is_full_tells_nothing_of_its_pace(self) -> None:
        store = new(A)
        for number in range(20):
            store.observe(A.address, Sample(kv_usage=0.95, waiting=0, running=1), float(number))
            store.snapshot(float(number))
            ticket = store.acquire(A, 10_000, float(number))
            ticket.release(number + 0.5)
            store.observe_outcome(
                A.address, ttft=30.0, uncached_tokens=10_000, tpot=None, now=number + 0.5, ahead=ticket.ahead
            )
        assert store.snapshot(30.0).prefill[2].tolist() == [UNKNOWN]

    def test_and_from_the_engines_count_where_nothing_else_tells(self) -> None:
        store = new(A)
        store.observe(A.address, Sample(waiting=0, running=0), 0.0)
        for number in range(1, 40):
            store.acquire(A, 10_000, float(number))
            store.observe(A.address, Sample(waiting=0, running=1, first_tokens=1), number + 0.5)
        # Sent at the full second, begun between then and half a second later.
        assert store.snapshot(50.0).prefill[2].tolist() == pytest.approx([0.25e-4], rel=0.1)


class TestStatistics:
    def test_of_an_unknown_pod(self) -> None:
        store = new(Pod("10.0.0.9:80"))
        assert store.statistics(5.0) == [
            {
                "address": "10.0.0.9:80",
                "name": "10.0.0.9:80",
                "ready": True,
                "in_flight": 0,
                "in_flight_tokens": 0,
                "backlog": 0.0,
                "seconds_per_token": None,
                "served": 0,
                "waiting": None,
                "running": None,
                "kv_usage": None,
                "kv_tokens": None,
                "ttft": None,
                "tpot": None,
                "adapters": {"running": [], "waiting": [], "capacity": 0},
                "scrape_age": None,
                "resting_for": 0.0,
                "failed_requests": 0,
                "failures": 0,
                "failing_for": None,
                "error": "",
            }
        ]

    def test_of_a_known_pod(self) -> None:
        store = new(A)
        store.acquire(A, 40, 1.0)
        store.observe(A.address, FULL, 1.0)
        store.observe_failure(A.address, 1.5, "timeout")
        store.observe_failure(A.address, 1.75, "http_status: 500")
        row = store.statistics(2.0)[0]
        assert row["name"] == "a"
        assert (row["waiting"], row["running"], row["kv_usage"], row["ttft"], row["tpot"]) == (3, 8, 0.5, 0.2, 0.02)
        assert (row["in_flight"], row["in_flight_tokens"], row["served"]) == (1, 40, 1)
        assert row["adapters"] == {"running": ["lora"], "waiting": [], "capacity": 4}
        assert (row["scrape_age"], row["failures"], row["failing_for"]) == (1.0, 2, 0.5)
        assert row["error"] == "http_status: 500"
        store.observe(A.address, FULL, 2.0)
        row = store.statistics(2.0)[0]
        assert (row["failures"], row["failing_for"], row["error"]) == (0, None, "")

    def test_of_a_pod_that_left(self) -> None:
        store = new(A, B)
        store.acquire(A, 40, 0.0)
        store.observe(A.address, FULL, 0.0)
        store.set_pods([B], 0.0)
        row = store.statistics(0.0)[1]
        assert (row["address"], row["ready"], row["in_flight"], row["waiting"]) == (A.address, False, 1, None)

    def test_is_ready_for_json(self) -> None:
        store = new(A, B)
        store.observe(A.address, FULL, 0.0)
        store.acquire(A, 1, 0.0)
        assert json.loads(json.dumps(store.statistics(0.0), allow_nan=False)) == store.statistics(0.0)


addresses = [f"10.0.1.{number}:80" for number in range(5)]
pods = st.sampled_from([Pod(address) for address in addresses])
known_counts = st.none() | st.integers(0, 20)


class Machine(RuleBasedStateMachine):
    """Whatever comes in whatever order: every request counts exactly once, at the pod that has it."""

    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.left: Counter[str] = Counter()
        self.store = PodStore(STALE, on_left=lambda pod: self.left.update([pod.address]))
        self.pods: list[Pod] = []
        self.holders: dict[int, Pod] = {}

    @rule(chosen=st.lists(pods, max_size=7))
    def discover(self, chosen: list[Pod]) -> None:
        before = self.pods
        self.pods = list({pod.address: pod for pod in chosen}.values())
        joined, left = self.store.set_pods(chosen, self.now)
        assert joined == [pod for pod in self.pods if pod not in before]
        assert left == [pod for pod in before if pod not in self.pods]
        assert self.left == Counter([pod.address for pod in left])
        self.left.clear()

    @rule(seconds=st.sampled_from([0.001, 0.1, 1.0, 3.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=tickets, pod=pods, tokens=st.integers(0, 1000))
    def acquire(self, pod: Pod, tokens: int) -> Ticket:
        ticket = self.store.acquire(pod, tokens, self.now)
        self.holders[id(ticket)] = pod
        return ticket

    @rule(ticket=tickets, pod=pods)
    def move(self, ticket: Ticket, pod: Pod) -> None:
        ticket.move(pod, self.now)
        if id(ticket) in self.holders:
            self.holders[id(ticket)] = pod

    @rule(ticket=tickets)
    def release(self, ticket: Ticket) -> None:
        ticket.release(self.now)
        self.holders.pop(id(ticket), None)

    @rule(ticket=consumes(tickets))
    def release_and_drop(self, ticket: Ticket) -> None:
        self.release(ticket)

    @rule(ticket=tickets)
    def begin(self, ticket: Ticket) -> None:
        ticket.begin(self.now)

    @rule(
        pod=pods,
        waiting=known_counts,
        running=known_counts,
        first_tokens=st.none() | st.integers(1, 20),
        restarted=st.booleans(),
    )
    def scrape(
        self, pod: Pod, waiting: int | None, running: int | None, first_tokens: int | None, restarted: bool
    ) -> None:
        sample = Sample(waiting=waiting, running=running, first_tokens=first_tokens, restarted=restarted)
        self.store.observe(pod.address, sample, self.now)
        assert self.left == Counter([pod.address] if restarted and pod in self.pods else [])
        self.left.clear()
        if pod in self.pods:
            snapshot = self.store.snapshot(self.now)
            row = snapshot.rows[pod.address]
            assert isnan(snapshot.waiting[row]) == (waiting is None)
            assert isnan(snapshot.running[row]) == (running is None)

    @rule(pod=pods)
    def fail(self, pod: Pod) -> None:
        self.store.observe_failure(pod.address, self.now, "down")

    @rule(pod=pods, ttft=st.none() | st.floats(0, 10), tokens=st.integers(0, 1000))
    def end(self, pod: Pod, ttft: float | None, tokens: int) -> None:
        outcome(self.store, pod, ttft=ttft, tokens=tokens, tpot=ttft, now=self.now)

    @invariant()
    def every_request_counts_once(self) -> None:
        snapshot = self.store.snapshot(self.now)
        held = Counter(pod.address for pod in self.holders.values())
        assert snapshot.pods == tuple(self.pods)
        assert snapshot.in_flight.tolist() == [held[pod.address] for pod in self.pods]
        for address in addresses:
            assert self.store.in_flight(address) == held[address]
        rows = self.store.statistics(self.now)
        assert sum(row["in_flight"] for row in rows) == len(self.holders)
        assert (snapshot.in_flight_tokens >= 0).all()
        assert (snapshot.prefill[0] >= 0).all()
        for row, pod in enumerate(self.pods):
            if not held[pod.address]:
                assert snapshot.prefill[0][row] == 0
        if not self.holders:
            assert not snapshot.in_flight_tokens.any()
            assert len(rows) == len(self.pods)

    @invariant()
    def a_snapshot_built_anew_says_the_same(self) -> None:
        snapshot = self.store.snapshot(self.now)
        self.store._deadline = self.now
        again = self.store.snapshot(self.now)
        assert again is not snapshot
        for column in ("waiting", "running", "kv_usage"):
            assert np.array_equal(getattr(snapshot, column), getattr(again, column), equal_nan=True)
        assert np.nanmin([0.0, *again.waiting, *again.running, *again.ttft]) >= 0


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=40, stateful_step_count=40)


class TestTrouble:
    def store(self, count: int = 3) -> tuple[PodStore, list[Pod]]:
        store, pods = PodStore(2.0), [Pod(f"10.0.0.{n}:80") for n in range(1, count + 1)]
        store.set_pods(pods, 0.0)
        return store, pods

    def resting(self, store: PodStore, now: float) -> list[str]:
        snapshot = store.snapshot(now)
        if snapshot.resting is None:
            return []
        return [pod.address for pod, rests in zip(snapshot.pods, snapshot.resting.tolist(), strict=True) if rests]

    def trip(self, store: PodStore, pod: Pod, now: float) -> None:
        assert [store.observe_failure_of_request(pod.address, now) for _ in range(TRIP)][-1]

    def test_a_pod_that_fails_rests_until_it_is_tried(self) -> None:
        store, pods = self.store()
        self.trip(store, pods[0], 1.0)
        assert self.resting(store, 1.0) == [pods[0].address]
        assert store.statistics(1.5)[0]["resting_for"] == FIRST_REST - 0.5
        end = 1.0 + FIRST_REST
        assert self.resting(store, end) == []
        # One request may try; until it ends, no other.
        ticket = store.acquire(pods[0], 1, end)
        assert self.resting(store, end + 0.1) == [pods[0].address]
        ticket.release(end + 0.2)
        store.observe_success_of_request(pods[0].address)
        assert self.resting(store, end + 0.2) == []
        assert store.statistics(end + 0.2)[0]["failed_requests"] == 0

    def test_a_trial_that_ends_without_a_word_makes_room_for_the_next(self) -> None:
        store, pods = self.store()
        self.trip(store, pods[0], 0.0)
        assert self.resting(store, FIRST_REST) == []
        ticket = store.acquire(pods[0], 1, FIRST_REST)
        assert self.resting(store, FIRST_REST + TROUBLE_REFRESH) == [pods[0].address]
        ticket.release(2 * FIRST_REST)
        assert self.resting(store, 2 * FIRST_REST + TROUBLE_REFRESH) == []

    def test_several_pods_rest_each_until_its_own_end(self) -> None:
        store, pods = self.store(4)
        self.trip(store, pods[0], 0.0)
        self.trip(store, pods[1], 1.0)
        assert self.resting(store, 1.0) == [pods[0].address, pods[1].address]
        assert self.resting(store, FIRST_REST) == [pods[1].address]
        assert self.resting(store, 1.0 + FIRST_REST) == []

    def test_a_trial_that_fails_begins_a_longer_rest(self) -> None:
        store, pods = self.store()
        self.trip(store, pods[0], 0.0)
        assert store.observe_failure_of_request(pods[0].address, FIRST_REST)
        assert self.resting(store, 2.5 * FIRST_REST) == [pods[0].address]
        assert self.resting(store, 3 * FIRST_REST) == []

    def test_a_restart_ends_it(self) -> None:
        store, pods = self.store()
        self.trip(store, pods[0], 0.0)
        store.restarted(pods[0].address)
        assert self.resting(store, 0.0) == []

    def test_a_pod_that_left_is_no_trouble(self) -> None:
        store, pods = self.store()
        self.trip(store, pods[0], 0.0)
        store.set_pods(pods[1:], 0.1)
        assert self.resting(store, 0.1) == []
        assert not store.observe_failure_of_request(pods[0].address, 0.2)
        store.observe_success_of_request(pods[0].address)
