"""YAML text → plain data, with the position of every key and value.

Scalars resolve by YAML 1.2's core schema, so that `on`, `yes` and `12:30:00` are the strings that they look like, and
`1e3` is a number. Read from the event stream: that bounds the nesting before anything recurses, and shows what loaders
hide (repeated keys, aliases, tags).
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from extproc.config.problems import Path, Position, Problem
from extproc.config.units import shorten

#: Bytes of a file. Kubernetes allows no more in a ConfigMap.
MAX_BYTES = 1 << 20
#: Levels of nesting. This configuration needs 8; a file may hold other manifests beside ours, and those are deep.
MAX_DEPTH = 64
#: Digits of an integer: more than any 64-bit number has, and far fewer than Python takes long to convert.
MAX_DIGITS = 32

_LOADER: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader

# YAML 1.2.2, section 10.3.2.
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE = frozenset(("true", "True", "TRUE"))
_FALSE = frozenset(("false", "False", "FALSE"))
_INTEGER = re.compile(r"[-+]?[0-9]+")
_RADIX = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
#: Template actions of a chart that was not rendered: `{{ .Values.x }}`, `{{- if … }}`, `{{/* … */}}`.
_TEMPLATE = re.compile(r"\{\{[-~]?\s*[\w.\"'`$/(][^\n]*?\}\}")
_COMMENT = re.compile(r"(?:^|\s)#.*")

_START = Position(1, 1)

#: A position in the parsed text → its position in the file.
Place = Callable[[int, int], Position]


class BrokenDocument(Exception):
    """The text cannot be read any further. Carries the one problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.reason)
        self.problem = problem


@dataclass(slots=True)
class Document:
    """The data of one YAML document, and the positions of its values."""

    position: Position
    data: Any = None
    #: Position of a value; that of its key, too, where there is one.
    values: dict[Path, Position] = field(default_factory=dict)
    keys: dict[Path, Position] = field(default_factory=dict)
    #: Values in literal style (`|`), whose lines are lines of the file.
    literals: set[Path] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    #: Values that could not be understood (see `problems`); None stands in their place.
    unusable: set[Path] = field(default_factory=set)

    def position_of(self, path: Path, *, key: bool = False) -> Position:
        """Of the value at `path`, or of its key; where there is none, of what would have held it."""
        for length in range(len(path), -1, -1):
            head = path[:length]
            # A missing key is best shown at the key of the mapping that should have it.
            if (key or length < len(path)) and head in self.keys:
                return self.keys[head]
            if head in self.values:
                return self.values[head]
        return self.position


def refuse_templates(text: str) -> None:
    """Raises BrokenDocument where the text is a Helm template that was not rendered."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if "{{" in line and (match := _TEMPLATE.search(_COMMENT.sub("", line))):
            found.append((Position(number, match.start() + 1), match[0]))
    if found:
        position, expression = found[0]
        others = f" and {len(found) - 1} more" if len(found) > 1 else ""
        reason = (
            f"this is an unrendered template: it holds {shorten(expression)}{others};"
            " render it first (helm template), or write the values in their place"
        )
        raise BrokenDocument(Problem(reason, position=position))


def identity(line: int, column: int) -> Position:
    return Position(line, column)


def parse(text: str, place: Place = identity) -> list[Document]:
    """The documents of a YAML stream, without those that are empty. Raises BrokenDocument."""
    documents: list[Document] = []
    builder: _Builder | None = None
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, DocumentStartEvent):
                builder = _Builder(_place(event, place), place)
            elif builder is not None and isinstance(event, DocumentEndEvent):
                if builder.document.data is not None or builder.document.problems:
                    documents.append(builder.document)
            elif builder is not None:
                builder.feed(event)
    except yaml.YAMLError as error:
        raise BrokenDocument(_syntax_problem(error, text, place)) from error
    return documents


def _place(event: Event, place: Place) -> Position:
    mark: Any = event.start_mark
    return place(mark.line + 1, mark.column + 1)


def _syntax_problem(error: yaml.YAMLError, text: str, place: Place) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    reason = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    if mark is None:
        # The reader's errors know a character or byte, not a line.
        return Problem(f"not YAML: {shorten(str(reason), 200)}", position=place(1, 1))
    lines = text.split("\n")
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        reason = "a tab is used to indent; YAML takes only spaces there"
    elif isinstance(error, yaml.MarkedYAMLError) and error.context:
        start = error.context_mark.line + 1 if error.context_mark is not None else mark.line + 1
        since = f" that starts on line {place(start, 1).line}" if start != mark.line + 1 else ""
        reason = f"{reason}, {error.context}{since}"
    return Problem(f"not YAML: {reason}", position=place(mark.line + 1, mark.column + 1))


def resolve(text: str) -> object:
    """The value of a plain (unquoted) scalar by the core schema. Raises ValueError for numbers beyond its limits."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INTEGER.fullmatch(text) or _RADIX.fullmatch(text):
        if len(text) > MAX_DIGITS:
            raise ValueError("the number has too many digits")
        return int(text) if text.lstrip("+-").isdigit() else int(text, 0)
    if _SPECIAL.fullmatch(text):
        raise ValueError(f"{text} is not a number that can be used here")
    if _FLOAT.fullmatch(text):
        value = float(text)
        if not math.isfinite(value):
            raise ValueError("the number is out of range")
        return value
    return text


