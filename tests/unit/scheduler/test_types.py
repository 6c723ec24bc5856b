import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.snapshots import P, address, fleets, snapshot

from scheduler.types import MAX_SELECTIONS, NO_ADAPTERS, Decision, Pod, Prompt, Request, Snapshot, nothing

text = st.text(max_size=40)


@given(st.lists(text, max_size=6))
def test_the_text_is_its_parts(parts: list[str]) -> None:
    whole, prompt = "".join(parts), Prompt(parts)
    assert prompt.text() == prompt.text() == str(prompt) == whole
    assert prompt.length == len(whole)
    assert prompt.tokens == len(whole) // 4 + 1


def test_its_length_and_what_was_found_out_outlive_the_text() -> None:
    prompt = Prompt(["hello ", "world"])
    prompt.memory["key"] = 1
    prompt.drop_text()
    assert (prompt.text(), prompt.length, prompt.tokens, prompt.memory) == ("", 11, 3, {"key": 1})


def test_a_request_finds_nothing_by_default() -> None:
    assert Request().lookup is nothing
    assert nothing("header", "x") is None


def test_left_out_columns_are_unknown_or_zero() -> None:
    made = Snapshot.of(["a:1", Pod("b:1", "b")], kv_usage=[0.5, 1])
    assert [pod.address for pod in made.pods] == ["a:1", "b:1"]
    assert made.kv_usage.tolist() == [0.5, 1.0]
    for column in (made.waiting, made.running, made.ttft, made.tpot):
        assert np.isnan(column).all()
    for counts in (made.in_flight, made.in_flight_tokens, made.served):
        assert counts.tolist() == [0, 0]
    assert made.adapters == (NO_ADAPTERS, NO_ADAPTERS)
    assert len(made) == 2


def test_rows_by_address() -> None:
    made = snapshot(P(), P())
    assert made.rows == {address(0): 0, address(1): 1}
    assert made.rows is made.rows


@given(fleets(), st.data())
def test_a_selection_has_the_rows_of_its_pods_and_live_columns_of_now(rows: list[P], data: st.DataObject) -> None:
    whole = snapshot(*rows)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), np.bool_)
    kept = [index for index, one in enumerate(keep.tolist()) if one]
    for more in (0, 1):
        whole.in_flight += more
        whole.served += more
        whole.in_flight_tokens += more
        part = whole.select(keep)
        assert part.pods == tuple(whole.pods[index] for index in kept)
        assert part.adapters == tuple(whole.adapters[index] for index in kept)
        assert dict(part.rows) == {pod.address: row for row, pod in enumerate(part.pods)}
        for column in ("waiting", "running", "kv_usage", "ttft", "tpot", "in_flight", "in_flight_tokens", "served"):
            np.testing.assert_array_equal(getattr(part, column), getattr(whole, column)[kept])


def test_equal_selections_share_what_was_derived() -> None:
    whole = snapshot(P(kv=0.1), P(kv=0.2), P(kv=0.3))
    keep = np.array([True, False, True])
    calls: list[Snapshot] = []

    def derived(pods: Snapshot) -> int:
        calls.append(pods)
        return len(pods)

    assert whole.select(keep).derive("n", derived) == 2
    assert whole.select(keep.copy()).derive("n", derived) == 2
    assert whole.select(~keep).derive("n", derived) == 1
    assert whole.derive("n", derived) == 3
    assert len(calls) == 3


def test_live_columns_of_a_selection_are_copies() -> None:
    whole = snapshot(P(), P())
    part = whole.select(np.array([True, False]))
    whole.in_flight[0] = 7
    assert part.in_flight.tolist() == [0]


def test_selections_are_remembered_up_to_a_limit() -> None:
    whole = snapshot(*[P(waiting=float(row)) for row in range(MAX_SELECTIONS + 5)])
    for row in range(len(whole)):
        keep = np.zeros(len(whole), np.bool_)
        keep[row] = True
        for _ in range(2):
            assert whole.select(keep).waiting.tolist() == [float(row)]
    assert len(whole._selected) == MAX_SELECTIONS


def test_a_decision_explains_itself() -> None:
    pods = snapshot(P(in_flight=1), P(in_flight=2), P(in_flight=3))
    total = np.array([10.0, 30.0, 30.0])
    decision = Decision(
        pods=(pods.pods[2], pods.pods[1]),
        candidates=pods,
        total=total,
        scores={"s": total},
        weights={"s": 1.0},
        filtered={},
        uncached_tokens=1,
        prefix_match=None,
    )
    assert decision.pod == pods.pods[2]
    rows = decision.explain()
    assert [row["pod"] for row in rows] == [address(2), address(1), address(0)]
    assert rows[0] == {"pod": address(2), "name": address(2), "total": 30.0, "scores": {"s": 30.0}, "in_flight": 3}
    assert len(decision.explain(limit=1)) == 1
