import contextlib
import math
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from scheduler.pool.exposition import (
    MAX_CAREFUL,
    MAX_INDENT,
    MAX_LINE,
    MAX_LOOKS,
    Family,
    Page,
    TooMuch,
    is_exposition,
    labels,
)

# One a prefix of the other, one with the suffix of a histogram: what a search by name alone would confuse.
NAMES = ["x", "x:y", "x:y_z", "x:y_sum", "ax:y", "x:y_created"]
SUFFIXES = ["", "_sum", "_count"]


def read(family: Family, page: bytes, suffix: str = "") -> list[tuple[dict[str, str], float]]:
    block = family.locate(page)
    if block is None:
        return []
    found = Page(page).series(family.name + suffix.encode(), *block)
    return [(labels(raw), value) for raw, value in found]


def find(page: bytes | str, name: str, suffix: str = "") -> list[tuple[dict[str, str], float]]:
    return read(Family(name), page if isinstance(page, bytes) else page.encode(), suffix)


def oracle(page: str, name: str) -> list[tuple[dict[str, str], float]]:
    found = []
    for family in parse_text(page):
        for sample in family.samples:
            if sample.name == name:
                found.append((sample.labels, float(sample.value)))
    return found


def same(ours: list[tuple[dict[str, str], float]], theirs: list[tuple[dict[str, str], float]]) -> bool:
    # NaN is equal to itself here.
    return repr(ours) == repr(theirs)


def escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


label_values = st.text(
    st.one_of(st.sampled_from('{}",\\\n #=}" 1'), st.characters(exclude_categories=["Cs"])), max_size=8
)
numbers = st.one_of(
    st.floats().map(repr),
    st.sampled_from(["NaN", "+Inf", "-Inf", "0", "1e3", "12.0", "1.76e+09", "-0.5"]),
    st.integers(0, 10**12).map(str),
)


@st.composite
def sample_lines(draw: st.DrawFn, name: str) -> str:
    blank = st.sampled_from([" ", "\t", "  "])
    text = draw(st.sampled_from(["", "", "", " "])) + name
    if draw(st.booleans()):
        keys = draw(st.lists(st.sampled_from(["a", "b", "le", "engine"]), unique=True))
        pairs = [f'{key}="{escape(draw(label_values))}"' for key in keys]
        text += draw(st.sampled_from(["", "", " "])) + "{" + ",".join(pairs)
        text += draw(st.sampled_from(["", ","])) if pairs else ""
        text += "}"
    # The oracle takes only one kind of blank between value and timestamp.
    text += draw(blank) + draw(numbers)
    if draw(st.booleans()):
        text += " " + draw(st.integers(0, 10**13).map(str))
    return text


@st.composite
def families(draw: st.DrawFn, name: str) -> str:
    kind = draw(st.sampled_from(["gauge", "histogram", "untyped", ""]))
    lines = []
    if kind:
        header = [f"# TYPE {name} {kind}", f"# HELP {name} Some text of {draw(st.sampled_from(NAMES))} # TYPE x gauge"]
        lines += draw(st.permutations(header)) if draw(st.booleans()) else header[:1]
    if draw(st.booleans()):
        lines.append("# a comment of no importance")
    suffixes = SUFFIXES[1:] + ["_bucket"] if kind == "histogram" else [""]
    for _ in range(draw(st.integers(0, 3))):
        lines += [draw(sample_lines(name + suffix)) for suffix in suffixes]
    return "".join(line + "\n" for line in lines)


# No page may have `x:y_sum` both as a family and as a part of the histogram `x:y`.
pages = (
    st.lists(st.sampled_from(NAMES), unique=True, max_size=4)
    .filter(lambda names: not {"x:y", "x:y_sum"} <= set(names))
    .flatmap(lambda names: st.tuples(*map(families, names)).map("".join))
)


@given(pages)
def test_agrees_with_the_library(page: str) -> None:
    for name in NAMES:
        for suffix in SUFFIXES:
            theirs = oracle(page, name + suffix)
            assert same(find(page, name, suffix), theirs), (name, suffix)


@settings(max_examples=30)
@given(st.lists(pages, min_size=2, max_size=3))
def test_what_earlier_pages_were_like_changes_nothing(several: list[str]) -> None:
    for name in NAMES:
        family = Family(name)
        for page in several:
            for suffix in SUFFIXES:
                assert same(read(family, page.encode(), suffix), find(page, name, suffix))


