# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""From a request to a pool and a pod: the route by the model's name, then the pool's scheduler."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from extproc.errors import missing_model, model_not_found, no_ready_pod, saturated
from extproc.routing.pool import Pool
from extproc.routing.routes import Routes, in_order
from scheduler.config import BOUNDS, MAX_PODS, Bounds
from scheduler.cycle import schedule
from scheduler.disaggregation import Disaggregation
from scheduler.errors import NoReadyPod, Saturated
from scheduler.overload import overloaded
from scheduler.types import Decision, Request

if TYPE_CHECKING:
    from random import Random


class Router:
    """Chooses. One thread only.

    Args:
        pools: by name; the first gets every request where there are no routes.
        routes: None: every request goes to the first pool.
        disaggregation: None: one pod computes the prompt and the answer.
        most_pods: in a decision: the best, and those that the data plane may try after it.
        bounds: of pods; while all are over them, requests of a priority below 0 are refused.
        rng: draws between a route's targets, and between equal pods.
    """

    __slots__ = ("_bounds", "_disaggregation", "_first", "_most_pods", "_rng", "pools", "routes")

    def __init__(
        self,
        pools: Mapping[str, Pool],
        routes: Routes | None = None,
        *,
        disaggregation: Disaggregation | None = None,
        most_pods: int = MAX_PODS,
        bounds: Bounds = BOUNDS,
        rng: "Random",
    ) -> None:
        self.pools = pools
        #: A reload replaces them.
        self.routes = routes
        self._first = next(iter(pools.values()))
        self._disaggregation = disaggregation
        self._most_pods = most_pods
        self._bounds = bounds
        self._rng = rng

    def choose(
        self, request: Request, now: float, *, needs_model: bool = False, record: bool = True
    ) -> tuple[Pool, Request, Decision]:
        """The pool, the request under the name by which that pool knows its model, and its pods, best first.

        Args:
            request: under the client's name of the model.
            now: monotonic seconds.
            needs_model: whether a request that names no model is one that should, and gets the model of the last route.
            record: whether plugins remember the pick.

        Raises:
            Refusal: 400 without a model, 404 without a route, 503 without a ready pod, 429 where all are saturated.
        """
        routes = self.routes
        try:
            if routes is None:
                return self._first, request, self._scheduled(self._first, request, now, record)
            route = routes.others if needs_model and not request.model else routes.find(request.model)
            if route is None:
                if not request.model:
                    raise missing_model()
                raise model_not_found(request.model)
            nobody: NoReadyPod | None = None
            for target in in_order(route, self._rng):
                pool = self.pools[target.pool]
                other = target.model and target.model != request.model
                renamed = msgspec.structs.replace(request, model=target.model) if other else request
                try:
                    return pool, renamed, self._scheduled(pool, renamed, now, record)
                except NoReadyPod as error:
                    nobody = error
            raise no_ready_pod(str(nobody)) from nobody
        except NoReadyPod as error:
            raise no_ready_pod(str(error)) from error
        except Saturated as error:
            raise saturated(str(error)) from error

    def _scheduled(self, pool: Pool, request: Request, now: float, record: bool) -> Decision:
        decide = schedule if self._disaggregation is None else self._disaggregation.schedule
        snapshot, rng, most = pool.store.snapshot(now), self._rng, self._most_pods
        if request.priority < 0 and overloaded(snapshot, self._bounds):
            raise Saturated(f"priority {request.priority}")
        return decide(pool.profile, request, snapshot, now=now, rng=rng, record=record, most=most)
