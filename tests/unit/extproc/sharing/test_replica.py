"""Two processes that tell each other what they do, without the sockets between them."""

from collections.abc import Iterator
from functools import partial
from random import Random

import msgspec
import pytest

from extproc.sharing.replica import NOTED, UNDONE, OtherProcess, Replica
from extproc.sharing.topic import NotUnderstood
from scheduler.builder import build
from scheduler.config import SchedulerConfig
from scheduler.cycle import schedule
from scheduler.pool.shared import Event, SharedStore
from scheduler.profile import Profile
from scheduler.registry import in_tree_registry
from scheduler.types import Decision, Pod, Prompt, Request, Undo

PODS = tuple(Pod(f"10.0.0.{number}:8000") for number in range(1, 4))
TEXT = "A conversation about routing. " * 20


class Process:
    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.store = SharedStore(2.0, lambda _pod: None, self._tell)
        self.store.set_pods(PODS, 0.0)
        self.replica = Replica(self._tell, 42)
        assert self.replica.in_flight() == []
        self.replica.share_store(self.store)
        self.profile, _ = build(SchedulerConfig(), in_tree_registry())
        self.replica.share_plugins(self.profile)

    def _tell(self, event: Event) -> None:
        self.sent.append(msgspec.msgpack.encode(event))

    def told(self) -> Iterator[list[object]]:
        events, self.sent = self.sent, []
        return map(msgspec.msgpack.decode, events)

    def decide(self, text: str = TEXT) -> Decision:
        request = Request(model="m", prompt=Prompt((text,)))
        return schedule(self.profile, request, self.store.snapshot(1.0), now=1.0, rng=Random(1))


def pair() -> tuple[Process, Process, OtherProcess]:
    a, b = Process(), Process()
    return a, b, b.replica.other()


def deliver(sender: Process, other: OtherProcess) -> None:
    for event in sender.told():
        other.apply(event)


def test_a_prefix_is_known_to_both() -> None:
    a, b, at_b = pair()
    first = a.decide()
    assert first.prefix_match == 0
    deliver(a, at_b)
    second = b.decide()
    assert second.prefix_match == 1
    assert second.pod == first.pod


def test_a_note_that_is_taken_back_is_taken_back_everywhere() -> None:
    a, b, at_b = pair()
    decision = a.decide()
    deliver(a, at_b)
    for undo in decision.undo:
        undo()
    assert a.decide().prefix_match == 0
    deliver(a, at_b)
    # What a decided after that is known, and vouched for by nothing but that.
    decision = b.decide()
    assert decision.prefix_match == 1


def test_undo_is_kept_for_so_many() -> None:
    a, b, at_b = pair()
    at_b._max_undo = 1
    first = a.decide()
    a.decide("Something else. " * 40)
    deliver(a, at_b)
    for undo in first.undo:
        undo()
    deliver(a, at_b)
    # Too late: b goes on to believe it.
    assert b.decide().prefix_match == 1


def test_what_a_newcomer_is_told() -> None:
    a, b, at_b = pair()
    decision = a.decide()
    elsewhere = next(pod for pod in PODS if pod is not decision.pod)
    ticket = a.store.acquire(elsewhere, 7, 1.0)
    a.sent.clear()
    for event in [*a.replica.in_flight(), *a.replica.notes()]:
        at_b.apply(msgspec.msgpack.decode(msgspec.msgpack.encode(event)))
    assert at_b.in_flight == 1
    assert not at_b._undo
    assert b.decide().prefix_match == 1
    ticket.release(2.0)
    deliver(a, at_b)
    assert at_b.in_flight == 0


def test_nothing_is_noted_of_a_pod_that_left_here() -> None:
    a, b, at_b = pair()
    decision = a.decide()
    b.store.set_pods([pod for pod in PODS if pod is not decision.pod], 1.0)
    deliver(a, at_b)
    assert list(b.replica.notes()) == []


class Faulty:
    """Fails in whatever it is asked."""

    def share(self, secret: int, tell: object) -> None:
        raise RuntimeError("share")

    def told(self, address: str, data: bytes) -> Undo:
        if data == b"no":
            raise RuntimeError("told")
        return partial(self.share, 0, None)

    def memory(self) -> Iterator[tuple[str, bytes]]:
        yield PODS[0].address, b"yes"
        raise RuntimeError("memory")