@given(st.one_of(st.binary(), pages.map(str.encode)), st.data())
def test_no_page_raises(page: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(page)))
    junk = data.draw(
        st.sampled_from([b"", b"\xff", b'x:y{a="', b"x:y{", b"x:y ", b"\nx", b"x:y{}} 1\n", b"x:y \x00\n"])
    )
    for broken in (page[:cut] + junk + page[cut:], page[:cut]):
        is_exposition(broken)
        for name in NAMES:
            for suffix in SUFFIXES:
                find(broken, name, suffix)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("x 1", [({}, 1.0)]),
        ("x\t1.5", [({}, 1.5)]),
        ("x 1 1700000000000", [({}, 1.0)]),
        ("x{} 2", [({}, 2.0)]),
        ('x{a="b"} 3 1700000000000', [({"a": "b"}, 3.0)]),
        ('x {a="b"} 3', [({"a": "b"}, 3.0)]),
        ('x{ a = "b" , c="d", }4', [({"a": "b", "c": "d"}, 4.0)]),
        (r'x{a="\\\"}\n",b="{"} 5', [({"a": '\\"}\n', "b": "{"}, 5.0)]),
        ('x{a="} 9 # {"} 6', [({"a": "} 9 # {"}, 6.0)]),
        ('x{a="#"} 6 17', [({"a": "#"}, 6.0)]),
        ("x -Inf", [({}, -math.inf)]),
        # Exemplars, which only OpenMetrics has.
        ('x{a="b"} 7 # {trace_id="}"} 0.5', [({"a": "b"}, 7.0)]),
        ('x{a="b"} 7 17.5 # {trace_id="c"} 0.5 16.5', [({"a": "b"}, 7.0)]),
        ('x 7 # {trace_id="c"} 0.5', [({}, 7.0)]),
        ("x 8\r", [({}, 8.0)]),
        (" x 9", [({}, 9.0)]),
        ("\t x 9", [({}, 9.0)]),
        # Not readable, or another name.
        ("x", []),
        ("x ", []),
        ("x nothing", []),
        ('x{a="b" 1', []),
        ("x# 1", []),
        ("x{#} oops", []),
        ("x {a", []),
        ("x #", []),
        ("x_y 1", []),
        ("yx 1", []),
        ("y x 1", []),
        ("# x 1", []),
    ],
)
@pytest.mark.parametrize("header", ["", "# TYPE x gauge\n", "# HELP x X.\n# TYPE x gauge\n", "#  TYPE  x  gauge\n"])
def test_lines(header: str, line: str, expected: list[tuple[dict[str, str], float]]) -> None:
    assert find(f"{header}{line}\n", "x") == expected


def test_a_last_line_without_its_end_is_cut_off() -> None:
    assert find("# TYPE x gauge\nx 1\nx 12", "x") == [({}, 1.0)]
    assert find("x{", "x") == []


def test_a_line_that_cannot_be_read_hides_no_other() -> None:
    assert find('# TYPE x gauge\nx one\nx{a="2"} 2\n', "x") == [({"a": "2"}, 2.0)]


def test_the_type_line_of_another_family_in_a_help_text_does_not_mislead() -> None:
    page = "# HELP y see # TYPE x gauge\n# TYPE y gauge\ny 1\n# TYPE x gauge\nx 2\n"
    assert find(page, "x") == [({}, 2.0)]
    assert find(page, "y") == [({}, 1.0)]


def test_absent() -> None:
    assert Family("x").locate(b"# TYPE y gauge\ny 1\n") is None


def test_a_family_is_found_again_wherever_it_moves() -> None:
    family = Family("x")
    for padding in (0, 100, 1200, 5000, 0, 300):
        page = "# TYPE y gauge\n" + "y 1\n" * padding + f"# TYPE x gauge\nx {padding}\n# TYPE z gauge\nz 1\n"
        assert read(family, page.encode()) == [({}, float(padding))]


def test_openmetrics() -> None:
    registry = CollectorRegistry()
    Gauge("e_waiting", "Waiting.", ["rank"], registry=registry).labels('0"}\n').set(3)
    histogram = Histogram("e_ttft_seconds", "TTFT.", registry=registry, unit="seconds")
    histogram.observe(0.25, {"trace_id": "abc} 1"})
    page = openmetrics(registry)
    assert page.endswith(b"# EOF\n")
    assert find(page, "e_waiting") == [({"rank": '0"}\n'}, 3.0)]
    theirs = {
        sample.name: [(sample.labels, float(sample.value))]
        for family in parse_openmetrics(page.decode())
        for sample in family.samples
    }
    for suffix in ("_sum", "_count"):
        assert find(page, "e_ttft_seconds", suffix) == theirs["e_ttft_seconds" + suffix]


def test_label_values_that_are_not_utf8() -> None:
    assert labels(b'{a="\xff\\n"}') == {"a": "\ufffd\n"}


