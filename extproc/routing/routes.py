"""Which pool a request goes to, and under which name of a model: by the name that its client gave."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from random import Random


class Target(msgspec.Struct, frozen=True):
    """A pool, and its share of a route's requests."""

    pool: str
    #: Over the sum of the route's weights. 0: gets no request, not even where every other pool is empty.
    weight: float = 100.0
    #: The name under which the pool's pods know the model. Empty: the client's own.
    model: str = ""


class Route(msgspec.Struct, frozen=True):
    """Where requests for some models go."""

    #: For people.
    name: str
    #: Not empty.
    targets: tuple[Target, ...]
    #: Whether answers name the model as the client did.
    rewrite_answers: bool = False


class Rule(msgspec.Struct, frozen=True):
    """A route, and the names that lead to it. Without any, it is for all names that lead nowhere else."""

    route: Route
    models: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()


class Routes:
    """The routes by name. A name of a model beats the same name of an adapter; of equal names the first counts.

    Adapters keep their names: another name of the model that they belong to would be that model without them.

    Args:
        rules: in their order.
        unnamed: where requests go that name no model.
    """

    __slots__ = ("_adapters", "_models", "others", "pools", "unnamed")

    def __init__(self, rules: Sequence[Rule], unnamed: Route) -> None:
        self.unnamed = unnamed
        #: Names of all pools that requests may go to.
        self.pools = {target.pool for route in (unnamed, *(rule.route for rule in rules)) for target in route.targets}
        self._models: Mapping[str, Route] = _by_name([(rule.models, rule.route) for rule in rules])
        self._adapters: Mapping[str, Route] = _by_name([(rule.adapters, _as_named(rule.route)) for rule in rules])
        #: The route for all names that no other is for.
        self.others = next((rule.route for rule in rules if not rule.models and not rule.adapters), None)

    def names(self) -> list[str]:
        """Of models and adapters, in the order of the routes."""
        return [*self._models, *self._adapters]

    def find(self, model: str) -> Route | None:
        """The route of requests for `model`; None: there is no such model."""
        if not model:
            return self.unnamed
        return self._models.get(model) or self._adapters.get(model) or self.others


def _as_named(route: Route) -> Route:
    """The route without other names for the model."""
    return Route(route.name, tuple([Target(target.pool, target.weight) for target in route.targets]))


def _by_name(names: Sequence[tuple[Sequence[str], Route]]) -> dict[str, Route]:
    found: dict[str, Route] = {}
    for some, route in names:
        for name in some:
            found.setdefault(name, route)
    return found


def in_order(route: Route, rng: "Random") -> Sequence[Target]:
    """The targets in the order in which to try them: each place is drawn, by weight, from those that are left."""
    targets = route.targets
    if len(targets) == 1:
        return targets
    left = [target for target in targets if target.weight > 0]
    order = []
    while len(left) > 1:
        mark = rng.random() * sum([target.weight for target in left])
        place = 0
        while mark >= left[place].weight and place < len(left) - 1:
            mark -= left[place].weight
            place += 1
        order.append(left.pop(place))
    return [*order, *left]
