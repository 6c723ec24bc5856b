from collections.abc import Sequence
from math import inf
from typing import Any

import pytest

from extproc.sharing import group as module
from extproc.sharing.group import ASK_INTERVAL, DEAF_AFTER, FADE, GONE_AFTER, Group, Hearing
from extproc.sharing.message import Message, Origin, decode, encode

ME: Origin = (b"gateway0", "0")
SIBLING: Origin = (b"gateway0", "1")
A: Origin = (b"gatewayA", "0")
B: Origin = (b"gatewayB", "0")


class Incoming:
    """Counts names; `bad` cannot be understood."""

    def __init__(self) -> None:
        self.there: list[str] = []
        self.applied: list[tuple[Any, ...]] = []

    @property
    def in_flight(self) -> int:
        return len(self.there)

    def apply(self, event: Sequence[Any]) -> None:
        if event[0] == "bad":
            raise KeyError(event[0])
        self.applied.append(tuple(event))
        if event[0] == "+":
            self.there.append(event[1])

    def replace(self, events: Sequence[Sequence[Any]]) -> None:
        self.there = [event[1] for event in events]

    def fade(self, keep: int) -> None:
        self.there = self.there[len(self.there) - keep :] if keep else []

    def end(self) -> None:
        self.there.clear()


class Topic:
    nearby: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.others: list[Incoming] = []

    def other(self) -> Incoming:
        self.others.append(Incoming())
        return self.others[-1]

    def in_flight(self) -> Any:
        raise AssertionError("nothing is told")

    def notes(self) -> Any:
        raise AssertionError("nothing is told")

    def outward(self, event: Any, now: float) -> Any:
        raise AssertionError("nothing is told")

    def inward(self, event: Sequence[Any], at: float) -> Sequence[Any]:
        return (*event, at) if event[0] == "aged" else event

    def keyed(self, event: Sequence[Any]) -> bool:
        return event[0] == "note"


class World:
    def __init__(self) -> None:
        self.topic = Topic()
        self.asked = 0
        self.cold: list[Origin] = []
        self.group = Group(ME, 5, {"t": self.topic}, self._ask, self.cold.append)
        self.group.seal = b"seal"

    def _ask(self) -> None:
        self.asked += 1

    def hear(self, message: Message, at: float, now: float | None = None) -> None:
        self.group.hear(message, at, at if now is None else now)

    @property
    def incoming(self) -> Incoming:
        return self.topic.others[-1]


def message(
    number: int, *events: tuple[Any, ...], of: Origin = A, epoch: int = 0, seal: bytes = b"seal", topic: str = "t",
    **options: Any,
) -> Message:  # fmt: skip
    return decode(encode(of, epoch, number, seal, {topic: list(events)} if events else {}, **options))


def test_hearing() -> None:
    hearing = Hearing()
    assert hearing.deaf_for(0.0) == inf
    assert hearing.echo(1.0, 1.1)
    assert not hearing.echo(1.5, 1.6)
    assert (hearing.since, hearing.echo_at, hearing.deaf_for(2.0)) == (1.0, 1.5, 0.0)
    assert hearing.deaf_for(1.6 + DEAF_AFTER + 2) == pytest.approx(2)
    assert hearing.echo(9.0, 9.0)
    assert hearing.since == 9.0


def test_events_in_their_order() -> None:
    world = World()
    world.hear(message(0, ("+", "x"), whole=True), 1.0)
    world.hear(message(1, ("+", "y"), ("aged", 2)), 2.0)
    assert world.incoming.there == ["x", "y"]
    assert ("aged", 2, 2.0) in world.incoming.applied
    assert world.group.exact
    assert (world.group.members, world.group.in_flight) == (1, 2)


def test_twice_is_once() -> None:
    world = World()
    for _ in range(2):
        world.hear(message(0, ("+", "x"), whole=True), 1.0)
        world.hear(message(1, ("+", "y")), 1.0)
    assert world.incoming.there == ["x", "y"]
    assert world.group.duplicates == 2


