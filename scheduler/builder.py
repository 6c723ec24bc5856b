"""From configuration to profile: reports all errors of the configuration, and builds the profile."""

from collections.abc import Callable, Collection, Mapping, Sequence
from math import isfinite
from typing import Any

from pydantic import ValidationError

from scheduler.config import PluginConfig, SchedulerConfig, ScorerRef
from scheduler.errors import PluginConfigError
from scheduler.framework import Filter, PluginClass, PluginParams, Scorer
from scheduler.profile import Observe, OnFault, Profile, ignore_fault
from scheduler.registry import Registry, nearest

DEFAULT_FILTERS = ("least-request",)
DEFAULT_SCORERS = (
    ScorerRef("least-request"),
    ScorerRef("kv-cache"),
    ScorerRef("least-latency"),
    ScorerRef("prefix-cache"),
)

Path = tuple[str | int, ...]


def validate(config: SchedulerConfig, registry: Registry) -> list[PluginConfigError]:
    """Every mistake of `config`, in the order of the document; an empty list is a configuration that can be built.

    `path` of each leads into the scheduler section, e.g. `("plugins", "Score", "enabled", 0, "weight")`.
    """
    errors: list[PluginConfigError] = []
    _check_args(config.plugin_config, registry, errors)
    configured = {registry.canonical(entry.name) for entry in config.plugin_config}
    _check_list("Filter", config.filters_enabled or (), config.filters_disabled, configured, registry, errors)
    scores = config.scores_enabled or ()
    _check_list("Score", scores, config.scores_disabled, configured, registry, errors)
    for index, scorer in enumerate(scores):
        weight: object = scorer.weight
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not isfinite(weight) or weight < 0:
            path = ("plugins", "Score", "enabled", index, "weight")
            errors.append(PluginConfigError(f"a weight is a number of 0 or more, not {weight!r}", path))
    return errors


def build(
    config: SchedulerConfig,
    registry: Registry,
    *,
    on_fault: OnFault = ignore_fault,
    observe: Observe | None = None,
    clock: Callable[[], float] | None = None,
    cpu_clock: Callable[[], float] | None = None,
    before: Profile | None = None,
) -> tuple[Profile, list[str]]:
    """The profile that `config` describes, and warnings of the parts left out.

    `on_fault`, `observe` and the clocks are handed on to `Profile`. Plugins of the profile `before` whose arguments
    stay the same are taken over, with all that they remember.

    Raises:
        PluginConfigError: the first of `validate`'s errors, or a plugin that cannot be constructed.
    """
    errors = validate(config, registry)
    if errors:
        raise errors[0]
    canonical = registry.canonical
    without = {canonical(name) for name in config.filters_disabled}
    enabled = DEFAULT_FILTERS if config.filters_enabled is None else config.filters_enabled
    filters = [canonical(name) for name in enabled if canonical(name) not in without]
    without = {canonical(name) for name in config.scores_disabled}
    refs = DEFAULT_SCORERS if config.scores_enabled is None else config.scores_enabled
    scorers = [(canonical(ref.name), float(ref.weight)) for ref in refs if canonical(ref.name) not in without]
    warnings: list[str] = []
    if len(scorers) > 1:
        for name, _ in list(scorers):
            if getattr(registry.get(name), "alone", False) and len(scorers) > 1:
                scorers = [scorer for scorer in scorers if scorer[0] != name]
                warnings.append(f"scorer {name!r} makes no sense beside others and is left out")
    args = {canonical(entry.name): entry.args for entry in config.plugin_config}
    plugins: dict[str, Any] = {}
    arguments: dict[str, PluginParams] = {}
    waiting = [*filters, *(name for name, _ in scorers)]
    while waiting:
        name = waiting.pop(0)
        if name not in plugins:
            plugin = registry.get(name)
            params = _params(name, plugin, args.get(name, {}))
            known = before.arguments.get(name) if before is not None else None
            same = known is not None and known == params
            plugins[name] = before.plugins[name] if before is not None and same else _instance(name, plugin, params)
            arguments[name] = params
            waiting += [canonical(needed) for needed in getattr(plugin, "needs", ())]
    profile = Profile(
        plugins=plugins,
        arguments=arguments,
        filters=filters,
        scorers=scorers,
        on_fault=on_fault,
        observe=observe,
        clock=clock,
        cpu_clock=cpu_clock,
    )
    return profile, warnings


