import json
import math
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from extproc.config.document import MAX_DEPTH, BrokenDocument, Document, parse, refuse_templates, resolve, same
from extproc.config.problems import Position


def one(text: str) -> Document:
    (document,) = parse(text)
    return document


@pytest.mark.parametrize(
    ("text", "value"),
    [
        # What YAML 1.1 would change, and the core schema of 1.2 does not.
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("No", "No"),
        ("y", "y"),
        ("12:30:00", "12:30:00"),
        ("2026-01-02", "2026-01-02"),
        ("1_000", "1_000"),
        ("0777", 777),
        ("=", "="),
        # … and what 1.1 takes for a string.
        ("1e3", 1000.0),
        ("0o17", 15),
        ("0x1F", 31),
        ("+5", 5),
        ("-5", -5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-1.5E-3", -0.0015),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("nULL", "nULL"),
        ("200ms", "200ms"),
        ("16Mi", "16Mi"),
        ("10.0.0.1:8000", "10.0.0.1:8000"),
        ("٣", "٣"),
        (".", "."),
        ("+", "+"),
    ],
)
def test_plain_scalars_follow_the_core_schema(text: str, value: object) -> None:
    resolved = resolve(text)
    assert same(resolved, value)


@pytest.mark.parametrize("text", [".nan", ".NaN", ".inf", "-.INF", "1e999", "9" * 33, "0x" + "f" * 40])
def test_numbers_beyond_use_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="number"):
        resolve(text)


@given(st.text())
def test_any_scalar_resolves_or_is_refused(text: str) -> None:
    try:
        value = resolve(text)
    except ValueError:
        return
    assert value is None or isinstance(value, str | bool | int | float)
    assert not isinstance(value, float) or math.isfinite(value)


def test_quoted_scalars_are_strings() -> None:
    assert one("a: '1'\nb: \"true\"\nc: |-\n  null\nd: >-\n  1\n").data == {
        "a": "1",
        "b": "true",
        "c": "null",
        "d": "1",
    }


def test_positions_of_keys_and_values() -> None:
    document = one("a:\n  - b: 1\n  - c:\n      d: x\n")
    assert document.position_of(("a",), key=True) == (1, 1, 0)
    assert document.position_of(("a",)) == (2, 3, 0)
    assert document.position_of(("a", 0, "b")) == (2, 8, 0)
    assert document.position_of(("a", 0, "b"), key=True) == (2, 5, 0)
    assert document.position_of(("a", 1)) == (3, 5, 0)
    # What is missing is shown at the key of what should have it, or at its first line.
    assert document.position_of(("a", 1, "c", "missing")) == (3, 5, 0)
    assert document.position_of(("a", 0, "missing")) == (2, 5, 0)
    assert document.position_of(("missing",)) == (1, 1, 0)
    assert Document(Position(7, 1)).position_of(("x",)) == (7, 1, 0)


def test_keys_are_text() -> None:
    assert one("1: a\ntrue: b\n~: c\n'x': d\n").data == {"1": "a", "true": "b", "~": "c", "x": "d"}


def test_equal_repetitions_are_warnings() -> None:
    document = one("a: {b: [1, x]}\nc: 1\na: {b: [1, x]}\n")
    assert document.data == {"a": {"b": [1, "x"]}, "c": 1}
    assert document.problems == []
    (warning,) = document.warnings
    assert warning.path == ("a",)
    assert warning.position == (3, 1, 0)
    assert "first on line 1" in warning.reason


@pytest.mark.parametrize("second", ["2", "1.0", "true", "'1'", "[1]", "{}", "null"])
def test_other_repetitions_are_mistakes_and_the_first_value_counts(second: str) -> None:
    document = one(f"a: 1\na: {second}\n")
    assert document.data == {"a": 1}
    (problem,) = document.problems
    assert problem.path == ("a",)
    assert problem.position == (2, 1, 0)
    assert "another value; the first is on line 1" in problem.reason


def test_equality_tells_types_apart() -> None:
    assert same({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]})
    assert not same({"a": 1}, {"b": 1})
    assert not same({"a": 1}, {"a": True})
    assert not same([1], [1, 2])
    assert not same([1], [1.0])
    assert not same(1, "1")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x 1\nb: *x", "aliases (*x) are not allowed"),
        ("b: !!python/object:os.system {}", "tags (tag:yaml.org,2002:python/object:os.system) are not allowed"),
        ("b: !local x", "tags (!local) are not allowed"),
        ("b: !!binary aGk=", "are not allowed"),
        ("b: .inf", ".inf is not a number"),
    ],
)
def test_what_cannot_be_used_is_a_mistake_at_its_place(text: str, reason: str) -> None:
    document = one(text)
    (problem,) = document.problems
    assert reason in problem.reason
    assert problem.path == ("b",)
    assert document.unusable == {("b",)}


