from collections import Counter
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.plugins import Faults, Keeps, Prepares, Records, Scores, broken
from support.snapshots import P, address, fleets, request, snapshot

from scheduler import cycle
from scheduler.config import MAX_PODS
from scheduler.cycle import FEW, record_at, schedule
from scheduler.errors import NoReadyPod, Saturated
from scheduler.framework import Cycle
from scheduler.profile import BadAnswer, Profile
from scheduler.types import Decision, Request, Snapshot


def decide(profile: Profile, pods: Snapshot, *, text: str = "", seed: int = 1, **how: Any) -> Decision:
    record = how.pop("record", True)
    return schedule(profile, request(text, **how), pods, now=0.0, rng=Random(seed), record=record)


def picked(decision: Decision) -> list[int]:
    return [decision.candidates.rows[pod.address] for pod in decision.pods]


def scoring(*scores: float) -> Profile:
    return Profile(plugins={"s": Scores(scores)}, scorers=[("s", 1)])


class TestPick:
    def test_best_first_then_the_fallbacks(self) -> None:
        assert picked(decide(scoring(10, 30, 20), snapshot(*[P()] * 3))) == [1, 2, 0]

    @pytest.mark.parametrize("count", [1, 2, 4, 5, 6, FEW, FEW + 1, 100])
    def test_five_pods_at_most(self, count: int) -> None:
        decision = decide(scoring(*np.linspace(0, 100, count)), snapshot(*[P()] * count))
        assert picked(decision) == list(range(count))[::-1][:MAX_PODS]

    @pytest.mark.parametrize("count", [4, 40])
    def test_ties_go_to_the_fewest_in_flight(self, count: int) -> None:
        rows = [P(in_flight=9)] * count
        rows[0], rows[2], rows[3] = P(in_flight=2), P(in_flight=1), P(in_flight=3)
        assert picked(decide(scoring(*[50.0] * count), snapshot(*rows)))[:3] == [2, 0, 3]

    def test_who_served_fewest_before_does_not_get_every_new_conversation(self) -> None:
        """Hours of conversations that stay on seven of eight pods, then 32 new ones, one after the other."""
        rows = [P(served=10_000)] * 7 + [P(served=3)]
        seen = Counter(picked(decide(scoring(*[50.0] * 8), snapshot(*rows), seed=seed))[0] for seed in range(32))
        assert len(seen) >= 6
        assert max(seen.values()) <= 12

    def test_rounding_is_a_tie(self) -> None:
        pods = snapshot(P(in_flight=2), P(in_flight=1))
        assert picked(decide(scoring(0.1 + 0.2, 0.3), pods)) == [1, 0]
        assert picked(decide(scoring(0.30001, 0.3), pods)) == [0, 1]

    @pytest.mark.parametrize("count", [3, 8, 30])
    def test_chance_decides_at_last_and_evenly(self, count: int) -> None:
        profile, pods, rng = scoring(*[1.0] * count), snapshot(*[P()] * count), Random(3)
        seen = Counter(schedule(profile, request(), pods, now=0.0, rng=rng).pod.address for _ in range(count * 200))
        assert len(seen) == count
        assert max(seen.values()) < 300
        assert min(seen.values()) > 120

    def test_chance_is_seeded(self) -> None:
        profile, pods = scoring(*[1.0] * 30), snapshot(*[P()] * 30)
        assert picked(decide(profile, pods, seed=5)) == picked(decide(profile, pods, seed=5))
        assert len({tuple(picked(decide(profile, pods, seed=seed))) for seed in range(20)}) > 10

    def test_without_scorers_ties_decide(self) -> None:
        assert picked(decide(Profile(plugins={}), snapshot(P(in_flight=2), P(in_flight=1)))) == [1, 0]

    @given(
        fleets(most=40),
        st.lists(st.sampled_from([0.0, 10.0, 50.0, 100.0]), min_size=40, max_size=40),
        st.integers(0, 9),
    )
    def test_the_order_is_that_of_a_plain_sort(self, rows: list[P], worth: list[float], seed: int) -> None:
        pods = snapshot(*rows)
        profile = scoring(*worth[: len(rows)])
        rows_picked = picked(decide(profile, pods, seed=seed))
        keys = [(-worth[row], rows[row].in_flight) for row in range(len(rows))]
        assert [keys[row] for row in rows_picked] == sorted(keys)[:MAX_PODS]
        assert len(set(rows_picked)) == len(rows_picked)