def _check_args(entries: Sequence[PluginConfig], registry: Registry, errors: list[PluginConfigError]) -> None:
    seen: dict[str, int] = {}
    for index, entry in enumerate(entries):
        path: Path = ("pluginConfig", index)
        plugin = _found(entry.name, registry, (*path, "name"), errors)
        if plugin is None:
            continue
        first = seen.setdefault(registry.canonical(entry.name), index)
        if first != index:
            message = f"{entry.name!r} has its arguments in pluginConfig[{first}] already"
            errors.append(PluginConfigError(message, (*path, "name")))
        errors += _args_errors(plugin.Params, entry.args, (*path, "args"))


def _args_errors(params: type[PluginParams], args: Mapping[str, Any], path: Path) -> list[PluginConfigError]:
    # Only the documented names, though code may use the fields' own.
    names = [field.alias or name for name, field in params.model_fields.items()]
    errors = [
        PluginConfigError(f"there is no argument {name!r}", (*path, name), nearest(str(name), names))
        for name in args
        if name not in names
    ]
    try:
        params.model_validate({name: value for name, value in args.items() if name in names})
    except ValidationError as error:
        errors += [
            PluginConfigError(_reason(detail), (*path, *detail["loc"]))
            for detail in error.errors(include_url=False, include_context=False)
        ]
    return errors


def _missing_args(name: str, params: type[PluginParams], path: Path) -> list[PluginConfigError]:
    """The error of a plugin without pluginConfig."""
    return [
        PluginConfigError(f"{name!r} needs the argument {error.path[-1]!r} in pluginConfig", path)
        for error in _args_errors(params, {}, ("args",))
    ]


def _reason(detail: Any) -> str:
    """Pydantic's words, and the value that they are about."""
    message = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return message if detail["type"] == "missing" else f"{message}, not {detail['input']!r}"


def _check_list(
    kind: str,
    enabled: Sequence[str | ScorerRef],
    disabled: Sequence[str],
    configured: Collection[str],
    registry: Registry,
    errors: list[PluginConfigError],
) -> None:
    role: type[Filter] | type[Scorer] = Filter if kind == "Filter" else Scorer
    on: dict[str, int] = {}
    for key, listed, seen in (("enabled", enabled, on), ("disabled", disabled, dict[str, int]())):
        for index, item in enumerate(listed):
            path: Path = ("plugins", kind, key, index)
            if isinstance(item, ScorerRef):
                path = (*path, "name")
            name = item.name if isinstance(item, ScorerRef) else item
            plugin = _found(name, registry, path, errors)
            if plugin is None:
                continue
            if not issubclass(plugin, role):
                other = "scorer" if kind == "Filter" else "filter"
                message = f"{name!r} is a {other}, not a {'filter' if kind == 'Filter' else 'scorer'}"
                errors.append(PluginConfigError(message, path, f"list it under plugins.{_OTHER[kind]}"))
                continue
            canonical = registry.canonical(name)
            first = seen.setdefault(canonical, index)
            if first != index:
                errors.append(PluginConfigError(f"{name!r} is in the list already, at [{first}]", path))
            elif key == "enabled":
                if canonical not in configured:
                    errors += _missing_args(name, plugin.Params, path)
            elif canonical in on:
                message = f"{name!r} is both in enabled, at [{on[canonical]}], and in disabled"
                errors.append(PluginConfigError(message, path))


_OTHER = {"Filter": "Score", "Score": "Filter"}


def _found(name: str, registry: Registry, path: Path, errors: list[PluginConfigError]) -> PluginClass | None:
    try:
        return registry.get(name)
    except PluginConfigError as error:
        errors.append(PluginConfigError(error.message, path, error.hint))
        return None


def _params(name: str, plugin: PluginClass, args: Mapping[str, Any]) -> PluginParams:
    # What is listed was validated; what another plugin needs may still lack arguments.
    for missing in _missing_args(name, plugin.Params, ("pluginConfig",)) if not args else ():
        raise missing
    params: PluginParams = plugin.Params.model_validate(dict(args))
    return params


def _instance(name: str, plugin: PluginClass, params: PluginParams) -> Any:
    try:
        return plugin(params)
    except Exception as error:
        raise PluginConfigError(f"plugin {name!r} cannot be built: {error!r}", ("pluginConfig",)) from error
