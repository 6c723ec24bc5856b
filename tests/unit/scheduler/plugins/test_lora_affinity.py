from random import Random

import pytest
from support.snapshots import P, cycle, request, snapshot

from scheduler.builder import build
from scheduler.config import SchedulerConfig
from scheduler.cycle import schedule
from scheduler.plugins.lora_affinity import MOST_ADAPTERS, LoraAffinity, LoraAffinityParams
from scheduler.registry import in_tree_registry
from scheduler.types import Adapters, Snapshot


def adapters(running: str = "", waiting: str = "", capacity: int = 2) -> P:
    return P(adapters=Adapters(frozenset(running.split()), frozenset(waiting.split()), capacity))


@pytest.mark.parametrize(
    ("model", "pods", "kept"),
    [
        # Loaded, or about to be.
        ("sql", [adapters("sql"), adapters("chat"), adapters("", "sql")], [True, False, True]),
        # Nowhere: where there is room.
        ("sql", [adapters("a b"), adapters("a"), adapters("a", "b")], [False, True, False]),
        # No room anywhere, or engines that do not say.
        ("sql", [adapters("a b"), adapters("a b")], [True, True]),
        ("sql", [P(), P()], [True, True]),
        # Some do not say: those that do have room.
        ("sql", [P(), adapters()], [False, True]),
        # An adapter without a name is none.
        ("sql", [P(adapters=Adapters(frozenset({""}), frozenset(), 1)), adapters()], [False, True]),
        # Not an adapter at all.
        ("base", [adapters("a b"), adapters()], [True, True]),
        ("", [adapters("a b"), adapters()], [True, True]),
    ],
)
def test_keep(model: str, pods: list[P], kept: list[bool]) -> None:
    plugin = LoraAffinity(LoraAffinityParams(base_models=("base",)))
    assert plugin.keep(request(model=model), snapshot(*pods), cycle()).tolist() == kept


def test_base_models_come_as_a_list_in_a_document() -> None:
    assert LoraAffinityParams.model_validate({"baseModels": ["a", "b"]}).base_models == ("a", "b")


def send(plugin: LoraAffinity, model: str, row: int, pods: Snapshot) -> None:
    plugin.keep(request(model=model), pods, cycle())
    plugin.picked(request(model=model), pods.pods[row], cycle())


def test_an_adapter_that_is_idle_stays_where_it_was_sent() -> None:
    plugin = LoraAffinity(LoraAffinityParams())
    busy, idle = snapshot(adapters("sql"), adapters(), adapters()), snapshot(adapters(), adapters(), adapters())
    send(plugin, "sql", 0, busy)
    assert plugin.keep(request(model="sql"), idle, cycle()).tolist() == [True, False, False]
    plugin.left(idle.pods[0])
    assert plugin.keep(request(model="sql"), idle, cycle()).tolist() == [True, True, True]


def test_its_place_goes_to_others_that_were_sent_later() -> None:
    plugin = LoraAffinity(LoraAffinityParams())
    for model in ("a", "b", "c"):
        send(plugin, model, 0, snapshot(adapters(model), adapters()))
    # Two places: one has been taken over.
    idle = snapshot(adapters(), adapters())
    kept = [plugin.keep(request(model=model), idle, cycle()).tolist() for model in ("a", "b", "c")]
    assert kept == [[True, True], [True, False], [True, False]]
    # And what runs has its place before all.
    running = snapshot(adapters("d e"), adapters())
    assert plugin.keep(request(model="c"), running, cycle()).tolist() == [False, True]


def test_names_that_no_engine_reported_are_not_remembered() -> None:
    plugin = LoraAffinity(LoraAffinityParams())
    pods = snapshot(adapters("a"), adapters())
    send(plugin, "made-up", 0, pods)
    assert plugin.keep(request(model="made-up"), pods, cycle()).tolist() == [True, True]
    assert list(plugin.memory()) == []


def test_without_a_known_number_of_places_not_without_end() -> None:
    plugin = LoraAffinity(LoraAffinityParams())
    names = [f"m{number}" for number in range(300)]
    for name in names:
        send(plugin, name, 0, snapshot(adapters(name, capacity=0), adapters(capacity=0)))
    assert len(list(plugin.memory())) == 256


def test_names_that_engines_report_not_without_end() -> None:
    plugin = LoraAffinity(LoraAffinityParams())
    names = " ".join(f"m{number}" for number in range(MOST_ADAPTERS))
    send(plugin, "m0", 0, snapshot(adapters(names, capacity=0), adapters(capacity=0)))
    late = snapshot(adapters(capacity=0), adapters("late", capacity=0))
    send(plugin, "late", 1, late)
    assert list(plugin.memory()) == [(late.pods[0].address, b"m0")]
    # One too many is found for as long as its engine reports it.
    assert plugin.keep(request(model="late"), late, cycle()).tolist() == [False, True]
    idle = snapshot(adapters(), adapters())
    assert plugin.keep(request(model="late"), idle, cycle()).tolist() == [True, True]
    assert plugin.keep(request(model="m0"), idle, cycle()).tolist() == [True, False]


def test_what_other_processes_sent_is_known() -> None:
    one, other = LoraAffinity(LoraAffinityParams()), LoraAffinity(LoraAffinityParams())
    one.share(1, other.told)
    send(one, "sql", 1, snapshot(adapters(), adapters("sql")))
    idle = snapshot(adapters(), adapters())
    assert other.keep(request(model="sql"), idle, cycle()).tolist() == [False, True]
    newcomer = LoraAffinity(LoraAffinityParams())
    for where, data in one.memory():
        newcomer.told(where, data)()
    assert newcomer.keep(request(model="sql"), idle, cycle()).tolist() == [False, True]


@pytest.mark.parametrize("order", [("lora-affinity", "least-request"), ("least-request", "lora-affinity")])
def test_the_order_of_filters_decides_nothing_and_fallbacks_remain(order: tuple[str, str]) -> None:
    profile, _ = build(SchedulerConfig(filters_enabled=order, scores_enabled=()), in_tree_registry())
    # The adapter's only home is full: the request goes elsewhere, and is refused in neither order.
    full = P(waiting=50, adapters=Adapters(frozenset({"sql"}), frozenset(), 2))
    decision = schedule(
        profile, request(model="sql"), snapshot(full, P(waiting=0), P(waiting=0)), now=0.0, rng=Random(1)
    )
    assert len(decision.pods) == 2
    # With room there, the home comes first, and the others are its fallbacks.
    home = P(waiting=0, adapters=Adapters(frozenset({"sql"}), frozenset(), 2))
    pods = snapshot(P(waiting=0), home, P(waiting=0))
    decision = schedule(profile, request(model="sql"), pods, now=0.0, rng=Random(1))
    assert decision.pod == pods.pods[1]
    assert len(decision.pods) == 3
