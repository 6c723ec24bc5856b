"""From a path to a checked configuration: find, read, decode and check the text. All mistakes are reported at once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path as FilePath

from extproc.config import checks
from extproc.config.auth_checks import AUTH_IS_OFF
from extproc.config.checks import ValidatePlugins, validate_plugins
from extproc.config.decode import Decoded, decode, known_keys
from extproc.config.document import BrokenDocument, Document
from extproc.config.locate import DEFAULT_DIRECTORY, VARIABLE, locate
from extproc.config.manifest import read_document
from extproc.config.model import GatewayConfig
from extproc.config.problems import Path, Problem, config_error
from extproc.config.sections.envoy import LEAST_HEAP, MEMORY_VARIABLE

#: Keys by which a bare `schedulerConfiguration` is known.
BARE_KEYS = ("pluginConfig", "plugins")
DEFAULTS = "defaults"


@dataclass(frozen=True)
class Loaded:
    """A configuration, the file that it came from (or "defaults"), and warnings about it."""

    config: GatewayConfig
    source: str
    warnings: tuple[str, ...] = ()
    #: What was read; None for defaults.
    text: str | None = None


def load(
    path: str | None,
    env: Mapping[str, str],
    *,
    default_directory: FilePath = DEFAULT_DIRECTORY,
    validate: ValidatePlugins = validate_plugins,
) -> Loaded:
    """The configuration at `path`, else at `INFER_GATEWAY_CONFIG`, else in the default directory, else the defaults.

    Raises:
        ConfigError: it is named and not there, or it is wrong. The text has one mistake a line.
    """
    found = locate(path, env, default_directory)
    if found is None:
        where = f"no configuration: neither --config nor {VARIABLE} is set and there is no {default_directory}"
        others = [
            problem.text(DEFAULTS) for problem in checks.warnings(GatewayConfig()) if problem.reason != AUTH_IS_OFF
        ]
        loaded = Loaded(GatewayConfig(), DEFAULTS, (f"{where}; defaults are used, and {AUTH_IS_OFF}", *others))
    else:
        loaded = loads(found.text, found.source, validate=validate)
    return sized(loaded, env)


def sized(loaded: Loaded, env: Mapping[str, str]) -> Loaded:
    """With Envoy's memory as its container's limit has it, where the configuration does not say."""
    limit, config = env.get(MEMORY_VARIABLE, ""), loaded.config
    if config.envoy.max_heap is not None or not limit.isdecimal():
        return loaded
    heap = max(int(limit) * 3 // 4, LEAST_HEAP)
    envoy = config.envoy.model_copy(update={"max_heap": heap})
    return replace(loaded, config=config.model_copy(update={"envoy": envoy}))


def loads(text: str, source: str, *, validate: ValidatePlugins = validate_plugins) -> Loaded:
    """The configuration in `text`; `source` names it in messages.

    Raises:
        ConfigError: as `load`.
    """
    try:
        document = read_document(text)
    except BrokenDocument as broken:
        raise config_error(source, [broken.problem]) from None
    return replace(_Reading(document, source).loaded(validate), text=text)


class _Reading:
    """One document being read. A bare scheduler section is read as if in its place; paths are shown as written."""

    def __init__(self, document: Document, source: str) -> None:
        self._document = document
        self._source = source
        self._prefix: Path = ("scheduler",) if any(key in document.data for key in BARE_KEYS) else ()

    def loaded(self, validate: ValidatePlugins) -> Loaded:
        document, prefix = self._document, self._prefix
        data = {"scheduler": document.data} if prefix else document.data
        decoded = decode(data, {prefix + path for path in document.unusable})
        found = [self._placed(self._misplaced(problem)) for problem in decoded.problems]
        found += self._written(decoded, checks.problems(decoded, validate))
        if found or document.problems:
            raise config_error(self._source, [*document.problems, *found])
        doubts = [*document.warnings, *self._written(decoded, checks.warnings(decoded.config))]
        return Loaded(decoded.config, self._source, tuple(doubt.text(self._source) for doubt in doubts))

    def _written(self, decoded: Decoded, problems: Iterable[Problem]) -> list[Problem]:
        return [self._placed(problem, decoded.written_at(problem.path)) for problem in problems]

    def _misplaced(self, problem: Problem) -> Problem:
        """Explains keys that belong to the whole configuration and stand beside a bare scheduler section."""
        if self._prefix and len(problem.path) == 2 and problem.path[1] in known_keys(()):
            reason = "is no key of a bare schedulerConfiguration: move pluginConfig and plugins under a key `scheduler`"
            return Problem(reason, problem.path, at_key=True)
        return problem

    def _placed(self, problem: Problem, path: Path | None = None) -> Problem:
        """The problem with the path and the position that it has in the document."""
        path = problem.path if path is None else path
        shown = path[len(self._prefix) :] if path[: len(self._prefix)] == self._prefix else path
        return replace(problem, path=shown, position=self._document.position_of(shown, key=problem.at_key))
