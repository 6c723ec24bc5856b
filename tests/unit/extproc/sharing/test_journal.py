from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from extproc.sharing import journal as module
from extproc.sharing.journal import Journal
from extproc.sharing.message import Message, decode, decode_event
from extproc.sharing.topic import DistantIncoming
from scheduler.pool.shared import Event

ORIGIN = (b"8 bytes!", "0")


class Topic:
    """Two kinds of events, of which one is for this machine alone; the second element is a time."""

    nearby = frozenset({"near"})

    def __init__(self) -> None:
        self.flying: list[Event] = []
        self.noted: list[Event] = []

    def other(self) -> DistantIncoming:
        raise AssertionError("nobody tells it anything")

    def in_flight(self) -> list[Event]:
        return self.flying

    def notes(self) -> Iterator[Event]:
        return iter(self.noted)

    def outward(self, event: Event, now: float) -> Sequence[Any]:
        return (event[0], now - event[1])

    def inward(self, event: Sequence[Any], at: float) -> Sequence[Any]:
        raise AssertionError("nothing is heard")

    def keyed(self, event: Sequence[Any]) -> bool:
        raise AssertionError("nothing is heard")


def made() -> tuple[Topic, Journal, list[None]]:
    due: list[None] = []
    topic = Topic()
    return topic, Journal(ORIGIN, 2, {"t": topic}, lambda: b"seal", lambda: due.append(None)), due


def events(message: Message) -> list[tuple[Any, ...]]:
    return [decode_event(raw) for raw in message.events.get("t", ())]


def test_the_first_message_has_all_that_is_in_flight_and_what_waits_comes_after_it() -> None:
    topic, journal, _ = made()
    topic.flying.append(("a", 10.0))
    journal.add("t", ("b", 10.5))
    first, second = decode(journal.take(11.0)), decode(journal.take(11.5))
    assert (first.origin, first.epoch, first.seal) == (ORIGIN, 2, b"seal")
    # In flight is told as everything: with its age.
    assert (first.whole, first.number, events(first)) == (True, 0, [("a", 1.0)])
    assert (second.whole, second.number, events(second)) == (False, 1, [("b", 1.0)])
    assert events(decode(journal.take(12.0))) == []


def test_what_is_for_this_machine_alone_is_not_told() -> None:
    _, journal, due = made()
    journal.add("t", ("near", 1.0))
    assert (journal.waiting, due) == (0, [])


def test_who_sends_is_woken_once_for_what_is_collected() -> None:
    _, journal, due = made()
    for _ in range(3):
        journal.add("t", ("a", 1.0))
    assert len(due) == 1
    journal.take(1.0)
    journal.take(1.0)
    journal.add("t", ("a", 1.0))
    assert len(due) == 2


def test_all_is_told_at_most_once_a_second_by_whatever_number_it_is_asked_for() -> None:
    _, journal, _ = made()
    assert decode(journal.take(1.0)).whole
    for now, wanted in ((1.1, False), (1.5, False), (2.1, True), (2.2, False), (9.0, False)):
        if now < 2.0:
            journal.tell_all()
        assert decode(journal.take(now)).whole is wanted, now


def test_a_long_wait_is_bounded_and_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    _, journal, _ = made()
    journal.take(1.0)
    for _ in range(5):
        journal.add("t", ("a", 1.0))
    assert (journal.dropped, journal.waiting) == (3, 2)
    assert decode(journal.take(5.0)).whole
    assert len(events(decode(journal.take(5.0)))) == 2


def test_a_message_has_no_more_than_so_many_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EVENTS", 2)
    _, journal, _ = made()
    journal.take(1.0)
    for _ in range(3):
        journal.add("t", ("a", 1.0))
    assert [len(events(decode(journal.take(1.0)))) for _ in range(2)] == [2, 1]


def test_taking_leave_and_asking() -> None:
    _, journal, _ = made()
    last = decode(journal.take(1.0, last=True))
    assert (last.last, last.whole) == (True, False)
    assert decode(journal.take(1.0, wanted=(ORIGIN,))).wanted == (ORIGIN,)


def test_notes_for_one_come_when_nothing_else_waits() -> None:
    topic, journal, due = made()
    topic.noted = [("n", 1.0), ("n", 2.0)]
    journal.take(1.0)
    for _ in range(2):
        journal.tell_notes(ORIGIN)
    assert len(due) == 1
    assert journal.more
    first = decode(journal.take(3.0))
    assert (first.to, events(first)) == (ORIGIN, [("n", 2.0)])
    journal.add("t", ("a", 3.0))
    assert decode(journal.take(3.0)).to is None
    second, last = decode(journal.take(3.0)), decode(journal.take(3.0))
    assert (second.to, len(events(second))) == (ORIGIN, 1)
    assert (last.to, events(last), journal.more) == (ORIGIN, [], False)


def test_no_more_than_so_many_are_told_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LETTERS", 1)
    _, journal, _ = made()
    journal.take(1.0)
    journal.tell_notes(ORIGIN)
    journal.tell_notes((b"another!", "0"))
    assert decode(journal.take(1.0)).to == ORIGIN
    assert not journal.more
