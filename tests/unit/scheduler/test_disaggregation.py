import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.builder import build
from scheduler.config import SchedulerConfig, ScorerRef
from scheduler.cycle import schedule
from scheduler.disaggregation import Disaggregation
from scheduler.errors import NoReadyPod, Saturated
from scheduler.profile import Profile
from scheduler.registry import in_tree_registry
from scheduler.types import Pod, Prompt, Request, Snapshot

LABEL = "llm-d.ai/role"
LONG = Prompt(["A sentence that fills blocks. " * 200])


def profile() -> Profile:
    scorers = (ScorerRef("least-request", 1), ScorerRef("prefix-cache", 10))
    return build(SchedulerConfig(scores_enabled=scorers), in_tree_registry())[0]


def pool(*roles: str | None, **columns: Any) -> Snapshot:
    """Pods `p0:1`, `p1:1` … of these roles; None: without the label."""
    pods = [Pod(f"p{n}:1", labels={} if role is None else {LABEL: role}) for n, role in enumerate(roles)]
    columns.setdefault("waiting", [0.0] * len(pods))
    return Snapshot.of(pods, **columns)


def decide(
    snapshot: Snapshot, *, threshold: int = 100, prompt: Prompt = LONG, plugins: Profile | None = None, **request: Any
) -> Any:
    return Disaggregation(label=LABEL, threshold=threshold).schedule(
        plugins or profile(), Request(prompt=prompt, **request), snapshot, now=1.0, rng=random.Random(1)
    )


def test_decode_first_then_the_best_prefill_pod() -> None:
    found = decide(pool("prefill", "decode", "prefill", "decode", in_flight=[5, 9, 1, 0]))
    assert [pod.address for pod in found.pods] == ["p3:1", "p1:1"]
    assert found.prefill is not None
    assert found.prefill.pod.address == "p2:1"
    # The prompt is the prefill pod's work, and the decode pod's none.
    assert found.uncached_tokens == 0
    assert found.prefill.uncached_tokens == LONG.tokens
    assert found.prefill.prefix_match == 0.0


@pytest.mark.parametrize(
    ("role", "decodes", "prefills"),
    [
        (None, True, False), ("", True, False), ("both", True, False), ("decode", True, False),
        ("prefill-decode", True, False), ("encode-prefill-decode", True, False), ("prefill", False, True),
        ("encode-prefill", False, True), ("encode", False, False), ("something", False, False),
    ],
)  # fmt: skip
def test_roles(role: str | None, decodes: bool, prefills: bool) -> None:
    found = decide(pool(role, "decode"))
    assert ("p0:1" in [pod.address for pod in found.pods]) is decodes
    assert (found.prefill is not None and found.prefill.pod.address == "p0:1") is prefills


def test_only_prompts_over_the_threshold_are_computed_elsewhere() -> None:
    snapshot = pool("prefill", "decode")
    assert decide(snapshot, threshold=LONG.tokens).prefill is None
    assert decide(snapshot, threshold=LONG.tokens).uncached_tokens == LONG.tokens
    assert decide(snapshot, threshold=LONG.tokens - 1).prefill is not None
    assert decide(snapshot, threshold=0, prompt=Prompt(["x"])).prefill is not None


def test_what_the_decode_pod_holds_need_not_be_computed() -> None:
    plugins, snapshot = profile(), pool("prefill", "decode")
    first = decide(snapshot, plugins=plugins)
    assert first.prefill is not None
    second = decide(snapshot, plugins=plugins)
    assert second.prefill is None
    assert second.uncached_tokens <= 100
    # Of the prefill pod it was noted as well.
    assert (len(first.undo), len(first.prefill.undo)) == (1, 1)
    for undo in (*first.undo, *first.prefill.undo, *second.undo):
        undo()
    assert decide(snapshot, plugins=plugins).prefill is not None


def test_nothing_is_noted_of_a_decision_that_is_only_asked_for() -> None:
    plugins, snapshot = profile(), pool("prefill", "decode")
    roles = Disaggregation(label=LABEL, threshold=100)
    for _ in range(2):
        found = roles.schedule(plugins, Request(prompt=LONG), snapshot, now=1.0, rng=random.Random(1), record=False)
        assert found.prefill is not None
        assert found.undo == ()


def test_without_a_prefill_pod_that_may_the_decode_pod_does_it_all() -> None:
    assert decide(pool("decode", None)).prefill is None
    assert decide(pool("prefill", "decode"), subset=frozenset({"p1:1"})).prefill is None
    # It has no room.
    full = decide(pool("prefill", "decode", waiting=[1000.0, 0.0]))
    assert full.prefill is None
    assert full.uncached_tokens == LONG.tokens
    allowed = decide(pool("prefill", "decode", "prefill"), subset=frozenset({"p1:1", "p2:1"})).prefill
    assert allowed is not None
    assert allowed.pod.address == "p2:1"


def test_without_a_decode_pod_there_is_no_answer() -> None:
    for snapshot in (pool("prefill"), pool()):
        with pytest.raises(NoReadyPod):
            decide(snapshot)
    with pytest.raises(NoReadyPod):
        decide(pool("prefill", "decode"), subset=frozenset({"p0:1"}))
    with pytest.raises(Saturated):
        decide(pool("prefill", "decode", waiting=[0.0, 1000.0]))


ROLES = st.sampled_from([None, "prefill", "decode", "both", "encode"])


@given(st.lists(st.tuples(ROLES, st.integers(0, 9)), min_size=1, max_size=20), st.integers(0, 3000), st.integers(0, 99))
def test_each_pod_does_its_part_only(pods: list[tuple[str | None, int]], threshold: int, seed: int) -> None:
    roles = [role for role, _ in pods]
    snapshot = pool(*roles, waiting=[float(count) for _, count in pods])
    decoders = snapshot.select(_mask(roles, {None, "decode", "both"}))
    request = Request(prompt=LONG)
    chosen = Disaggregation(label=LABEL, threshold=threshold)
    if not len(decoders):
        with pytest.raises(NoReadyPod):
            chosen.schedule(profile(), request, snapshot, now=1.0, rng=random.Random(seed))
        return
    found = chosen.schedule(profile(), request, snapshot, now=1.0, rng=random.Random(seed))
    # The pick is the one that would be made if there were decode pods only.
    alone = schedule(profile(), request, decoders, now=1.0, rng=random.Random(seed))
    assert [pod.address for pod in found.pods] == [pod.address for pod in alone.pods]
    if "prefill" in roles and alone.uncached_tokens > threshold:
        assert found.prefill is not None
        assert found.prefill.pod.labels == {LABEL: "prefill"}
    else:
        assert found.prefill is None
        assert found.uncached_tokens == alone.uncached_tokens


def _mask(roles: list[str | None], wanted: set[str | None]) -> Any:
    import numpy as np

    return np.array([role in wanted for role in roles], np.bool_)
