"""docs/configuration.md, made from the configuration's model and from the plugins that come with the scheduler."""

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from itertools import takewhile
from typing import Any, NamedTuple

from pydantic_core import PydanticUndefined

from extproc.config import units
from extproc.config.show import json_schema

_HEAD = """\
# Configuration

<!-- Made by `make docs` from the configuration's model. Edit the model, not this file. -->

`--config PATH`, else `INFER_GATEWAY_CONFIG`, else `/etc/config`: a mounted ConfigMap volume (a folder), a YAML or JSON
file, or a ConfigMap manifest. A ConfigMap has the document under `gatewayConfiguration` (or `routerConfiguration`), or
only its `scheduler` section under `schedulerConfiguration`; each name may end in `.yaml`. Where none of the three is
there, all is as by default, with a warning.

- Every key is optional but those marked **required**. Unknown keys, wrong types and values out of range are refused,
  all at once, with file, line and key path; `infer-gateway check` prints what is in effect.
- A *duration* is text such as `200ms`, `5s` or `1h30m`, or a bare number of seconds. A *size* is a number of bytes, or
  text such as `64Ki`, `16Mi` or `1Gi`.
- `infer-gateway schema` prints the JSON Schema, which is kept in [schema/](schema/infer-gateway.schema.json): with
  `# yaml-language-server: $schema=…` on its first line a file is completed and checked by editors.
- `x[]` stands for each item of a list, `x.<name>` for each name that you choose.
"""

_PLUGINS = """\
## Plugins

Named in `scheduler.plugins`, with arguments in `scheduler.pluginConfig`. Without a `scheduler` section, or with one
that has no key, the rule is {rule} alone, without a filter. Where it has any key, what is left out is: the filters
{filters}; the scorers {scorers}, each with weight 1. `infer-gateway check` prints which rule is in force. Your own:
[plugins.md](plugins.md).

When to use which:

| you want | write |
|---|---|
| the shortest time to first token, conversations on their pod, no hot spots | nothing: `least-cost` |
| the documented weights, or to compare with them | the `scheduler` section of the page |
| a session on one pod, whatever that costs | `session-affinity` |
| the least cost, with a preference of your own | `least-cost` (50 of its 100 points are `halfScoreSeconds`) and yours |
| what another gateway does | `queue`, `kv-cache` and `prefix-cache` with its weights |"""

_KINDS = (("keep", "filter"), ("score", "scorer"))


class Key(NamedTuple):
    """One key of the configuration. `path` begins at the document; texts are plain."""

    path: str
    type: str
    range: str
    default: str
    meaning: str


def reference() -> str:
    """The whole document, in Markdown."""
    schema = json_schema()
    parts = [_HEAD]
    for name, node in schema["properties"].items():
        rows = keys(schema, name)
        parts.append(f"## {name}\n\n{_text(node, schema)}\n" + (f"\n{_table(rows)}" if rows else ""))
    parts.append(_plugins())
    return "\n".join(parts)


def keys(schema: Mapping[str, Any], section: str) -> list[Key]:
    """Every key of a top-level section, in the order of the model; none where each of its items is another section."""
    properties = schema["properties"]
    inner, suffix = _inside(properties[section], schema)
    if suffix and inner in [{"$ref": node.get("$ref")} for node in properties.values()]:
        return []
    return list(_walk(section + suffix, inner, schema))


def _walk(path: str, node: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Key]:
    found = _section(node, schema)
    if found is None:
        return
    required = found.get("required", ())
    for name, child in found["properties"].items():
        below = f"{path}.{name}"
        inner, suffix = _inside(child, schema)
        section = _section(inner, schema)
        default = "**required**" if name in required else "" if section is not None and not suffix else _default(child)
        yield Key(below, _type(child, schema), _range(child), default, _text(child, schema))
        yield from _walk(below + suffix, inner, schema)


