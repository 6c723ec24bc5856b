"""Errors and doubts between the keys of `listener`."""

from collections.abc import Iterator

from extproc.config import units
from extproc.config.decode import Decoded
from extproc.config.problems import Path, Problem
from extproc.config.sections.listener import ListenerConfig

_CORS: Path = ("listener", "cors")


def problems(listener: ListenerConfig, decoded: Decoded) -> Iterator[Problem]:
    """Paths are those of the configuration, as in `checks`."""
    yield from _memory(listener, decoded)
    cors = listener.cors
    if cors is not None and not cors.origins and decoded.sound((*_CORS, "origins")):
        yield Problem("must not be empty", (*_CORS, "origins"), hint="leave cors out")
    if listener.paths == () and decoded.sound(("listener", "paths")):
        yield Problem("must not be empty: nothing would be served", ("listener", "paths"))
    if cors is not None and cors.credentials and "*" in cors.origins and decoded.sound(_CORS):
        reason = "cannot be set beside the origin *: every page could ask as whoever reads it"
        yield Problem(reason, (*_CORS, "credentials"), hint="name the origins", at_key=True)


def warnings(listener: ListenerConfig) -> Iterator[Problem]:
    """Warnings: allowed settings that the operator should know of. Paths as in `problems`."""
    cors = listener.cors
    if cors is not None and cors.credentials and "*" in cors.headers:
        reason = "with credentials browsers take * for a header of that name: name the headers"
        yield Problem(reason, (*_CORS, "headers"))
    if listener.paths is not None and "/*" in listener.paths:
        reason = "every path is served, /metrics and those by which engines are administered too"
        yield Problem(reason, ("listener", "paths"))


def _memory(listener: ListenerConfig, decoded: Decoded) -> Iterator[Problem]:
    """A tenant's share has to take the largest body, twice: else one upload would keep out its own next."""
    keys = ("listener", "maxBodyBytes"), ("listener", "maxUnsizedBodyBytes"), ("envoy", "maxHeap")
    if not decoded.sound(*keys):
        return
    envoy = decoded.config.envoy
    needed = -(-(2 * listener.max_body_bytes * 8) // 3)
    if envoy.heap < needed:
        size = units.format_size(-(-needed // (1 << 20)) << 20)
        if envoy.max_heap is None:
            reason = f"needs envoy.maxHeap: {size}, as room for two such bodies beside those of others"
            yield Problem(reason, ("listener", "maxBodyBytes"))
        else:
            reason = f"is too little for listener.maxBodyBytes: {units.format_size(listener.max_body_bytes)}"
            yield Problem(reason, ("envoy", "maxHeap"), hint=f"at least {size}")
    if listener.unsized_limit > listener.max_body_bytes:
        yield Problem("is more than listener.maxBodyBytes", ("listener", "maxUnsizedBodyBytes"))
