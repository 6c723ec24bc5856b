import pytest

from extproc.protocol.headers import Headers
from extproc.routing.objectives import OBJECTIVE_HEADERS, Objectives


def asked(*names: tuple[str, bytes]) -> Headers:
    return Headers([(":method", b"POST"), *names])


@pytest.mark.parametrize("header", OBJECTIVE_HEADERS)
def test_priority_by_name(header: str) -> None:
    objectives = Objectives({"batch": -1, "critical": 10})
    assert [objectives.priority(asked((header, name))) for name in (b"batch", b"critical", b"other", b"\xff")] == [
        -1, 10, 0, 0,
    ]  # fmt: skip
    assert objectives.priority(asked()) == 0


def test_the_newer_header_comes_first() -> None:
    objectives = Objectives({"a": 1, "b": 2})
    old, new = ("x-gateway-inference-objective", b"a"), ("x-llm-d-inference-objective", b"b")
    assert objectives.priority(asked(old, new)) == 2


def test_what_is_written_comes_before_what_is_found() -> None:
    objectives = Objectives({"a": 1})
    objectives.found([("a", 5), ("b", 2), ("b", 3)])
    assert len(objectives) == 2
    assert [objectives.priority(asked((OBJECTIVE_HEADERS[0], name))) for name in (b"a", b"b")] == [1, 3]
    objectives.found([])
    assert [objectives.priority(asked((OBJECTIVE_HEADERS[0], name))) for name in (b"a", b"b")] == [1, 0]
