"""A mistake in a configuration, and the text that reports it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple

from extproc.config.units import did_you_mean, shorten
from extproc.errors import ConfigError

#: Where in a document: keys and list indices.
Path = tuple[str | int, ...]

#: Mistakes that are shown. A text with more has one mistake, such as a file of another kind.
MAX_SHOWN = 50
#: How a key without a name is shown.
EMPTY_KEY = '""'


class Position(NamedTuple):
    """A place in a file, counted from 1."""

    line: int
    column: int
    #: Line within a text that the file holds as one quoted string, or 0.
    inner: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. `options` are the names that would have been valid; the nearest becomes the suggestion."""

    reason: str
    path: Path = ()
    position: Position | None = None
    hint: str = ""
    options: tuple[str, ...] = ()
    #: The key at `path` is wrong, not its value.
    at_key: bool = False

    def text(self, source: str) -> str:
        """`file:line:col: key.path: reason (did you mean "x"?)`."""
        place, inner = source, ""
        if self.position is not None:
            place = f"{source}:{self.position.line}:{self.position.column}"
            inner = f" (line {self.position.inner} of the text that starts here)" if self.position.inner else ""
        where = f"{place}: {key_path(self.path)}" if self.path else place
        return f"{where}: {self.reason}{self._suggestion()}{inner}"

    def _suggestion(self) -> str:
        if self.hint:
            # A name is what was meant; a sentence is advice.
            return f" ({self.hint})" if " " in self.hint else did_you_mean(self.hint)
        if not self.options:
            return ""
        near = nearest(str(self.path[-1]), self.options) if self.path else ""
        return did_you_mean(near) if near else f" (known here: {', '.join(self.options)})"


def key_path(path: Path) -> str:
    """`scheduler.plugins.Score.enabled[2].name`."""
    parts = [f"[{part}]" if isinstance(part, int) else "." + (shorten(part) or EMPTY_KEY) for part in path]
    return "".join(parts).removeprefix(".")


def nearest(name: str, options: Iterable[str]) -> str:
    """The option that was probably meant, or an empty string. Case, hyphens and underscores count little."""
    names = {_plain(option): option for option in options}
    plain = _plain(name[:64])
    if plain in names:
        return names[plain]
    return next((names[match] for match in get_close_matches(plain, names, n=1, cutoff=0.7)), "")


def _plain(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "").replace(" ", "")


def config_error(source: str, problems: Sequence[Problem]) -> ConfigError:
    """All problems in the order of the file, each on a line of its own."""
    ordered = sorted(problems, key=lambda problem: (problem.position or Position(0, 0))[:2])
    lines = list(dict.fromkeys(problem.text(source) for problem in ordered[:MAX_SHOWN]))
    if len(ordered) > MAX_SHOWN:
        lines.append(f"{source}: … and {len(ordered) - MAX_SHOWN} more")
    return ConfigError("\n".join(lines))
