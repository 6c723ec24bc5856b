import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.config.problems import MAX_SHOWN, Position, Problem, config_error, key_path, nearest


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("broken"), "f: broken"),
        (Problem("broken", position=Position(3, 4)), "f:3:4: broken"),
        (Problem("broken", ("a", 0, "b"), Position(3, 4)), "f:3:4: a[0].b: broken"),
        (Problem("unknown", ("a", "lissener"), hint="listener"), 'f: a.lissener: unknown (did you mean "listener"?)'),
        (Problem("wrong", ("a",), hint="list it there"), "f: a: wrong (list it there)"),
        (Problem("unknown", ("prot",), options=("port", "host")), 'f: prot: unknown (did you mean "port"?)'),
        (Problem("unknown", ("zzz",), options=("port", "host")), "f: zzz: unknown (known here: port, host)"),
        (Problem("unknown", (), options=("port",)), "f: unknown (known here: port)"),
        (
            Problem("broken", ("a",), Position(3, 4, inner=2)),
            "f:3:4: a: broken (line 2 of the text that starts here)",
        ),
    ],
)
def test_one_line_says_where_what_and_what_was_meant(problem: Problem, text: str) -> None:
    assert problem.text("f") == text


def test_key_paths() -> None:
    assert (
        key_path(("scheduler", "plugins", "Score", "enabled", 2, "name")) == "scheduler.plugins.Score.enabled[2].name"
    )
    assert key_path(("", "a\nb")) == '"".a\\u000ab'


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("filter", "Filter"),
        ("jwksURI", "jwksUri"),
        ("jwks_uri", "jwksUri"),
        ("jwks-uri", "jwksUri"),
        ("fitler", "Filter"),
        ("nothing like it", ""),
        ("", ""),
    ],
)
def test_the_nearest_name(name: str, meant: str) -> None:
    assert nearest(name, ("Filter", "Score", "jwksUri")) == meant


@given(st.text())
def test_any_name_may_be_asked_for(name: str) -> None:
    assert nearest(name, ("Filter", "Score")) in {"Filter", "Score", ""}


def test_problems_come_in_the_order_of_the_file_and_once() -> None:
    problems = [Problem("b", position=Position(2, 1)), Problem("a", position=Position(1, 9)), Problem("c")]
    assert str(config_error("f", [*problems, *problems])) == "f: c\nf:1:9: a\nf:2:1: b"


def test_no_more_are_shown_than_anybody_reads() -> None:
    problems = [Problem("x", position=Position(line, 1)) for line in range(1, MAX_SHOWN + 8)]
    lines = str(config_error("f", problems)).split("\n")
    assert len(lines) == MAX_SHOWN + 1
    assert lines[-1] == "f: … and 7 more"