class NoMemory(Faulty):
    def memory(self) -> Iterator[tuple[str, bytes]]:
        raise RuntimeError("no memory")


def test_a_plugin_that_fails_is_nobody_elses_trouble() -> None:
    faults: list[tuple[str, str, str]] = []
    a, b, at_b = pair()
    plugins = {"x": Faulty(), "y": NoMemory(), **b.profile.plugins}
    b.replica.share_plugins(
        Profile(plugins=plugins, on_fault=lambda name, phase, error: faults.append((name, phase, str(error))))
    )
    assert [(kind, name) for kind, _, name, *_ in b.replica.notes()] == [("n", "x")]
    for number, data in enumerate((b"no", b"yes")):
        at_b.apply((NOTED, number, "x", PODS[0].address, data))
        at_b.apply((UNDONE, number))
    whats = [("x", "share"), ("y", "share"), ("x", "memory"), ("y", "no memory"), ("x", "told"), ("x", "share")]
    assert faults == [(name, "share", what) for name, what in whats]
    a.decide()
    deliver(a, at_b)
    assert len(list(b.replica.notes())) == 2


def test_the_end_of_a_process() -> None:
    a, b, at_b = pair()
    a.decide()
    a.store.acquire(PODS[0], 7, 1.0)
    deliver(a, at_b)
    assert [row["in_flight"] for row in b.store.statistics(1.0)].count(1) == 1
    at_b.end()
    assert not any(row["in_flight"] for row in b.store.statistics(1.0))
    # The pod holds the prefix all the same.
    assert b.decide().prefix_match == 1


def test_plugins_that_are_new_after_a_reload() -> None:
    a, b, at_b = pair()
    a.decide()
    before = a.profile
    a.profile, _ = build(SchedulerConfig(scores_enabled=()), in_tree_registry(), before=before)
    a.replica.share_plugins(a.profile)
    deliver(a, at_b)
    b.replica.share_plugins(Profile(plugins={}))
    a.profile = before
    a.replica.share_plugins(before)
    a.decide()
    deliver(a, at_b)  # nobody there to note it
    assert list(b.replica.notes()) == []


def test_plugins_that_are_taken_over_are_not_seeded_again() -> None:
    a, *_ = pair()
    a.decide()
    a.profile, _ = build(SchedulerConfig(), in_tree_registry(), before=a.profile)
    a.replica.share_plugins(a.profile)
    assert a.decide().prefix_match == 1


def test_for_other_machines() -> None:
    a, b, at_b = pair()
    decision = a.decide()
    a.store.acquire(decision.pod, 7, 1.0)
    noted, taken = [msgspec.msgpack.decode(event) for event in a.sent]
    assert [a.replica.keyed(event) for event in (noted, taken)] == [True, False]
    sent = a.replica.outward(tuple(taken), 5.0)
    assert sent[4] == 4.0
    at_b.apply(b.replica.inward(sent, 105.0))
    assert list(at_b.requests()) == [(decision.pod.address, 7)]
    at_b.replace([b.replica.inward(sent, 105.0)])
    at_b.fade(0)
    assert (at_b.in_flight, list(at_b.requests())) == (0, [])


class Stranger(Faulty):
    def told(self, address: str, data: bytes) -> Undo:
        raise ValueError("of another version")


def test_a_note_that_is_not_understood_is_no_fault() -> None:
    _, b, at_b = pair()
    faults: list[str] = []
    b.replica.share_plugins(Profile(plugins={"x": Stranger()}, on_fault=lambda name, phase, error: faults.append(name)))
    faults.clear()
    with pytest.raises(NotUnderstood):
        at_b.apply((NOTED, 1, "x", PODS[0].address, b"?"))
    assert not faults
    for note in ((1, "x", PODS[0].address, 5), (1, 5, PODS[0].address, b""), (1, "x", None, b"")):
        with pytest.raises(TypeError):
            at_b.apply((NOTED, *note))


def test_another_secret_voids_what_was_noted() -> None:
    a, *_ = pair()
    a.decide()
    a.replica.reseed(43)
    assert a.decide().prefix_match == 0
    assert a.decide().prefix_match == 1
    a.replica.share_plugins(Profile(plugins={"x": object()}))
    a.replica.reseed(44)
