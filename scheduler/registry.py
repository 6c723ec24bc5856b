"""Names to plugin classes: those that come with the scheduler, installed ones, and any `module:attr`."""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from scheduler.errors import PluginConfigError
from scheduler.framework import (
    Filter,
    FilterPlugin,
    PluginClass,
    PluginParams,
    PodWatcher,
    PreparerPlugin,
    Recorder,
    Reporter,
    Scorer,
    ScorerPlugin,
    Sharer,
)
from scheduler.plugins.kv_cache import KvCache
from scheduler.plugins.least_cost import LeastCost
from scheduler.plugins.least_latency import LeastLatency
from scheduler.plugins.least_request import LeastRequest
from scheduler.plugins.lora_affinity import LoraAffinity
from scheduler.plugins.prefix_affinity import PrefixAffinity
from scheduler.plugins.prefix_cache import PrefixCache
from scheduler.plugins.queue import Queue
from scheduler.plugins.random import Random
from scheduler.plugins.running_requests import RunningRequests
from scheduler.plugins.session_affinity import SessionAffinity
from scheduler.plugins.token_load import TokenLoad

#: Other packages offer plugins under this entry-point group, by the name that configurations use.
ENTRY_POINT_GROUP = "infer_gateway.plugins"

# A plugin stands under each of its kinds, so that mypy compares each of its methods with the contract.
FILTERS: tuple[type[FilterPlugin], ...] = (LeastRequest, LoraAffinity, PrefixAffinity)
SCORERS: tuple[type[ScorerPlugin], ...] = (
    KvCache,
    LeastCost,
    LeastLatency,
    LeastRequest,
    PrefixCache,
    Queue,
    Random,
    RunningRequests,
    SessionAffinity,
    TokenLoad,
)
PREPARERS: tuple[type[PreparerPlugin], ...] = (PrefixCache,)
RECORDERS: tuple[type[Recorder], ...] = (PrefixCache,)
WATCHERS: tuple[type[PodWatcher], ...] = (PrefixCache,)
REPORTERS: tuple[type[Reporter], ...] = (PrefixCache,)
SHARERS: tuple[type[Sharer], ...] = (PrefixCache,)

#: All plugins that come with the scheduler, by name.
IN_TREE: tuple[PluginClass, ...] = tuple(sorted({*FILTERS, *SCORERS}, key=lambda plugin: plugin.name))
#: Other name -> name. `gpu-usage` is what Kthena's chart calls it.
ALIASES = {"gpu-usage": "kv-cache"}


class Registry:
    """Plugins by name. A value: copies share nothing, nothing registers itself, and no name is given twice."""

    def __init__(self) -> None:
        self._plugins: dict[str, PluginClass | EntryPoint] = {}
        self._aliases: dict[str, str] = {}

    def add(self, name: str, plugin: PluginClass | EntryPoint) -> None:
        """Gives `plugin` a name. An entry point is loaded when somebody asks for it, not before.

        Raises:
            PluginConfigError: the name is taken.
        """
        self._check_free(name)
        self._plugins[name] = plugin

    def alias(self, other: str, name: str) -> None:
        """Makes `other` mean `name`.

        Raises:
            PluginConfigError: the name is taken.
        """
        self._check_free(other)
        self._aliases[other] = name

    def names(self) -> tuple[str, ...]:
        """All names, aliases included, sorted."""
        return tuple(sorted([*self._plugins, *self._aliases]))

    def canonical(self, name: str) -> str:
        """The name that `name` stands for: itself, unless it is an alias."""
        return self._aliases.get(name, name)

    def get(self, name: str) -> PluginClass:
        """The plugin class of that name, or of that `module:attr`.

        Raises:
            PluginConfigError: there is none, it cannot be imported, or it is not a plugin. `path` is left empty.
        """
        found = self._plugins.get(self.canonical(name))
        if found is None:
            if ":" not in name:
                raise PluginConfigError(f"there is no plugin {name!r}", hint=nearest(name, self.names()))
            return _checked(_imported(name), name)
        if isinstance(found, EntryPoint):
            try:
                loaded = found.load()
            except Exception as error:
                raise PluginConfigError(f"plugin {name!r} ({found.value}) cannot be imported: {error!r}") from error
            return _checked(loaded, name)
        return found

    def _check_free(self, name: str) -> None:
        if name in self._plugins or name in self._aliases:
            taken = self._plugins.get(name)
            by = f" by {taken.value}" if isinstance(taken, EntryPoint) else ""
            raise PluginConfigError(f"two plugins have the name {name!r}: it is taken{by}")


def in_tree_registry() -> Registry:
    """A new registry of the plugins that come with the scheduler."""
    registry = Registry()
    for plugin in IN_TREE:
        registry.add(plugin.name, plugin)
    for other, name in ALIASES.items():
        registry.alias(other, name)
    return registry


def installed_registry(points: Iterable[EntryPoint] | None = None) -> Registry:
    """The in-tree plugins and those of installed packages (entry-point group `infer_gateway.plugins`).

    Raises:
        PluginConfigError: an installed package gives a name that is taken.
    """
    registry = in_tree_registry()
    for point in entry_points(group=ENTRY_POINT_GROUP) if points is None else points:
        registry.add(point.name, point)
    return registry


def nearest(name: str, names: Iterable[str]) -> str:
    """The one of `names` that `name` was probably meant to be, or ""."""
    folded = {known.lower().replace("_", "-"): known for known in names}
    close = get_close_matches(name.lower().replace("_", "-"), folded, n=1)
    return folded[close[0]] if close else ""


def _imported(reference: str) -> Any:
    module_name, _, attribute = reference.partition(":")
    try:
        found: Any = import_module(module_name)
    except Exception as error:
        raise PluginConfigError(
            f"plugin {reference!r}: module {module_name!r} cannot be imported: {error!r}"
        ) from error
    try:
        for part in attribute.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        names = [known for known in dir(found) if not known.startswith("_")]
        raise PluginConfigError(
            f"plugin {reference!r}: module {module_name!r} has no {attribute!r}", hint=nearest(attribute, names)
        ) from error
    return found


def _checked(plugin: Any, name: str) -> PluginClass:
    if not isinstance(plugin, type):
        raise PluginConfigError(f"plugin {name!r} is not a class but {plugin!r}")
    if not (issubclass(plugin, Filter) or issubclass(plugin, Scorer)):
        raise PluginConfigError(f"plugin {name!r}: {plugin.__name__} has neither a method keep() nor score()")
    params = getattr(plugin, "Params", None)
    if not (isinstance(params, type) and issubclass(params, PluginParams)):
        raise PluginConfigError(f"plugin {name!r}: {plugin.__name__}.Params is not a PluginParams model")
    return cast("PluginClass", plugin)
