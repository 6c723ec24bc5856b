import json
import logging

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
