"""What is wrong, or doubtful, between the keys of `listener`."""

from collections.abc import Iterator

from extproc.config.decode import Decoded
from extproc.config.problems import Path, Problem
from extproc.config.sections.listener import ListenerConfig

_CORS: Path = ("listener", "cors")


def problems(listener: ListenerConfig, decoded: Decoded) -> Iterator[Problem]:
    """Paths are those of the configuration, as in `checks`."""
    cors = listener.cors
    if cors is not None and not cors.origins and decoded.sound((*_CORS, "origins")):
        yield Problem("must not be empty", (*_CORS, "origins"), hint="leave cors out")
    if listener.paths == () and decoded.sound(("listener", "paths")):
        yield Problem("must not be empty: nothing would be served", ("listener", "paths"))
    if cors is not None and cors.credentials and "*" in cors.origins and decoded.sound(_CORS):
        reason = "cannot be set beside the origin *: every page could ask as whoever reads it"
        yield Problem(reason, (*_CORS, "credentials"), hint="name the origins", at_key=True)


def warnings(listener: ListenerConfig) -> Iterator[Problem]:
    """What is allowed and should be known. Paths as in `problems`."""
    cors = listener.cors
    if cors is not None and cors.credentials and "*" in cors.headers:
        reason = "with credentials browsers take * for a header of that name: name the headers"
        yield Problem(reason, (*_CORS, "headers"))
    if listener.paths is not None and "/*" in listener.paths:
        reason = "every path is served, /metrics and those by which engines are administered too"
        yield Problem(reason, ("listener", "paths"))
