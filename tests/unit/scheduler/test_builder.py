import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, ClassVar

import pytest
from pydantic import Field, field_validator
from support.plugins import Clock, Faults
from support.snapshots import P, cycle, request, snapshot

from scheduler.builder import build, validate
from scheduler.config import PluginConfig, SchedulerConfig, ScorerRef
from scheduler.errors import PluginConfigError
from scheduler.framework import NoParams, PluginParams
from scheduler.profile import Profile
from scheduler.registry import in_tree_registry

REGISTRY = in_tree_registry()


def configured(**sections: Any) -> SchedulerConfig:
    """`args` is pluginConfig as a mapping; names stand for references with weight 1."""
    args: Mapping[str, Any] = sections.pop("args", {})
    scores = sections.pop("scores", None)
    if scores is not None:
        scores = tuple([ScorerRef(one) if isinstance(one, str) else one for one in scores])
    return SchedulerConfig(
        plugin_config=tuple([PluginConfig(name, given) for name, given in args.items()]),
        scores_enabled=scores,
        **sections,
    )


def built(config: SchedulerConfig) -> Profile:
    profile, warnings = build(config, REGISTRY)
    assert warnings == []
    return profile


def filters(profile: Profile) -> list[str]:
    return [member.name for member in profile.filters]


class TestValidate:
    def test_the_documented_example_is_right(self) -> None:
        config = configured(
            args={
                "least-request": {"maxWaitingRequests": 10},
                "least-latency": {"TTFTTPOTWeightFactor": 0.5},
                "prefix-cache": {"blockSizeToHash": 64, "maxBlocksToMatch": 128, "maxHashCacheSize": 50000},
            },
            filters_enabled=("least-request",),
            filters_disabled=("lora-affinity",),
            scores=["least-request", "kv-cache", "least-latency", "prefix-cache"],
        )
        assert validate(config, REGISTRY) == []
        assert validate(SchedulerConfig(), REGISTRY) == []
        assert validate(configured(scores=[]), REGISTRY) == []

    @pytest.mark.parametrize(
        ("config", "path", "words", "hint"),
        [
            (configured(args={"kv-cash": {}}), ("pluginConfig", 0, "name"), "no plugin 'kv-cash'", "kv-cache"),
            (
                configured(filters_enabled=("least-requests",)),
                ("plugins", "Filter", "enabled", 0),
                "no plugin",
                "least-request",
            ),
            (configured(filters_disabled=("x",)), ("plugins", "Filter", "disabled", 0), "no plugin", ""),
            (configured(scores=["kvcache"]), ("plugins", "Score", "enabled", 0, "name"), "no plugin", "kv-cache"),
            (
                configured(args={"least-request": {"maxWaiting": 1}}),
                ("pluginConfig", 0, "args", "maxWaiting"),
                "no argument 'maxWaiting'",
                "maxWaitingRequests",
            ),
            (
                # The field's own name is no argument.
                configured(args={"least-request": {"max_waiting_requests": 1}}),
                ("pluginConfig", 0, "args", "max_waiting_requests"),
                "no argument",
                "maxWaitingRequests",
            ),
            (
                configured(args={"least-request": {"maxWaitingRequests": 0}}),
                ("pluginConfig", 0, "args", "maxWaitingRequests"),
                "greater than or equal to 1, not 0",
                "",
            ),
            (
                configured(args={"least-request": {"maxWaitingRequests": "10"}}),
                ("pluginConfig", 0, "args", "maxWaitingRequests"),
                "integer, not '10'",
                "",
            ),
            (
                configured(args={"least-latency": {"TTFTTPOTWeightFactor": 1.5}}),
                ("pluginConfig", 0, "args", "TTFTTPOTWeightFactor"),
                "less than or equal to 1, not 1.5",
                "",
            ),
            (
                configured(args={"lora-affinity": {"baseModels": ["a", 1]}}),
                ("pluginConfig", 0, "args", "baseModels", 1),
                "string, not 1",
                "",
            ),
            (
                configured(args={"kv-cache": {}, "gpu-usage": {}}),
                ("pluginConfig", 1, "name"),
                "pluginConfig[0] already",
                "",
            ),
            (
                configured(filters_enabled=("least-request", "least-request")),
                ("plugins", "Filter", "enabled", 1),
                "in the list already, at [0]",
                "",
            ),
            (
                configured(scores=["gpu-usage", "kv-cache"]),
                ("plugins", "Score", "enabled", 1, "name"),
                "in the list already",
                "",
            ),
            (
                configured(scores_disabled=("kv-cache", "kv-cache")),
                ("plugins", "Score", "disabled", 1),
                "in the list already",
                "",
            ),
            (
                configured(scores=["kv-cache"], scores_disabled=("gpu-usage",)),
                ("plugins", "Score", "disabled", 0),
                "both in enabled, at [0], and in disabled",
                "",
            ),
            (
                configured(filters_enabled=("kv-cache",)),
                ("plugins", "Filter", "enabled", 0),
                "'kv-cache' is a scorer, not a filter",
                "list it under plugins.Score",
            ),
            (
                configured(scores=["lora-affinity"]),
                ("plugins", "Score", "enabled", 0, "name"),
                "'lora-affinity' is a filter, not a scorer",
                "list it under plugins.Filter",
            ),
        ],
    )
    def test_one_mistake(self, config: SchedulerConfig, path: tuple[Any, ...], words: str, hint: str) -> None:
        (error,) = validate(config, REGISTRY)
        assert error.path == path
        assert words in error.message
        assert error.hint == hint

    @pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf"), True, "1", None])
    def test_weights(self, weight: Any) -> None:
        (error,) = validate(configured(scores=[ScorerRef("kv-cache", weight)]), REGISTRY)
        assert error.path == ("plugins", "Score", "enabled", 0, "weight")
        assert repr(weight) in error.message

    @pytest.mark.parametrize("weight", [0, 0.0, 1, 2.5, 1e9])
    def test_right_weights(self, weight: float) -> None:
        assert validate(configured(scores=[ScorerRef("kv-cache", weight)]), REGISTRY) == []

    def test_all_mistakes_are_told(self) -> None:
        config = configured(
            args={"least-request": {"maxWaitingRequests": 0, "x": 1}, "nobody": {}},
            filters_enabled=("a", "b"),
            scores=[ScorerRef("c", -1)],
            scores_disabled=("d",),
        )
        assert [error.path for error in validate(config, REGISTRY)] == [
            ("pluginConfig", 0, "args", "x"),
            ("pluginConfig", 0, "args", "maxWaitingRequests"),
            ("pluginConfig", 1, "name"),
            ("plugins", "Filter", "enabled", 0),
            ("plugins", "Filter", "enabled", 1),
            ("plugins", "Score", "enabled", 0, "name"),
            ("plugins", "Score", "disabled", 0),
            ("plugins", "Score", "enabled", 0, "weight"),
        ]