def test_a_gap_is_asked_about_and_made_up_for() -> None:
    world = World()
    world.hear(message(0, whole=True), 1.0)
    world.hear(message(3, ("+", "y")), 1.0)
    assert (world.group.lost, world.group.exact) == (2, False)
    assert world.group.wants(1.0)
    assert world.group.wanted(1.0) == (A,)
    # Not again at once.
    assert world.group.cold(1.0)
    assert (world.group.wants(1.1), world.group.wanted(1.1)) == (False, ())
    assert world.group.wanted(1.0 + ASK_INTERVAL) == (A,)
    world.hear(message(4, ("+", "z"), whole=True), 2.0)
    assert (world.incoming.there, world.group.exact) == (["z"], True)


def test_one_that_is_heard_from_the_middle_on_is_asked() -> None:
    world = World()
    world.hear(message(7, ("+", "x")), 1.0)
    assert (world.group.lost, world.group.wanted(1.0)) == (0, (A,))


def test_another_run_ends_what_the_one_before_had() -> None:
    world = World()
    world.hear(message(0, ("+", "x"), whole=True), 1.0)
    world.hear(message(0, ("+", "y"), epoch=1), 1.0)
    assert (world.incoming.there, world.group.exact, world.group.members) == (["y"], False, 1)
    world.hear(message(1, ("+", "late")), 1.0)
    assert (world.incoming.there, world.group.duplicates) == (["y"], 1)


def test_taking_leave() -> None:
    world = World()
    world.hear(message(0, ("+", "x"), whole=True), 1.0)
    world.hear(message(1, last=True), 1.0)
    assert (world.incoming.there, world.group.members) == ([], 0)


def test_whoever_asks_is_answered_and_siblings_are_not_heard() -> None:
    world = World()
    world.hear(message(0, ("+", "x"), of=SIBLING, whole=True), 1.0)
    assert (world.group.members, world.asked) == (0, 0)
    world.hear(message(0, wanted=(ME,)), 1.0)
    world.hear(message(1, wanted=(B,)), 1.0)
    assert world.asked == 1


def test_all_is_told_anew_when_the_carrier_is_back() -> None:
    world = World()
    world.hear(message(0, of=ME, epoch=4), 1.0)  # of a run before
    assert world.asked == 0
    world.hear(message(0, of=ME, epoch=5), 1.0)
    world.hear(message(1, of=ME, epoch=5), 1.5)
    assert world.asked == 1
    world.hear(message(2, of=ME, epoch=5), 9.0)
    assert world.asked == 2


def own(world: World, at: float) -> None:
    world.hear(message(0, of=ME, epoch=5), at)
    world.group.tick(at)


def test_who_is_silent_while_the_carrier_carries_is_gone() -> None:
    world = World()
    world.hear(message(0, ("+", "x"), whole=True), 0.0)
    for tenth in range(int(GONE_AFTER * 10) + 1):
        own(world, tenth / 10)
        assert world.group.members == 1
    own(world, GONE_AFTER + 0.2)
    assert (world.group.members, world.incoming.there) == (0, [])


def test_nobody_is_gone_because_the_carrier_stood_still() -> None:
    world = World()
    own(world, 0.0)
    world.hear(message(0, ("+", "x"), whole=True), 0.0)
    # Ten seconds of nothing, then this process' own message first.
    own(world, 10.0)
    assert world.group.members == 1
    world.hear(message(1, ("+", "y")), 10.1)
    for tenth in range(GONE_AFTER.__ceil__() * 10):
        own(world, 10.1 + tenth / 10)
    assert world.group.members == 1 - (tenth / 10 > GONE_AFTER)


def test_what_others_have_fades_while_nothing_is_heard() -> None:
    world = World()
    world.group.tick(50.0)  # nothing was ever heard
    own(world, 0.0)
    world.hear(message(0, *[("+", f"{n}") for n in range(10)], whole=True), 0.0)
    world.group.tick(DEAF_AFTER)
    assert world.group.in_flight == 10
    for share in (0.5, 0.25, 0.25, 0.0):
        world.group.tick(DEAF_AFTER + FADE * (1 - share))
        assert world.group.in_flight == int(10 * share)
    world.group.tick(1000.0)
    assert (world.group.in_flight, world.group.members) == (0, 1)
    # Back: it is asked, for what is left is not the truth.
    own(world, 1001.0)
    assert world.group.wanted(1001.0) == (A,)