class Preferring:
    """A filter that prefers one pod."""

    name = "preferring"
    prefers = True

    def __init__(self, *rows: int) -> None:
        self._rows = rows

    def keep(self, request: Request, pods: Snapshot, cycle: Cycle) -> np.ndarray:
        return np.array([pod.address in {address(row) for row in self._rows} for pod in pods.pods], np.bool_)


class Free:
    """A filter that leaves out pods that queue."""

    name = "free"

    def keep(self, request: Request, pods: Snapshot, cycle: Cycle) -> np.ndarray:
        return pods.waiting < 10


class TestRefusals:
    def test_who_has_no_room_is_passed_over(self) -> None:
        pods = snapshot(P(), P(in_flight=5), P())
        pods.refusing = np.array([True, False, True])
        assert picked(decide(Profile(plugins={}), pods)) == [0]
        assert [pod.address for pod in decide(Profile(plugins={}), pods).pods] == [address(1)]

    def test_unless_nobody_has(self) -> None:
        pods = snapshot(P(in_flight=1), P())
        pods.refusing = np.array([True, True])
        assert picked(decide(Profile(plugins={}), pods)) == [1, 0]

    def test_who_does_not_know_the_model_is_not_asked_for_it(self) -> None:
        pods = snapshot(P(), P(in_flight=5))
        pods.missing["sql"] = np.array([True, False])
        assert [pod.address for pod in decide(Profile(plugins={}), pods, model="sql").pods] == [address(1)]
        assert len(decide(Profile(plugins={}), pods, model="other").pods) == 2
        pods.missing["sql"] = np.array([True, True])
        assert len(decide(Profile(plugins={}), pods, model="sql").pods) == 2

    def test_of_a_part_of_the_pods(self) -> None:
        pods = snapshot(P(), P(), P())
        pods.refusing = np.array([True, False, False])
        pods.missing["m"] = np.array([False, True, False])
        allowed = frozenset([address(0), address(1)])
        assert [pod.address for pod in decide(Profile(plugins={}), pods, subset=allowed).pods] == [address(1)]


class TestPreferences:
    @pytest.mark.parametrize("order", [("preferring", "free"), ("free", "preferring")])
    def test_the_order_of_filters_does_not_decide_between_an_answer_and_a_refusal(self, order: tuple[str, str]) -> None:
        profile = Profile(plugins={"preferring": Preferring(0), "free": Free()}, filters=order)
        pods = snapshot(P(waiting=50, in_flight=5), P(waiting=0, in_flight=1), P(waiting=0, in_flight=2))
        # The one that is preferred is full: the others serve.
        assert [pod.address for pod in decide(profile, pods).pods] == [address(1), address(2)]

    def test_who_is_not_preferred_is_a_fallback(self) -> None:
        profile = Profile(plugins={"preferring": Preferring(1)}, filters=["preferring"])
        decision = decide(profile, snapshot(P(in_flight=5), P(in_flight=9), P(in_flight=2), P(in_flight=1)))
        assert [pod.address for pod in decision.pods] == [address(row) for row in (1, 3, 2, 0)]
        assert decision.filtered == {"preferring": 1}
        assert [row["pod"] for row in decision.explain()] == [address(1)]

    def test_preferring_nobody_refuses_nothing(self) -> None:
        profile = Profile(plugins={"preferring": Preferring()}, filters=["preferring"])
        assert len(decide(profile, snapshot(P(), P())).pods) == 2


