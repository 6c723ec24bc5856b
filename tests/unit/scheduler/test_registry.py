import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest
from support.plugins import Keeps, Scores

from scheduler.errors import PluginConfigError
from scheduler.framework import NoParams
from scheduler.plugins.kv_cache import KvCache
from scheduler.plugins.least_request import LeastRequest
from scheduler.registry import (
    ENTRY_POINT_GROUP,
    IN_TREE,
    Registry,
    in_tree_registry,
    installed_registry,
    nearest,
)

NAMES = {
    "gpu-usage", "kv-cache", "least-cost", "least-latency", "least-request", "lora-affinity", "prefix-affinity",
    "prefix-cache", "queue", "random", "running-requests", "session-affinity", "token-load",
}  # fmt: skip


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, ENTRY_POINT_GROUP)


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("their_plugins")
    module.Scores = Scores  # type: ignore[attr-defined]  # a module made here
    module.Keeps = Keeps  # type: ignore[attr-defined]  # as above
    module.inner = type("inner", (), {"Scores": Scores})  # type: ignore[attr-defined]  # as above
    module.instance = Scores([1])  # type: ignore[attr-defined]  # as above

    class Useless:
        Params: ClassVar = NoParams

    class NoParameters:
        score = Scores.score

    class OddParameters(NoParameters):
        Params: ClassVar = {"x": 1}

    module.Useless = Useless  # type: ignore[attr-defined]  # as above
    module.NoParameters = NoParameters  # type: ignore[attr-defined]  # as above
    module.OddParameters = OddParameters  # type: ignore[attr-defined]  # as above
    monkeypatch.setitem(sys.modules, "their_plugins", module)
    return module


class TestInTree:
    def test_names(self) -> None:
        assert set(in_tree_registry().names()) == NAMES
        assert list(in_tree_registry().names()) == sorted(NAMES)

    def test_every_plugin_file_is_registered(self) -> None:
        folder = Path(sys.modules["scheduler.plugins"].__file__ or "").parent
        files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
        assert {plugin.__module__.rpartition(".")[2] for plugin in IN_TREE} == files
        for plugin in IN_TREE:
            assert plugin.name == plugin.__module__.rpartition(".")[2].replace("_", "-")

    def test_the_alias(self) -> None:
        registry = in_tree_registry()
        assert registry.canonical("gpu-usage") == "kv-cache"
        assert registry.canonical("kv-cache") == "kv-cache"
        assert registry.get("gpu-usage") is registry.get("kv-cache") is KvCache

    def test_each_is_a_value_of_its_own(self) -> None:
        one = in_tree_registry()
        one.add("mine", Scores)
        assert "mine" not in in_tree_registry().names()


class TestDuplicates:
    def test_are_refused(self) -> None:
        registry = in_tree_registry()
        for name in ("kv-cache", "gpu-usage"):
            with pytest.raises(PluginConfigError, match="two plugins"):
                registry.add(name, Scores)
            with pytest.raises(PluginConfigError, match="two plugins"):
                registry.alias(name, "random")

    def test_the_installed_one_is_named(self) -> None:
        registry = Registry()
        registry.add("zone", point("zone", "a.b:Zone"))
        with pytest.raises(PluginConfigError, match=r"taken by a\.b:Zone"):
            registry.add("zone", point("zone", "c.d:Zone"))


class TestUnknown:
    @pytest.mark.parametrize(
        ("name", "hint"),
        [("kv_cache", "kv-cache"), ("KV-Cache", "kv-cache"), ("least-requests", "least-request"), ("xyzzy", "")],
    )
    def test_the_nearest_name_is_offered(self, name: str, hint: str) -> None:
        with pytest.raises(PluginConfigError) as caught:
            in_tree_registry().get(name)
        assert caught.value.hint == hint
        assert repr(name) in caught.value.message

    def test_nearest(self) -> None:
        assert nearest("maxwaitingRequest", ["maxWaitingRequests", "other"]) == "maxWaitingRequests"
        assert nearest("", []) == ""


class TestByReference:
    def test_module_and_attribute(self, theirs: ModuleType) -> None:
        assert in_tree_registry().get("their_plugins:Scores") is Scores
        assert in_tree_registry().get("their_plugins:inner.Scores") is Scores

    @pytest.mark.parametrize(
        ("name", "message", "hint"),
        [
            ("no_such_module:X", "module 'no_such_module' cannot be imported", ""),
            (":X", "cannot be imported", ""),
            ("their_plugins:Scoers", "has no 'Scoers'", "Scores"),
            ("their_plugins:", "has no ''", ""),
            ("their_plugins:instance", "is not a class", ""),
            ("their_plugins:Useless", "neither a method keep() nor score()", ""),
            ("their_plugins:NoParameters", "Params is not a PluginParams model", ""),
            ("their_plugins:OddParameters", "Params is not a PluginParams model", ""),
        ],
    )
    def test_what_may_be_wrong(self, theirs: ModuleType, name: str, message: str, hint: str) -> None:
        with pytest.raises(PluginConfigError) as caught:
            in_tree_registry().get(name)
        assert message in caught.value.message
        assert caught.value.hint == hint


class TestInstalled:
    def test_by_the_name_of_the_entry_point(self, theirs: ModuleType) -> None:
        registry = installed_registry([point("zone", "their_plugins:Keeps")])
        assert registry.get("zone") is Keeps
        assert registry.get("least-request") is LeastRequest
        assert "zone" in registry.names()

    def test_nothing_is_imported_before_it_is_wanted(self) -> None:
        registry = installed_registry([point("zone", "no_such_module:X")])
        with pytest.raises(PluginConfigError, match=r"'zone' \(no_such_module:X\) cannot be imported"):
            registry.get("zone")

    def test_it_must_be_a_plugin(self, theirs: ModuleType) -> None:
        with pytest.raises(PluginConfigError, match="neither"):
            installed_registry([point("zone", "their_plugins:Useless")]).get("zone")

    def test_a_name_that_is_taken(self) -> None:
        with pytest.raises(PluginConfigError, match="'random'"):
            installed_registry([point("random", "x:Y")])

    def test_what_is_installed_here(self) -> None:
        assert set(installed_registry().names()) >= NAMES