def test_the_oldest_fade_first() -> None:
    world = World()
    own(world, 0.0)
    world.hear(message(0, ("+", "old"), ("+", "new"), whole=True), 0.0)
    world.group.tick(DEAF_AFTER + FADE / 2)
    assert world.incoming.there == ["new"]


def test_who_was_silent_at_the_end_of_the_past_is_gone() -> None:
    world = World()
    world.hear(message(3, ("+", "x")), 1.0)
    world.hear(message(3, ("+", "x"), of=B), 50.0)
    world.group.caught_up(50.5)
    assert world.group.members == 1


def test_what_is_not_understood_is_counted_and_the_rest_done() -> None:
    world = World()
    world.hear(message(0, whole=True), 1.0)
    world.hear(message(1, ("bad",), ("+", "x"), ("nobody knows", 1)), 1.0)
    assert world.incoming.there == ["x"]
    assert world.group.unknown == 1
    world.hear(message(2, ("+", "x"), topic="a pool that is not here"), 1.0)
    assert world.group.unknown == 2
    world.hear(message(3, (), whole=True), 1.0)  # an event without a kind
    assert (world.group.unknown, world.group.exact) == (3, True)


def test_notes_under_another_secret_are_left_out() -> None:
    world = World()
    world.hear(message(0, whole=True, seal=b"other"), 1.0)
    world.hear(message(1, ("note", 1), ("+", "x"), seal=b"other"), 1.0)
    assert world.incoming.applied == [("+", "x")]
    assert (world.group.foreign, world.group.strangers) == (1, 1)
    world.hear(message(2, ("note", 1)), 1.0)
    assert (world.group.foreign, world.group.strangers) == (1, 0)


def test_no_more_than_so_many_are_listened_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_MEMBERS", 1)
    world = World()
    world.hear(message(0, whole=True), 1.0)
    world.hear(message(0, whole=True, of=B), 1.0)
    assert (world.group.members, world.group.unknown) == (1, 1)


def test_what_takes_in_each_process() -> None:
    world = World()
    world.hear(message(0, whole=True), 1.0)
    world.hear(message(0, whole=True, of=B), 1.0)
    assert list(world.group.incoming("t")) == world.topic.others


def test_one_of_all_tells_a_newcomer_what_was_noted() -> None:
    first, second = World(), World()
    second.group._me = (b"gatewayZ", "0")
    for world, other in ((first, (b"gatewayZ", "0")), (second, ME)):
        world.group.caught_up(0.0)
        world.hear(message(0, of=other, whole=True), 1.0)
        world.hear(message(0, of=A, whole=True, cold=True), 20.0)
    assert (first.cold, second.cold) == ([A], [])
    # Another newcomer, and the least of all: it is not asked itself.
    first.hear(message(0, of=(b"gateway+", "0"), whole=True, cold=True), 21.0)
    assert first.cold == [A, (b"gateway+", "0")]
    first.hear(message(1, of=A, cold=True), 22.0)
    assert first.cold == [A, (b"gateway+", "0"), A]


def test_notes_for_one_are_for_no_other() -> None:
    world = World()
    world.hear(message(0, whole=True), 1.0)
    assert not world.group.warm
    assert world.group.wants(1.0)
    assert (world.group.cold(1.0), world.group.cold(2.0)) == (True, False)
    world.hear(message(1, ("note", 1), to=B), 2.0)
    world.hear(message(2, ("note", 2), to=ME), 2.0)
    assert world.incoming.applied == [("note", 2)]
    assert not world.group.warm
    world.hear(message(3, to=ME), 2.0)
    assert world.group.warm
    # A loss: what was noted in it is asked for again.
    world.hear(message(9), 30.0)
    assert world.group.cold(30.0)


def test_those_that_start_at_once_tell_each_other() -> None:
    alone = World()
    alone.group.caught_up(0.0)
    alone.hear(message(0, whole=True), 1.0)
    assert alone.group.warm
    world = World()
    world.hear(message(0, whole=True), 1.0)
    assert world.group.cold(1.0)
    world.hear(message(1, cold=True), 1.0)
    assert world.cold == [A]
