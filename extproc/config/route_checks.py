"""Errors and doubts between pools and routes that are each valid."""

from collections.abc import Iterator

from extproc.config.decode import Decoded
from extproc.config.model import GatewayConfig
from extproc.config.problems import Path, Problem, nearest
from extproc.config.sections.routing import DEFAULT_POOL, RouteConfig
from extproc.config.units import shorten


def problems(decoded: Decoded) -> Iterator[Problem]:
    """Paths are those of the configuration, not yet of the document."""
    config = decoded.config
    if DEFAULT_POOL in config.pools:
        reason = "is the name of the pool of `endpoints`: choose another, or move it there"
        yield Problem(reason, ("pools", DEFAULT_POOL), at_key=True)
    names: dict[str, str] = {}
    pools = tuple(dict.fromkeys((DEFAULT_POOL, *config.pools)))
    for index, route in enumerate(config.routes):
        path: Path = ("routes", index)
        yield from _names(route, path, names)
        if not _named(route) and index < len(config.routes) - 1 and decoded.sound(path):
            reason = "has no model, models or adapters, so it is for every model and must be the last route"
            yield Problem(reason, path)
        if decoded.sound(("pools",)):
            yield from _unknown_pools(route, path, pools)
        if decoded.sound((*path, "targets")) and not any(target.weight for target in route.targets):
            reason = "have no weight above 0: none would get a request" if route.targets else "must not be empty"
            yield Problem(reason, (*path, "targets"))


def _named(route: RouteConfig) -> bool:
    return bool(route.all_models() or route.adapters)


def _names(route: RouteConfig, path: Path, seen: dict[str, str]) -> Iterator[Problem]:
    if route.model is not None and route.models:
        yield Problem("cannot be set beside model: write all names here, or one there", (*path, "models"), at_key=True)
    where: list[tuple[Path, str]] = [] if route.model is None else [((*path, "model"), route.model)]
    where += [((*path, "models", place), name) for place, name in enumerate(route.models)]
    where += [((*path, "adapters", place), name) for place, name in enumerate(route.adapters)]
    owner = f"routes[{path[1]}]"
    for place, name in where:
        if name in seen:
            yield Problem(f'"{shorten(name)}" is named in {seen[name]} already', place)
        seen.setdefault(name, owner)


def _unknown_pools(route: RouteConfig, path: Path, pools: tuple[str, ...]) -> Iterator[Problem]:
    for place, target in enumerate(route.targets):
        if target.pool not in pools:
            reason = f'there is no pool "{shorten(target.pool)}": {", ".join(pools)}'
            yield Problem(reason, (*path, "targets", place, "pool"), hint=nearest(target.pool, pools))


def warnings(config: GatewayConfig) -> Iterator[Problem]:
    """Warnings: allowed settings that the operator should know of. Paths as in `problems`."""
    asked = {target.pool for route in config.routes for target in route.targets}
    for index, route in enumerate(config.routes):
        if route.rewrite_answers and not any(target.model for target in route.targets):
            reason = "no target has another name for the model: there is nothing to rewrite"
            yield Problem(reason, ("routes", index, "rewriteAnswers"))
    for name in config.pools:
        if name not in asked:
            yield Problem("no route leads to this pool: it gets no requests", ("pools", name), at_key=True)