class TestBuild:
    def test_the_defaults(self) -> None:
        profile = built(SchedulerConfig())
        assert filters(profile) == ["least-request"]
        assert profile.weights == {"least-request": 1, "kv-cache": 1, "least-latency": 1, "prefix-cache": 1}

    def test_enabled_is_exactly_that_in_that_order(self) -> None:
        profile = built(
            configured(filters_enabled=("lora-affinity", "least-request"), scores=[ScorerRef("queue", 2), "gpu-usage"])
        )
        assert filters(profile) == ["least-request"]
        # What only prefers runs after the others.
        assert [member.name for member in profile.preferences] == ["lora-affinity"]
        assert list(profile.weights.items()) == [("queue", 2), ("kv-cache", 1)]
        assert filters(built(configured(filters_enabled=()))) == []
        assert built(configured(scores=[])).weights == {}

    def test_disabled_removes_from_the_defaults(self) -> None:
        profile = built(configured(filters_disabled=("least-request",), scores_disabled=("gpu-usage", "least-latency")))
        assert filters(profile) == []
        assert list(profile.weights) == ["least-request", "prefix-cache"]

    def test_one_instance_for_both_roles(self) -> None:
        profile = built(SchedulerConfig())
        keep: Any = profile.filters[0].call
        score: Any = profile.scorers[0].call
        assert keep.__self__ is score.__self__ is profile.plugins["least-request"]

    def test_arguments_reach_the_plugin(self) -> None:
        profile = built(configured(args={"least-request": {"maxWaitingRequests": 3}}))
        assert profile.filters[0].call(request(), snapshot(P(2), P(3)), cycle()).tolist() == [True, False]
        profile = built(configured(args={"prefix-cache": {"blockSizeToHash": 8}}))
        assert profile.plugins["prefix-cache"].index.block_size == 8

    def test_arguments_by_alias(self) -> None:
        assert validate(configured(args={"gpu-usage": {}}), REGISTRY) == []

    def test_what_a_plugin_needs_is_built_and_records_but_does_not_score(self) -> None:
        profile = built(
            configured(
                args={"prefix-cache": {"maxBlocksToMatch": 3}}, filters_enabled=("prefix-affinity",), scores=["queue"]
            )
        )
        assert [member.name for member in profile.preparers] == ["prefix-cache"]
        assert [member.name for member in profile.recorders] == ["prefix-cache"]
        assert list(profile.weights) == ["queue"]
        assert profile.plugins["prefix-cache"].index.max_blocks == 3

    def test_what_is_needed_twice_is_built_once(self) -> None:
        profile = built(configured(filters_enabled=("prefix-affinity",)))
        assert [member.name for member in profile.recorders] == ["prefix-cache"]

    def test_random_beside_others_is_left_out(self) -> None:
        profile, warnings = build(configured(scores=["random", "kv-cache"]), REGISTRY)
        assert list(profile.weights) == ["kv-cache"]
        assert len(warnings) == 1
        assert "'random'" in warnings[0]
        assert "random" not in profile.plugins

    def test_random_alone_is_wanted(self) -> None:
        assert list(built(configured(scores=["random"])).weights) == ["random"]

    def test_a_mistake_is_raised(self) -> None:
        with pytest.raises(PluginConfigError, match="no plugin"):
            build(configured(scores=["x"]), REGISTRY)

    def test_observers_are_handed_on(self) -> None:
        faults, clock = Faults(), Clock()
        profile, _ = build(SchedulerConfig(), REGISTRY, on_fault=faults, observe=lambda name, phase: print, clock=clock)
        assert profile.on_fault is faults
        assert profile.clock is clock
        assert all(member.observe is print for member in (*profile.filters, *profile.scorers))


