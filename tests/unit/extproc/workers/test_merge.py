from typing import Any

from extproc.workers.merge import decisions_of_all, matches_of_all, rows_of_all, sources_of_all


def row(address: str, in_flight: int, pool: str | None = None) -> dict[str, object]:
    found: dict[str, object] = {"address": address, "in_flight": in_flight, "in_flight_tokens": 10 * in_flight}
    return found if pool is None else {**found, "pool": pool}


def test_rows() -> None:
    pages = [[row("a", 1), row("b", 5)], [row("a", 3), row("c", 0)]]
    assert rows_of_all(pages) == [row("a", 3), row("b", 5), row("c", 0)]
    assert rows_of_all(pages[::-1]) == [row("a", 3), row("c", 0), row("b", 5)]
    assert rows_of_all([]) == []


def test_the_larger_of_each_count_is_true() -> None:
    """Whichever process has it."""
    one = {"address": "a", "in_flight": 3, "in_flight_tokens": 10}
    other = {"address": "a", "in_flight": 2, "in_flight_tokens": 20}
    for pages in ([[one], [other]], [[other], [one]]):
        assert rows_of_all(pages) == [{"address": "a", "in_flight": 3, "in_flight_tokens": 20}]


def test_a_pod_in_two_pools() -> None:
    assert len(rows_of_all([[row("a", 1, "x"), row("a", 1, "y")], [row("a", 1, "x")]])) == 2


def source(up: bool, seconds: float, pool: str = "x", name: str = "dns") -> dict[str, object]:
    return {"pool": pool, "source": name, "up": up, "seconds_since_contact": seconds}


def test_a_source_is_as_the_process_that_reaches_it_worst_has_it() -> None:
    up, late, down, longer_down = source(True, 1.0), source(True, 9.0), source(False, 2.0), source(False, 3.0)
    for worse, better in ((late, up), (down, late), (longer_down, down)):
        for pages in ([[worse], [better]], [[better], [worse]]):
            assert sources_of_all(pages) == [worse]


def test_sources_of_a_pool_and_pools_of_a_source() -> None:
    rows = [source(True, 1.0), source(True, 2.0, name="kubernetes"), source(False, 3.0, pool="y")]
    assert sources_of_all([rows, rows[:1], []]) == rows
    assert sources_of_all([]) == []


def test_decisions_newest_first() -> None:
    pages = [[{"time": 5.0}, {"time": 1.0}], [{"time": 3.0}]]
    assert [one["time"] for one in decisions_of_all(pages, 2)] == [5.0, 3.0]


def test_matches() -> None:
    rows: list[dict[str, Any]] = [
        {"pods": ["a", "b"], "prefix_match": 0.5},
        {"pods": ["a"], "prefix_match": 1.0},
        {"pods": ["b"], "prefix_match": None},
    ]
    assert matches_of_all(rows) == {"a": 0.75}
