from hypothesis import given
from hypothesis import strategies as st

from extproc.admin.columns import columns


def test_heads_end_on_one_line_and_numbers_at_one_place() -> None:
    assert columns(["pod", "least-\nrequest"], [["a", "1"], ["bb:8000", "100"]], numbers=frozenset({1})) == [
        "          least-",
        "pod      request",
        "a              1",
        "bb:8000      100",
    ]


def test_no_rows() -> None:
    assert columns(["pod", "ms"], []) == ["pod  ms"]


words = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1)


@given(st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(words, min_size=n, max_size=n), min_size=1)))
def test_nothing_is_cut(rows: list[list[str]]) -> None:
    lines = columns(["head"] * len(rows[0]), rows)
    assert [line.split() for line in lines[1:]] == rows
