"""The configuration for people and editors: the effective values as YAML, and the JSON schema."""

from typing import Any

import yaml

from extproc.config.document import resolve
from extproc.config.model import GatewayConfig
from extproc.config.sections.endpoints import EndpointsConfig

_SCHEMA = "https://json-schema.org/draft/2020-12/schema"


def dump(config: GatewayConfig) -> str:
    """`config` as YAML, defaults filled in, keys in the order of the model. Loading it gives the same behaviour."""
    data = config.model_dump(mode="json", by_alias=True, exclude_none=True)
    data["scheduler"] = _scheduler(config)
    data["endpoints"] |= _derived(config.endpoints)
    for name, section in config.pools.items():
        data["pools"][name] |= _derived(section)
    if config.auth_policy() is None:
        data.pop("auth", None)
    if config.disaggregation.threshold_tokens is None:
        del data["disaggregation"]
    if config.transport.own_envoy:
        del data["objectives"]  # its Envoy removes the header
    for key in ("pools", "routes"):
        if not data[key]:
            del data[key]
    return str(yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True))


def _derived(endpoints: EndpointsConfig) -> dict[str, Any]:
    """What follows from other keys where it is left out."""
    effective = {
        "stale_after": endpoints.effective_stale_after(),
        "scrape": endpoints.scrape.model_copy(update={"path": endpoints.dialect().path}),
    }
    data = endpoints.model_copy(update=effective).model_dump(mode="json", by_alias=True)
    return {key: data[key] for key in ("staleAfter", "scrape")}


def rule(config: GatewayConfig) -> str:
    """In words, how a pod is picked."""
    plugins = _scheduler(config)["plugins"]
    scorers = " + ".join([f"{one['weight']} × {one['name']}" for one in plugins["Score"]["enabled"]]) or "chance"
    filters = ", ".join(plugins["Filter"]["enabled"]) or "none"
    why = (
        "as written, and the page's defaults" if config.scheduler.model_fields_set else "there is no scheduler section"
    )
    return f"{scorers}; filters: {filters} ({why})"


def json_schema() -> dict[str, Any]:
    """The schema of a whole configuration, for editors and for the reference."""
    return {"$schema": _SCHEMA, **GatewayConfig.model_json_schema(by_alias=True)}


def _scheduler(config: GatewayConfig) -> dict[str, Any]:
    """The section with the plugins that take part, and the arguments that they have."""
    from scheduler.builder import DEFAULT_FILTERS, DEFAULT_SCORERS
    from scheduler.registry import installed_registry

    registry = installed_registry()
    canonical = registry.canonical
    wanted = config.scheduling()
    off = {canonical(name) for name in wanted.filters_disabled}
    filters = wanted.filters_enabled
    if filters is None:
        filters = tuple(name for name in DEFAULT_FILTERS if canonical(name) not in off)
    off = {canonical(name) for name in wanted.scores_disabled}
    scorers = wanted.scores_enabled
    if scorers is None:
        scorers = tuple(one for one in DEFAULT_SCORERS if canonical(one.name) not in off)
    entries = {entry.name: dict(entry.args) for entry in wanted.plugin_config}
    configured = {canonical(name) for name in entries}
    for name in (*filters, *(one.name for one in scorers)):
        if canonical(name) not in configured:
            configured.add(canonical(name))
            entries[name] = {}
    for name, args in entries.items():
        for parameter, info in registry.get(name).Params.model_fields.items():
            # A value of another type may be written in another way than it is kept.
            if isinstance(info.default, str | bool | int | float):
                args.setdefault(info.alias or parameter, info.default)
    weights = [
        {"name": one.name, "weight": int(one.weight) if one.weight == int(one.weight) else one.weight}
        for one in scorers
    ]
    return {
        "pluginConfig": [{"name": name, "args": args} for name, args in entries.items() if args],
        "plugins": {
            "Filter": {"enabled": list(filters), "disabled": list(wanted.filters_disabled)},
            "Score": {"enabled": weights, "disabled": list(wanted.scores_disabled)},
        },
    }


class _Dumper(yaml.SafeDumper):
    """Quotes what `extproc.config.document` would not read as a string, and repeats values in place of aliases."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's hook
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    try:
        plain = resolve(text) == text
    except ValueError:
        plain = False
    # Only between double quotes is every character safe: the other styles fold line breaks, of which YAML 1.1 has five.
    style = '"' if not text.isprintable() else None if plain else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