class TestTotals:
    def test_scores_are_weighted_and_added(self) -> None:
        profile = Profile(plugins={"a": Scores([100, 0]), "b": Scores([10, 60])}, scorers=[("a", 0.5), ("b", 2.0)])
        decision = decide(profile, snapshot(P(), P()))
        assert list(decision.total) == [70, 120]
        assert decision.weights == {"a": 0.5, "b": 2.0}
        assert {name: scores.tolist() for name, scores in decision.scores.items()} == {"a": [100, 0], "b": [10, 60]}

    def test_what_depends_on_scrapes_alone_is_asked_once_a_snapshot(self) -> None:
        asked = []

        def answer(pods: Snapshot) -> np.ndarray:
            asked.append(len(pods))
            return np.array([10.0, 60.0, 20.0])[: len(pods)]

        lasting, other = Scores(answer), Scores([20, 10, 0])
        lasting.scraped_only = True
        profile = Profile(plugins={"a": lasting, "b": other}, scorers=[("a", 1), ("b", 2)])
        first, second = snapshot(P(), P(), P()), snapshot(P(), P())
        for _ in range(3):
            decision = decide(profile, first)
            assert list(decision.total) == [50, 80, 20]
            assert decision.scores["a"].tolist() == [10, 60, 20]
        decide(Profile(plugins={"a": lasting, "b": other}, scorers=[("a", 1)]), first)
        with pytest.raises(NoReadyPod):
            decide(profile, first, subset=frozenset())
        other = Scores([20, 10])
        decision = decide(Profile(plugins={"a": lasting, "b": other}, scorers=[("a", 1)]), second)
        assert list(decision.total) == [10, 60]
        assert asked == [3, 3, 2]

    def test_a_fault_is_not_kept(self) -> None:
        answers = [np.array([1.0]), np.array([7.0, 9.0])]
        lasting, faults = Scores(lambda _pods: answers.pop(0)), Faults()
        lasting.scraped_only = True
        profile = Profile(plugins={"a": lasting}, scorers=[("a", 1)], on_fault=faults)
        pods = snapshot(P(), P())
        assert [list(decide(profile, pods).total) for _ in range(3)] == [[0, 0], [7, 9], [7, 9]]
        assert len(faults.seen) == 1

    def test_whole_numbers_are_scores(self) -> None:
        profile = Profile(plugins={"a": Scores(lambda pods: np.array([1, 2]))}, scorers=[("a", 1)])
        assert list(decide(profile, snapshot(P(), P())).total) == [1, 2]

    def test_a_weight_of_zero_explains_and_does_not_count(self) -> None:
        profile = Profile(plugins={"a": Scores([100, 0])}, scorers=[("a", 0.0)])
        decision = decide(profile, snapshot(P(in_flight=1), P()))
        assert list(decision.total) == [0, 0]
        assert decision.scores["a"].tolist() == [100, 0]
        assert picked(decision) == [1, 0]


class TestFilters:
    def test_in_their_order(self) -> None:
        plugins = {"a": Keeps([True, True, False]), "b": Keeps([False, True]), "s": Scores([7])}
        decision = decide(Profile(plugins=plugins, filters=["a", "b"], scorers=[("s", 1)]), snapshot(*[P()] * 3))
        assert [pod.address for pod in decision.pods] == [address(1)]
        assert decision.filtered == {"a": 2, "b": 1}
        assert len(decision.candidates) == 1

    def test_keeping_all_copies_nothing(self) -> None:
        pods = snapshot(P(), P())
        profile = Profile(plugins={"a": Keeps([True, True])}, filters=["a"])
        assert decide(profile, pods).candidates is pods

    def test_keeping_none_is_saturation(self) -> None:
        profile = Profile(plugins={"a": Keeps([True, True]), "b": Keeps([False, False])}, filters=["a", "b"])
        with pytest.raises(Saturated) as caught:
            decide(profile, snapshot(P(), P()))
        assert caught.value.filter == "b"


class TestSubset:
    def test_only_the_allowed(self) -> None:
        pods = snapshot(P(), P(), P())
        profile = scoring(10, 20)
        decision = decide(profile, pods, subset=frozenset({address(0), address(2), "9.9.9.9:1"}))
        assert [pod.address for pod in decision.pods] == [address(2), address(0)]

    def test_all_allowed_copies_nothing(self) -> None:
        pods = snapshot(P(), P())
        decision = decide(Profile(plugins={}), pods, subset=frozenset({address(0), address(1), address(2)}))
        assert decision.candidates is pods

    @pytest.mark.parametrize("subset", [frozenset[str](), frozenset({"9.9.9.9:1"})])
    def test_none_allowed(self, subset: frozenset[str]) -> None:
        with pytest.raises(NoReadyPod, match="subset"):
            decide(Profile(plugins={}), snapshot(P()), subset=subset)

    def test_no_pods(self) -> None:
        with pytest.raises(NoReadyPod, match="no pod is ready"):
            decide(Profile(plugins={}), snapshot())