class ZoneParams(PluginParams):
    zone: str
    limit: int = Field(1)

    @field_validator("limit")
    @classmethod
    def _even(cls, value: int) -> int:
        if value == 13:
            raise ValueError("Unlucky")
        return value


class Zone:
    name: ClassVar[str] = "zone"
    Params: ClassVar[type[PluginParams]] = ZoneParams

    def __init__(self, params: ZoneParams) -> None:
        if params.zone == "nowhere":
            raise RuntimeError("no such zone")
        self.zone = params.zone

    def score(self, request: object, pods: object, cycle: object) -> None:
        """Never called here."""


class TestOutOfTree:
    @pytest.fixture(autouse=True)
    def _module(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module = ModuleType("zones")
        module.Zone = Zone  # type: ignore[attr-defined]  # a module made here
        monkeypatch.setitem(sys.modules, "zones", module)

    def test_by_reference(self) -> None:
        profile = built(configured(args={"zones:Zone": {"zone": "a"}}, scores=["zones:Zone", "kv-cache"]))
        assert list(profile.weights) == ["zones:Zone", "kv-cache"]
        assert profile.plugins["zones:Zone"].zone == "a"

    def test_errors_have_paths(self) -> None:
        first, second = validate(configured(args={"zones:Zone": {"limit": 13}}), REGISTRY)
        assert first.path == ("pluginConfig", 0, "args", "zone")
        assert first.message == "field required"
        assert second.path == ("pluginConfig", 0, "args", "limit")
        assert second.message == "unlucky, not 13"

    def test_arguments_that_were_not_given(self) -> None:
        (error,) = validate(configured(scores=["kv-cache", "zones:Zone"]), REGISTRY)
        assert error.path == ("plugins", "Score", "enabled", 1, "name")
        assert error.message == "'zones:Zone' needs the argument 'zone' in pluginConfig"
        assert validate(configured(args={"zones:Zone": {"zone": "a"}}, scores=["zones:Zone"]), REGISTRY) == []

    def test_a_needed_plugin_lacks_arguments(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Needy(Zone):
            Params: ClassVar[type[PluginParams]] = NoParams
            needs: ClassVar = ("zones:Zone",)

            def __init__(self, params: object) -> None:
                pass

        monkeypatch.setattr(sys.modules["zones"], "Needy", Needy, raising=False)
        with pytest.raises(PluginConfigError, match="'zones:Zone' needs the argument 'zone'"):
            build(configured(scores=["zones:Needy"]), REGISTRY)

    def test_a_constructor_that_raises(self) -> None:
        with pytest.raises(PluginConfigError, match="cannot be built: RuntimeError"):
            build(configured(args={"zones:Zone": {"zone": "nowhere"}}, scores=["zones:Zone"]), REGISTRY)


def test_plugins_whose_arguments_stay_are_taken_over() -> None:
    old, _ = build(SchedulerConfig(), REGISTRY)
    changed = SchedulerConfig(
        plugin_config=(PluginConfig("least-request", {"maxWaitingRequests": 3}),),
        scores_enabled=(ScorerRef("prefix-cache", 3.0), ScorerRef("queue")),
    )
    new, _ = build(changed, REGISTRY, before=old)
    assert new.plugins["prefix-cache"] is old.plugins["prefix-cache"]
    assert new.plugins["least-request"] is not old.plugins["least-request"]
    assert new.weights == {"prefix-cache": 3.0, "queue": 1.0}
    other = SchedulerConfig(plugin_config=(PluginConfig("prefix-cache", {"blockSizeToHash": 32}),))
    assert build(other, REGISTRY, before=new)[0].plugins["prefix-cache"] is not old.plugins["prefix-cache"]
