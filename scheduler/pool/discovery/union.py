"""Several sources as one."""

import asyncio
from collections.abc import Sequence
from functools import partial

from scheduler.pool.discovery.base import Discovery, Publish
from scheduler.types import Pod


class UnionDiscovery:
    """The pods of all sources. Of pods with one address, that of the source that comes first."""

    def __init__(self, sources: Sequence[Discovery]) -> None:
        self._sources = sources
        #: What each source published; None before it did.
        self._lists: list[Sequence[Pod] | None] = [None] * len(sources)
        self._published: list[Pod] | None = None
        self.first_sync = asyncio.Event()

    async def run(self, publish: Publish) -> None:
        async with asyncio.TaskGroup() as group:
            for place, source in enumerate(self._sources):
                group.create_task(source.run(partial(self._update, place, publish)))
            for source in self._sources:
                await source.first_sync.wait()
            self.first_sync.set()
            await asyncio.Event().wait()

    def _update(self, place: int, publish: Publish, pods: Sequence[Pod]) -> None:
        self._lists[place] = pods
        merged: dict[str, Pod] = {}
        for known in self._lists:
            for pod in known or ():
                merged.setdefault(pod.address, pod)
        union = list(merged.values())
        if union != self._published:
            self._published = union
            publish(union)
