"""Plain data → GatewayConfig, with every mistake at once.

What is wrong is cut out and the rest is decoded: one bad value hides none of the mistakes that show between values.
"""

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from extproc.config.model import GatewayConfig
from extproc.config.problems import Path, Problem, nearest
from extproc.config.units import describe, did_you_mean

_TYPES = {
    "string_type": "a string",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}
#: Booleans of YAML 1.1, which are strings here.
_OLD_BOOLEANS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


@dataclass
class Decoded:
    """A configuration of all values that could be decoded, and the errors of the others."""

    config: GatewayConfig = field(default_factory=GatewayConfig)
    problems: list[Problem] = field(default_factory=list)
    #: Values that were wrong before.
    unusable: frozenset[Path] = frozenset()
    #: Places in `config` → places in the document, where parts were cut out.
    origin: dict[Path, Path] = field(default_factory=dict)

    def written_at(self, path: Path) -> Path:
        """Where in the document a place of `config` is."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origin:
                return self.origin[path[:length]] + path[length:]
        return path

    def sound(self, *paths: Path) -> bool:
        """Whether nothing was wrong at or below these places."""
        return not any(path in self._touched for path in paths)

    @cached_property
    def _touched(self) -> frozenset[Path]:
        """Every place that is wrong, and all that hold one. Asked for when decoding is done."""
        wrong = [*(problem.path for problem in self.problems), *self.unusable]
        return frozenset(path[:length] for path in wrong for length in range(len(path) + 1))


def decode(data: dict[str, Any], unusable: set[Path]) -> Decoded:
    """`unusable`: places whose values are known to be wrong already, and are not reported again."""
    decoded = Decoded(unusable=frozenset(unusable))
    wrong = set(unusable)
    details, pruned = _attempt(decoded, data, wrong)
    for detail in details:
        location, at_key = _location(detail, pruned)
        path = decoded.written_at(location)
        if path not in unusable:
            decoded.problems.append(_problem(detail, path, at_key=at_key))
    while details:
        before = len(wrong)
        for detail in details:
            path = decoded.written_at(_location(detail, pruned)[0])
            wrong.add(_existing(data, path, missing=detail["type"] == "missing"))
        # Each round cuts something out, until nothing is left that could be wrong.
        details, pruned = _attempt(decoded, data, wrong) if len(wrong) > before else ([], {})
    return decoded


def _attempt(decoded: Decoded, data: dict[str, Any], wrong: set[Path]) -> tuple[list[ErrorDetails], Any]:
    decoded.origin = {}
    pruned = _prune(data, wrong, (), (), decoded.origin)
    try:
        decoded.config = GatewayConfig.model_validate(pruned)
    except ValidationError as error:
        return error.errors(include_url=False), pruned
    return [], pruned


def _prune(value: Any, wrong: set[Path], old: Path, new: Path, origin: dict[Path, Path]) -> Any:
    """`value` without the parts at `wrong`."""
    origin[new] = old
    if isinstance(value, dict):
        return {
            key: _prune(item, wrong, (*old, key), (*new, key), origin)
            for key, item in value.items()
            if (*old, key) not in wrong
        }
    if isinstance(value, list):
        kept: list[Any] = []
        for index, item in enumerate(value):
            if (*old, index) not in wrong:
                kept.append(_prune(item, wrong, (*old, index), (*new, len(kept)), origin))
        return kept
    return value


def _existing(data: Any, path: Path, *, missing: bool) -> Path:
    """The deepest part of `path` that is in `data`: what has to go, when there is something wrong there."""
    path = path[:-1] if missing else path
    for depth, part in enumerate(path):
        known = part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int)
        if not known:
            return path[:depth]
        data = data[part]
    return path


def _location(detail: ErrorDetails, data: Any) -> tuple[Path, bool]:
    """Where it is wrong, and whether it is the key."""
    location = detail["loc"]
    if location[-1] != "[key]":
        return location, False
    # The mark of a key that is wrong, unless somebody has a key of that very name.
    for part in location[:-1]:
        data = data[part]
    return (location, False) if isinstance(data, dict) and "[key]" in data else (location[:-1], True)


def _problem(detail: ErrorDetails, path: Path, *, at_key: bool) -> Problem:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return Problem("unknown key", path, options=known_keys(path[:-1]), at_key=True)
    if kind == "missing":
        return Problem("is missing", path)
    if kind == "value_error":
        return Problem(str(context["error"]), path, at_key=at_key)
    if kind in _TYPES:
        return Problem(f"must be {_TYPES[kind]}, not {describe(value)}{_type_hint(kind, value)}", path)
    if kind == "literal_error":
        options = re.findall("'([^']*)'", context["expected"])
        near = nearest(value, options) if isinstance(value, str) else ""
        hint = did_you_mean(near) if near else ""
        return Problem(f"must be {context['expected']}, not {describe(value)}{hint}", path)
    if kind in {"string_too_short", "too_short"}:
        return Problem("must not be empty", path)
    if kind in {"greater_than_equal", "less_than_equal"}:
        bound = f"{context['ge']:g} or more" if kind == "greater_than_equal" else f"{context['le']:.10g} or less"
        return Problem(f"must be {bound}, not {describe(value).removeprefix('the number ')}", path)
    return Problem(f"{detail['msg'][:1].lower()}{detail['msg'][1:]}, not {describe(value)}", path)


def _type_hint(kind: str, value: object) -> str:
    if kind == "string_type" and isinstance(value, int | float):
        return " (write it in quotes)"
    if not isinstance(value, str):
        return ""
    if kind == "bool_type" and value.lower() in _OLD_BOOLEANS | {"true": "true", "false": "false"}:
        return f" (write {_OLD_BOOLEANS.get(value.lower(), value.lower())}, without quotes)"
    if kind in {"int_type", "float_type"} and value.replace(".", "", 1).removeprefix("-").isdecimal():
        return " (write it without quotes)"
    return ""


def known_keys(path: Path) -> tuple[str, ...]:
    """The keys that a mapping at `path` may have; empty where that is free."""
    annotation: Any = GatewayConfig
    for part in path:
        if isinstance(part, int):
            continue
        model = _model(annotation)
        if model is None or _is_mapping(annotation):
            # The part is a key of the user's own choice.
            annotation = model
            continue
        fields = {info.alias: info.annotation for info in model.model_fields.values()}
        if part not in fields:
            return ()
        annotation = fields[part]
    model = None if _is_mapping(annotation) else _model(annotation)
    return () if model is None else tuple(str(info.alias) for info in model.model_fields.values())


def _model(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation is, or holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model(part))), None)


def _is_mapping(annotation: Any) -> bool:
    return get_origin(annotation) is dict