def _options(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The alternatives of the node, without null: the default documents a key that is left out."""
    return [option for option in node.get("anyOf", [node]) if option.get("type") != "null"]


def _resolved(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in node:
        found: Mapping[str, Any] = schema["$defs"][node["$ref"].rpartition("/")[2]]
        return found
    return node


def _section(node: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The section that the node is or may be, or None."""
    for option in _options(_resolved(node, schema)):
        resolved = _resolved(option, schema)
        if "properties" in resolved:
            return resolved
    return None


def _inside(node: Mapping[str, Any], schema: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """What a list or a mapping of free names holds, and how paths say that; of all else the node itself."""
    for option in _options(node):
        resolved = _resolved(option, schema)
        if resolved.get("type") == "array":
            return resolved["items"], "[]"
        if isinstance(resolved.get("additionalProperties"), Mapping):
            return resolved["additionalProperties"], ".<name>"
    return node, ""


def _is_unit(node: Mapping[str, Any], ending: str) -> bool:
    return any(str(option.get("pattern", "")).endswith(ending) for option in _options(node))


def _is_duration(node: Mapping[str, Any]) -> bool:
    return _is_unit(node, "(ms|s|m|h))+$")


def _is_size(node: Mapping[str, Any]) -> bool:
    return _is_unit(node, "(Ki|Mi|Gi)?$")


def _type(node: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if _is_duration(node):
        return "duration"
    if _is_size(node):
        return "size"
    names: list[str] = []
    for option in _options(_resolved(node, schema)):
        resolved = _resolved(option, schema)
        if "enum" in resolved:
            names.append(", ".join(resolved["enum"]))
        elif resolved.get("type") == "array":
            names.append(f"list of {_type(resolved['items'], schema)}")
        elif "properties" in resolved:
            names.append("section")
        elif isinstance(resolved.get("additionalProperties"), Mapping):
            names.append(f"mapping of {_type(resolved['additionalProperties'], schema)}")
        else:
            names.append(_NAMES.get(resolved.get("type", ""), "scalar"))
    return " or ".join(dict.fromkeys(names))


_NAMES = {"object": "mapping", "string": "string", "integer": "integer", "number": "number", "boolean": "boolean"}


def _range(node: Mapping[str, Any]) -> str:
    show = units.format_duration if _is_duration(node) else units.format_size if _is_size(node) else _number
    for option in _options(node):
        over = "exclusiveMinimum" in option
        low, high = option.get("exclusiveMinimum" if over else "minimum"), option.get("maximum")
        if low is not None and high is not None:
            return f"over {show(low)}, to {show(high)}" if over else f"{show(low)} – {show(high)}"
        if low is not None:
            return f"over {show(low)}" if over else f"{show(low)} or more"
        for least, most, what in (("minItems", "maxItems", "items"), ("minLength", "maxLength", "characters")):
            if most in option:
                return f"{option.get(least, 0)} – {option[most]} {what}"
            if least in option:
                return "not empty"
    return ""


def _number(value: float) -> str:
    return str(int(value) if value == int(value) else value)


def _default(node: Mapping[str, Any]) -> str:
    value: Any = node.get("default")
    if value is None:
        return "–"
    if _is_duration(node):
        value = units.format_duration(value)
    elif _is_size(node):
        value = units.format_size(value)
    elif isinstance(value, float):
        value = _number(value)
    return f"`{value}`" if isinstance(value, str) and value else f"`{json.dumps(value, ensure_ascii=False)}`"


def _text(node: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    return str(node.get("description") or (_section(node, schema) or {}).get("description", ""))


def _table(rows: list[Key]) -> str:
    lines = ["| key | type | range | default | meaning |", "|---|---|---|---|---|"]
    lines += [
        "| " + " | ".join([f"`{key.path}`", *map(_escaped, (key.type, key.range, key.default, key.meaning))]) + " |"
        for key in rows
    ]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


# Plugins


def _plugins() -> str:
    from scheduler.builder import DEFAULT_FILTERS, DEFAULT_SCORERS
    from scheduler.config import LEAST_COST
    from scheduler.registry import ALIASES, IN_TREE

    others = {name: [other for other, of in ALIASES.items() if of == name] for name in ALIASES.values()}
    scorers = [one.name for one in DEFAULT_SCORERS]
    on = dict.fromkeys([*DEFAULT_FILTERS, *scorers], ", on where `scheduler` has a key and does not say otherwise")
    rule = [one.name for one in LEAST_COST.scores_enabled or ()]
    on |= dict.fromkeys(rule, ", on where there is no `scheduler` section")
    parts = [_PLUGINS.format(rule=_names(rule), filters=_names(DEFAULT_FILTERS), scorers=_names(scorers))]
    for plugin in IN_TREE:
        kinds = " and ".join(kind for method, kind in _KINDS if hasattr(plugin, method))
        also = f", also called {_names(others[plugin.name])}" if plugin.name in others else ""
        parts.append(f"### {plugin.name}\n\nA {kinds}{also}{on.get(plugin.name, '')}.")
        needs = getattr(plugin, "needs", ())
        parts.append(inspect.cleandoc(str(plugin.__doc__)))
        if needs:
            parts.append(f"Builds {_names(needs)} along with itself, for what that one finds out.")
        if plugin.Params.model_fields:
            intro = plugin.Params.__dict__.get("__doc__")
            parts += [inspect.cleandoc(intro)] if intro else []
            parts.append(_table(list(arguments(plugin.Params))).rstrip("\n"))
    return "\n\n".join(parts) + "\n"


def _names(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


def arguments(params: type[Any]) -> Iterator[Key]:
    """The arguments of a plugin. What one means is the `#:` comment above its field."""
    schema = params.model_json_schema(by_alias=True)
    meanings = _comments(params)
    for field, info in params.model_fields.items():
        name = info.alias or field
        node = schema["properties"][name]
        default = "**required**" if info.default is PydanticUndefined else _default(node)
        yield Key(name, _type(node, schema), _range(node), default, meanings.get(field, ""))


def _comments(params: type[Any]) -> dict[str, str]:
    """Field -> the text of the `#:` comment right above it, in the class's source."""
    source = textwrap.dedent(inspect.getsource(params))
    lines = source.splitlines()
    found: dict[str, str] = {}
    for statement in ast.parse(source).body[0].body:  # type: ignore[attr-defined]  # it is a class
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            above = map(str.strip, reversed(lines[: statement.lineno - 1]))
            words = [line.removeprefix("#:").strip() for line in takewhile(lambda line: line.startswith("#:"), above)]
            found[statement.target.id] = " ".join(reversed(words))
    return found