class Counted(bytes):
    """A page that counts the bytes that are looked at, by whatever way the code looks."""

    looked = 0

    def find(self, sub: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
        end = len(self) if end is None else min(end, len(self))
        at = super().find(sub, start, end)
        type(self).looked += max((end if at < 0 else at + len(sub)) - start, 0)
        return at

    def rfind(self, sub: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
        end = len(self) if end is None else min(end, len(self))
        at = super().rfind(sub, start, end)
        type(self).looked += max(end - (start if at < 0 else at), 0)
        return at

    def __getitem__(self, key: Any) -> Any:
        got = super().__getitem__(key)
        type(self).looked += len(got) if isinstance(got, bytes) else 1
        return got


#: Times that a page is gone over for each of these families, at most: a search for the name, for its TYPE line, for the
#: next one, twice for samples, each of whose lines is looked at four times.
TIMES = 12

hostile_words = st.sampled_from(
    [*(name.encode() for name in NAMES), b"# TYPE x:y ", b"# TYPE x", b"\n", b" ", b"\t", b"{", b"}", b'"', b"\\", b"#"]
    + [b"1", b"x:y_sum 1", b'a="b"', b"\n# TYPE ", b"\nx:y", b",", b"=", b"\xff"]
)
#: Some words, again and again, and others before and after.
hostile_pages = st.tuples(
    st.lists(hostile_words, max_size=6).map(b"".join),
    st.lists(hostile_words, min_size=1, max_size=5).map(b"".join),
    st.lists(hostile_words, max_size=6).map(b"".join),
).map(lambda parts: parts[0] + parts[1] * (20_000 // len(parts[1])) + parts[2])


@settings(max_examples=300)
@given(hostile_pages)
@example(b"x:y " * 5000)  # no line feed: each look used to go back to the beginning
@example(b"x:y" + b"{" * 20_000 + b"\n")
@example(b" " * 20_000 + b"x:y 1\n")
def test_no_page_costs_more_than_its_length(page: bytes) -> None:
    for name in NAMES:
        for suffix in SUFFIXES:
            Counted.looked = 0
            text = Counted(page)
            block = Family(name).locate(text)
            if block is not None:
                with contextlib.suppress(TooMuch):
                    Page(text).series((name + suffix).encode(), *block)
            assert Counted.looked <= TIMES * len(page) + 1000


@pytest.mark.parametrize(
    ("page", "why"),
    [
        (b"x 1\n" * (MAX_LOOKS + 1), "lines to look at"),
        (b"yx " * (MAX_LOOKS + 1) + b"\n", "lines to look at"),
        (b"x " + b"1" * MAX_LINE + b"\n", "a line of more than"),
        ((b"x{" + b"{" * (MAX_LINE - 10) + b"\n") * 5, "labels and exemplars"),
    ],
    ids=["samples", "mentions", "line", "odd lines"],
)
def test_what_is_more_than_any_engine_sends(page: bytes, why: str) -> None:
    with pytest.raises(TooMuch, match=why):
        Page(page).series(b"x", 0, len(page))


def test_the_bounds_are_those_of_a_page() -> None:
    """Not of each of its families: a dialect may have any number of them."""
    text = b"x 1\n" * (MAX_LOOKS // 2) + b"y 1\n" * (MAX_LOOKS // 2) + b"z 1\n"
    page = Page(text)
    for name in (b"x", b"y"):
        assert len(page.series(name, 0, len(text))) == MAX_LOOKS // 2
    with pytest.raises(TooMuch):
        page.series(b"z", 0, len(text))
    labels_of = Page(b"")
    raw = b"{" + b" " * (MAX_CAREFUL // 2) + b"}"
    labels_of.labels(raw)
    with pytest.raises(TooMuch):
        labels_of.labels(raw)


def test_blanks_before_a_name() -> None:
    for blanks, found in ((MAX_INDENT - 1, 1), (MAX_INDENT + 1, 0), (100 * MAX_INDENT, 0)):
        for before in ("", "y 1\n"):
            assert len(find(f"{before}{' ' * blanks}x 1\n", "x")) == found


def test_labels_take_linear_time() -> None:
    """A name without a value used to be tried from each of its letters: two billion steps for this one."""
    before = time.process_time()
    assert labels(b"{" + b"a" * (MAX_LINE - 2) + b"}") == {}
    assert time.process_time() - before < 1.0


@pytest.mark.parametrize(
    "page", ["", "\n", "# HELP x y\n", "#\n", "x 1\n", "x{} 1", "  x -1", "x .5", "x NaN", "x +Inf", "a:b_c\t1", "x {"]
)
def test_is_exposition(page: str) -> None:
    assert is_exposition(page.encode())


@pytest.mark.parametrize(
    "page",
    [
        "<html><body>x 1</body></html>",
        '{"x": 1}',
        "[]",
        "Not Found",
        "OK",
        "x",
        "\x00\x01",
        "1 2",
        "-",
        "x=1",
        "404: no",
    ],
)
def test_is_no_exposition(page: str) -> None:
    assert not is_exposition(page.encode())
