import json
import logging

import pytest

from extproc.process.logs import JsonFormatter, TextFormatter, set_up


def record(**extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {"name": "a.b", "levelname": "INFO", "msg": "hello %s", "args": ("x",), "created": 0.0}
    )
    vars(made).update(extra)
    return made


def test_json_has_the_extra_fields() -> None:
    line = json.loads(JsonFormatter().format(record(request_id="r-1", pods={"a"} and ["a"])))
    assert line == {
        "time": "1970-01-01T00:00:00.000+00:00",
        "level": "info",
        "logger": "a.b",
        "message": "hello x",
        "request_id": "r-1",
        "pods": ["a"],
    }


def test_json_takes_anything() -> None:
    assert json.loads(JsonFormatter().format(record(odd=object())))["odd"].startswith("<object")


def test_json_has_the_exception() -> None:
    try:
        raise ValueError("broken")
    except ValueError as error:
        line = json.loads(JsonFormatter().format(record(exc_info=(ValueError, error, error.__traceback__))))
    assert "ValueError: broken" in line["exception"]


def test_text_is_for_people() -> None:
    assert TextFormatter().format(record(request_id="r-1")).endswith("INFO    a.b: hello x request_id=r-1")
    assert TextFormatter().format(record()).endswith("hello x")


@pytest.mark.parametrize(
    ("hostile", "written"),
    [
        ("a\nINFO forged", "a\\nINFO forged"),
        ("a\r\x1b[2J", "a\\r\\x1b[2J"),
        ("\u2028\u202e\x85\ud800", "\\u2028\\u202e\\x85\\ud800"),
        ("zoë ü 漢", "zoë ü 漢"),
    ],
)
def test_text_cannot_be_forged(hostile: str, written: str) -> None:
    in_extra = TextFormatter().format(record(request_id=hostile))
    assert in_extra.endswith(f"hello x request_id={written}")
    in_message = TextFormatter().format(record(args=(hostile,)))
    assert in_message.endswith(f"hello {written}")


def test_text_of_an_exception_cannot_be_forged() -> None:
    try:
        raise ValueError("broken\n2026-01-01 INFO forged\x1b[2J")
    except ValueError as error:
        lines = TextFormatter().format(record(exc_info=(ValueError, error, error.__traceback__))).split("\n")
    assert lines[0].endswith("hello x")
    assert "    2026-01-01 INFO forged\\x1b[2J" in lines
    assert all(line.startswith("    ") for line in lines[1:])


def test_set_up_replaces_what_was_there() -> None:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        set_up("debug", "json")
        set_up("warning", "text")
        assert root.level == logging.WARNING
        assert [type(handler.formatter) for handler in root.handlers] == [TextFormatter]
    finally:
        root.handlers[:] = before
        root.setLevel(level)