def same(first: object, second: object) -> bool:
    """Equality by which 1 differs from true and from 1.0."""
    if type(first) is not type(second):
        return False
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same(value, second[key]) for key, value in first.items())
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second


@dataclass(slots=True)
class _Open:
    """A mapping or list whose end has not come yet."""

    path: Path
    value: dict[str, Any] | list[Any]
    key: str | None = None
    #: Of `key`, while there is one.
    key_position: Position = _START


class _Builder:
    """Puts one document together from its events."""

    def __init__(self, position: Position, place: Place) -> None:
        self.document = Document(position)
        self._place = place
        self._open: list[_Open] = []

    def feed(self, event: Event) -> None:
        if isinstance(event, MappingEndEvent | SequenceEndEvent):
            done = self._open.pop()
            self._add(done.path, done.value)
        elif isinstance(event, NodeEvent):
            self._node(event)

    def _node(self, event: NodeEvent) -> None:
        position = _place(event, self._place)
        parent = self._open[-1] if self._open else None
        if parent is not None and isinstance(parent.value, dict) and parent.key is None:
            parent.key, parent.key_position = self._key(event, position), position
            return
        path = self._path()
        document = self.document
        document.values.setdefault(path, position)
        if parent is not None and parent.key is not None:
            document.keys.setdefault(path, parent.key_position)
        if isinstance(event, AliasEvent):
            self._unusable(
                path, position, f"aliases (*{shorten(str(event.anchor))}) are not allowed; write the value out"
            )
            return
        if tag := getattr(event, "tag", None):
            self._unusable(path, position, f"tags ({shorten(tag)}) are not allowed", add=False)
        if isinstance(event, ScalarEvent):
            self._add(path, self._scalar(event, path, position))
            return
        if len(self._open) >= MAX_DEPTH:
            raise BrokenDocument(Problem(f"nested deeper than {MAX_DEPTH} levels", position=position))
        self._open.append(_Open(path, {} if isinstance(event, MappingStartEvent) else []))
        assert isinstance(event, MappingStartEvent | SequenceStartEvent)  # noqa: S101 - there are no other nodes

    def _key(self, event: NodeEvent, position: Position) -> str:
        if not isinstance(event, ScalarEvent):
            raise BrokenDocument(Problem("a key must be a name, not a list, a mapping or an alias", position=position))
        return str(event.value)

    def _path(self) -> Path:
        if not self._open:
            return ()
        parent = self._open[-1]
        return (*parent.path, len(parent.value) if isinstance(parent.value, list) else str(parent.key))

    def _scalar(self, event: ScalarEvent, path: Path, position: Position) -> object:
        if event.style == "|":
            self.document.literals.add(path)
        if event.style:
            return event.value
        try:
            return resolve(event.value)
        except ValueError as error:
            self._unusable(path, position, str(error), add=False)
            return None

    def _unusable(self, path: Path, position: Position, reason: str, *, add: bool = True) -> None:
        self.document.problems.append(Problem(reason, path, position))
        self.document.unusable.add(path)
        if add:
            self._add(path, None)

    def _add(self, path: Path, value: object) -> None:
        """Puts a complete value where it belongs."""
        if not self._open:
            self.document.data = value
            return
        parent = self._open[-1]
        if isinstance(parent.value, list):
            parent.value.append(value)
            return
        key, parent.key = str(parent.key), None
        if key not in parent.value:
            parent.value[key] = value
            return
        first = self.document.keys[path].line
        if same(parent.value[key], value):
            reason = f"this key is repeated with the same value (first on line {first}); the repetition has no effect"
            self.document.warnings.append(Problem(reason, path, parent.key_position))
        else:
            reason = f"this key is repeated with another value; the first is on line {first}"
            self.document.problems.append(Problem(reason, path, parent.key_position))
