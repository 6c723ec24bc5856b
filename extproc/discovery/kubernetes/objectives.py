"""InferenceObjectives of a Kubernetes API server, watched: names and priorities."""

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from urllib.parse import quote

import msgspec

from extproc.discovery.kubernetes.api import ApiServer
from extproc.discovery.kubernetes.credentials import Credentials
from extproc.discovery.kubernetes.objects import Metadata
from extproc.discovery.kubernetes.reflector import Reflector, Resource

#: Where the kind is, its newer place first. What both have counts from the first.
GROUPS = ("llm-d.ai", "inference.networking.x-k8s.io")
VERSION = "v1alpha2"


class PoolRef(msgspec.Struct, frozen=True):
    name: str = ""


class ObjectiveSpec(msgspec.Struct, frozen=True, rename="camel"):
    priority: int | None = None
    pool_ref: PoolRef = PoolRef()


class InferenceObjective(msgspec.Struct, frozen=True):
    """v1alpha2 InferenceObjective."""

    metadata: Metadata
    spec: ObjectiveSpec = ObjectiveSpec()


def priorities(objects: Iterable[InferenceObjective], pool: str) -> dict[str, int]:
    """Priorities by name, of the objectives for that pool; `pool` empty: of all."""
    return {
        one.metadata.name: one.spec.priority or 0
        for one in objects
        if not pool or not one.spec.pool_ref.name or one.spec.pool_ref.name == pool
    }


class ObjectiveWatch:
    """Follows the objectives of a pool.

    Args:
        credentials: of the API server.
        namespace: empty: that of the credentials.
        pool: the InferencePool's name; empty: objectives of all pools.
        rng: spreads watches and tries in time.
    """

    def __init__(self, credentials: Credentials, namespace: str, pool: str, *, rng: random.Random) -> None:
        self._credentials = credentials
        self._namespace = namespace or credentials.cluster.namespace
        self._pool = pool
        self._rng = rng

    async def run(self, publish: Callable[[Sequence[tuple[str, int]]], None]) -> None:
        """Publishes all of them when they are first known and whenever they change, until it is cancelled."""
        by_group: dict[str, dict[str, int]] = {}
        reflectors: dict[str, Reflector[InferenceObjective]] = {}

        def changed(group: str) -> None:
            by_group[group] = priorities(reflectors[group].store.objects, self._pool)
            publish([item for one in reversed(GROUPS) for item in by_group.get(one, {}).items()])

        async with ApiServer(self._credentials) as api, asyncio.TaskGroup() as tasks:
            for group in GROUPS:
                namespace = quote(self._namespace, safe="")
                resource = Resource(
                    name=f"InferenceObjectives of {group} in {self._namespace}",
                    missing="this group has no such kind in this cluster",
                    path=f"/apis/{group}/{VERSION}/namespaces/{namespace}/inferenceobjectives",
                )
                reflectors[group] = Reflector(api, resource, InferenceObjective, partial(changed, group), rng=self._rng)
            for one in reflectors.values():
                tasks.create_task(one.run())