def test_aliases_cannot_blow_up() -> None:
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 9))
    document = one(f"l0: &l0 [x]\n{levels}")
    assert len(document.problems) == 72
    assert document.data["l8"] == [None] * 9


def test_a_document_that_is_only_an_alias() -> None:
    document = one("*x")
    assert document.data is None
    assert document.unusable == {()}


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000])
def test_nesting_is_bounded(text: str) -> None:
    with pytest.raises(BrokenDocument, match=f"deeper than {MAX_DEPTH} levels"):
        parse(text)
    assert parse("[" * MAX_DEPTH + "]" * MAX_DEPTH)


@pytest.mark.parametrize("text", ["? [a]\n: b", "? {a: b}\n: c", "a: &x 1\n*x : 2"])
def test_keys_are_names(text: str) -> None:
    with pytest.raises(BrokenDocument, match="a key must be a name"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "position", "reason"),
    [
        ("a: 1\n\tb: 2\n", (2, 1, 0), "a tab is used to indent"),
        ("a: {b: 1\nc: 2\n", (2, 2, 0), "while parsing a flow mapping that starts on line 1"),
        ("a: b: c", (1, 5, 0), "mapping values are not allowed"),
        ("a: @", (1, 4, 0), "cannot start any token"),
        ("a: '", (1, 5, 0), "unexpected end of stream"),
        ("a: \x01", (1, 1, 0), "control characters are not allowed"),
        ('a: "\\ud800"', (1, 7, 0), "Unicode"),
    ],
)
def test_what_is_not_yaml_is_one_mistake(text: str, position: Position, reason: str) -> None:
    with pytest.raises(BrokenDocument) as caught:
        parse(text)
    assert caught.value.problem.position == position
    assert "not YAML: " in caught.value.problem.reason
    assert reason in caught.value.problem.reason


def test_a_syntax_error_without_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Any:
        raise yaml.MarkedYAMLError(
            context="while reading", problem="it broke", problem_mark=yaml.Mark("", 9, 5, 0, "", 9)
        )

    monkeypatch.setattr(yaml, "parse", broken)
    with pytest.raises(BrokenDocument) as caught:
        parse("a")
    assert caught.value.problem.position == (6, 1, 0)
    assert caught.value.problem.reason == "not YAML: it broke, while reading"


def test_empty_documents_do_not_count() -> None:
    assert parse("") == parse("# nothing\n") == parse("---\n---\n...\n") == parse("null") == []
    first, second = parse("---\na: 1\n---\n---\nb: 2\n")
    assert (first.data, second.data) == ({"a": 1}, {"b": 2})
    assert second.position == (4, 1, 0)


def test_literals_are_marked() -> None:
    assert one("a: |-\n  x\nb: >-\n  x\nc: x\n").literals == {("a",)}


#: Where JSON is YAML as libyaml has it: no surrogate pairs, no bare DEL.
TEXT = st.text(st.characters(codec="utf-8", max_codepoint=0xFFFF, exclude_characters="\x7f"))
YAMLABLE = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**9), 10**9),
        TEXT,
        st.floats(-1e9, 1e9),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text("abc ", max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(YAMLABLE)
def test_json_reads_as_itself(value: object) -> None:
    """JSON is YAML, and an independent writer of it."""
    documents = parse(json.dumps(value))
    assert same(documents[0].data if documents else None, value)


@given(st.one_of(st.text(), st.text("[]{}:,-#&*!|>'\"% \n\ta1?@`")))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        documents = parse(text)
    except BrokenDocument as broken:
        assert broken.problem.text("f").startswith("f:")
    else:
        for document in documents:
            assert document.data is not None or document.problems


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('name: {{ include "x" . }}-config', '{{ include "x" . }}'),
        ("a: 1\n{{- if .Values.auth }}\nb: 2\n{{- end }}", "{{- if .Values.auth }} and 1 more"),
        ('issuer: "{{ .Values.issuer }}"', "{{ .Values.issuer }}"),
        ("{{/* a comment */}}", "{{/* a comment */}}"),
        ("a: {{$x}}", "{{$x}}"),
        ("a: {{`x`}}", "{{`x`}}"),
    ],
)
def test_templates_are_told_apart(text: str, shown: str) -> None:
    with pytest.raises(BrokenDocument) as caught:
        refuse_templates(text)
    assert f"unrendered template: it holds {shown};" in caught.value.problem.reason
    assert caught.value.problem.position is not None


@pytest.mark.parametrize(
    "text", ["# set by {{ .Values.x }}", "a: 1 # {{ .Values.x }}", "a: {b: {c: {}}}", "a: '{{'", "{{}: 1}"]
)
def test_what_only_looks_like_a_template(text: str) -> None:
    refuse_templates(text)
