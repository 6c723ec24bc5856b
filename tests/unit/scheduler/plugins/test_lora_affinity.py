import pytest
from support.snapshots import P, cycle, request, snapshot

from scheduler.plugins.lora_affinity import LoraAffinity, LoraAffinityParams
from scheduler.types import Adapters


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