class TestPrefixMatch:
    def test_it_follows_the_filters(self) -> None:
        plugins = {"p": Prepares(np.array([0.1, 0.2, 0.3])), "f": Keeps([True, False, True])}
        decision = decide(Profile(plugins=plugins, filters=["f"]), snapshot(P(in_flight=1), P(), P()), text="x" * 400)
        assert decision.pod.address == address(2)
        assert decision.prefix_match == 0.3
        assert decision.uncached_tokens == round(101 * 0.7)

    @pytest.mark.parametrize("most", [1.0, 1.1])
    def test_of_many_pods(self, most: float) -> None:
        prepares = Prepares(np.linspace(0.0, most, 4 * FEW))
        decision = decide(Profile(plugins={"p": prepares}), snapshot(*[P(in_flight=1)] * (4 * FEW - 1), P()))
        assert decision.prefix_match == (1.0 if most == 1.0 else None)

    def test_nobody_looked(self) -> None:
        decision = decide(Profile(plugins={}), snapshot(P()), text="x" * 400)
        assert decision.prefix_match is None
        assert decision.uncached_tokens == 101

    def test_it_is_prepared_for_the_allowed_pods(self) -> None:
        prepares = Prepares(None)
        decide(Profile(plugins={"p": prepares}), snapshot(P(), P()), subset=frozenset({address(1)}))
        assert prepares.seen is not None
        assert [pod.address for pod in prepares.seen.pods] == [address(1)]

    @pytest.mark.parametrize(
        "answer",
        [
            np.array([0.5]),
            np.array([0.5, np.nan]),
            np.array([0.5, 1.5]),
            [0.5, 0.5],
            np.array(["a", "b"]),
        ],
    )
    def test_nonsense_is_left_out(self, answer: object) -> None:
        faults = Faults()
        decision = decide(Profile(plugins={"p": Prepares(answer)}, on_fault=faults), snapshot(P(), P()))
        assert decision.prefix_match is None
        assert faults.seen == [("p", "prepare")]
        assert "prefix_match" in str(faults.errors[0])

    def test_what_was_set_before_raising_is_left_out(self) -> None:
        faults = Faults()

        class SetsAndRaises:
            def prepare(self, request: object, pods: Snapshot, cycle: Any) -> None:
                cycle.prefix_match = np.array([1.0, 1.0])
                raise RuntimeError("after that")

        decision = decide(Profile(plugins={"p": SetsAndRaises()}, on_fault=faults), snapshot(P(), P()))
        assert decision.prefix_match is None
        assert faults.seen == [("p", "prepare")]


class TestFaults:
    @pytest.mark.parametrize(
        "answer",
        [
            broken,
            lambda pods: np.array([np.nan, 1.0]),
            lambda pods: np.array([np.inf, 1.0]),
            lambda pods: np.array([-0.1, 1.0]),
            lambda pods: np.array([100.1, 1.0]),
            lambda pods: np.array([1.0]),
            lambda pods: np.array(1.0),
            lambda pods: np.array([[1.0, 2.0]]),
            lambda pods: np.array([1.0, 2.0, 3.0]),
            lambda pods: np.array(["a", "b"]),
            lambda pods: np.array([True, False]),
            lambda pods: [1.0, 2.0],
            lambda pods: None,
        ],
    )
    def test_a_faulty_scorer_is_left_out_and_named(self, answer: object) -> None:
        faults = Faults()
        plugins = {"a": Scores([1, 2]), "bad": Scores(answer), "b": Scores([3, 5])}
        profile = Profile(plugins=plugins, scorers=[("a", 1), ("bad", 50), ("b", 1)], on_fault=faults)
        decision = decide(profile, snapshot(P(), P()))
        assert list(decision.total) == [4, 7]
        assert list(decision.scores) == ["a", "b"]
        assert faults.seen == [("bad", "score")]

    @given(
        st.lists(
            st.lists(st.sampled_from([0.0, 1 / 3, 50.1, 100.0, 99.9, 100.0 + 1e-9, 101.0, -1.0, np.nan, np.inf]),
                     min_size=3, max_size=3),
            max_size=5,
        ),
        st.lists(st.sampled_from([1.0, 0.1, 0.0, 1e9]), min_size=5, max_size=5),
    )  # fmt: skip
    def test_scores_of_few_pods_and_of_many_are_added_alike(
        self, rows: list[list[float]], weights: list[float]
    ) -> None:
        names = [f"s{number}" for number in range(len(rows))]
        told = []
        for add in (cycle._sum_of_few, cycle._sum):
            faults = Faults()
            scorers = [Scores(row) for row in rows]
            profile = Profile(
                plugins=dict(zip(names, scorers, strict=True)),
                scorers=list(zip(names, weights, strict=False)),
                on_fault=faults,
            )
            scores = {name: np.array(row) for name, row in zip(names, rows, strict=True)}
            total = add(profile, scores, 3)
            told.append((list(total), list(scores), faults.seen, [str(error) for error in faults.errors]))
        assert told[0] == told[1]

    def test_two_faulty_scorers(self) -> None:
        faults = Faults()
        plugins = {"a": Scores([np.nan, 2]), "b": Scores(broken), "c": Scores([101, 0])}
        profile = Profile(plugins=plugins, scorers=[("a", 1), ("b", 1), ("c", 1)], on_fault=faults)
        decision = decide(profile, snapshot(P(in_flight=1), P()))
        assert picked(decision) == [1, 0]
        assert decision.scores == {}
        assert sorted(faults.seen) == [("a", "score"), ("b", "score"), ("c", "score")]
        assert sum(isinstance(error, BadAnswer) for error in faults.errors) == 2

    def test_rounding_is_no_fault(self) -> None:
        faults = Faults()
        profile = Profile(plugins={"a": Scores([100 + 1e-9, -1e-9])}, scorers=[("a", 1)], on_fault=faults)
        assert list(decide(profile, snapshot(P(), P())).scores) == ["a"]
        assert faults.seen == []

    @pytest.mark.parametrize(
        "answer",
        [
            broken,
            lambda pods: np.array([0.0, 1.0]),
            lambda pods: np.array([False]),
            lambda pods: np.array([[False, True]]),
            lambda pods: [False, True],
            lambda pods: None,
        ],
    )
    def test_a_faulty_filter_keeps_all(self, answer: object) -> None:
        faults = Faults()
        profile = Profile(plugins={"bad": Keeps(answer)}, filters=["bad"], on_fault=faults)
        decision = decide(profile, snapshot(P(), P()))
        assert len(decision.candidates) == 2
        assert decision.filtered == {"bad": 2}
        assert faults.seen == [("bad", "filter")]

    def test_a_faulty_recorder_costs_no_request(self) -> None:
        faults, good, bad = Faults(), Records(), Records()
        bad.picked = broken  # type: ignore[assignment]  # a plugin that raises
        decision = decide(Profile(plugins={"bad": bad, "good": good}, on_fault=faults), snapshot(P()))
        assert faults.seen == [("bad", "picked")]
        assert good.pods == [address(0)]
        assert len(decision.undo) == 1


