import logging

import pytest

from extproc.process.repeats import INTERVAL, Repeats

log = logging.getLogger(__name__)


def test_the_first_is_written_and_then_a_count(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    repeats = Repeats(log, "broken", lambda: now)
    repeats.warn("one")
    for _ in range(1000):
        repeats.warn("two")
    now += INTERVAL
    repeats.warn("three", 3)
    repeats.warn("four")
    now += 10 * INTERVAL
    repeats.warn("five")
    now += INTERVAL
    repeats.warn("six")
    written = [
        (record.getMessage(), vars(record)["detail"], vars(record).get("repeated", 0)) for record in caplog.records
    ]
    assert written == [("broken", "one", 0), ("broken", "three", 1002), ("broken", "five", 1), ("broken", "six", 0)]


def test_causes_are_apart(caplog: pytest.LogCaptureFixture) -> None:
    for cause in ("a", "b"):
        Repeats(log, cause).warn("x")
    assert [record.getMessage() for record in caplog.records] == ["a", "b"]