class TestRecord:
    def test_the_pick_is_told_and_can_be_taken_back(self) -> None:
        one, other, silent = Records(), Records(), Records(undo=False)
        decision = decide(Profile(plugins={"a": one, "b": other, "c": silent}), snapshot(P(in_flight=1), P()))
        assert one.pods == other.pods == silent.pods == [address(1)]
        assert len(decision.undo) == 2
        for undo in decision.undo:
            undo()
        assert one.pods == other.pods == []

    def test_explaining_tells_nobody(self) -> None:
        records = Records()
        decision = decide(Profile(plugins={"a": records}), snapshot(P()), record=False)
        assert records.pods == []
        assert decision.undo == ()

    def test_another_pod_got_it_in_the_end(self) -> None:
        records, prepares, pods = Records(), Prepares(None), snapshot(P(), P())
        profile = Profile(plugins={"p": prepares, "r": records})
        (undo,) = record_at(profile, request(), pods, pods.pods[1], now=0.0, rng=Random(1))
        assert prepares.seen is pods
        assert records.pods == [address(1)]
        undo()
        assert records.pods == []


class TestResting:
    """Pods that failed lately."""

    def decide(self, resting: list[bool], **options: Any) -> Decision:
        pods = snapshot(*[P() for _ in resting])
        pods.resting = np.array(resting)
        return schedule(Profile(plugins={}), request(**options), pods, now=0.0, rng=Random(1))

    def test_they_are_neither_picked_nor_fallen_back_to(self) -> None:
        decision = self.decide([True, False, False, True])
        assert sorted(pod.address for pod in decision.pods) == [address(1), address(2)]

    def test_where_most_of_them_rest_none_does(self) -> None:
        assert len(self.decide([True, True, False]).pods) == 3
        assert len(self.decide([True]).pods) == 1

    def test_within_a_subset_too(self) -> None:
        subset = frozenset({address(0), address(1)})
        assert [pod.address for pod in self.decide([True, False, False], subset=subset).pods] == [address(1)]
        # None of the allowed ones rests.
        subset = frozenset({address(1), address(2)})
        assert len(self.decide([True, False, False], subset=subset).pods) == 2
