"""Several sources as one."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from extproc.discovery.base import Discovery, Publish
from extproc.discovery.contact import Contact, Reason
from extproc.process.background import Background
from scheduler.types import Pod

log = logging.getLogger(__name__)

#: Seconds that the pods of some sources wait for the first answer of the others. An API server that is restarted, or a
#: resolver that starts with us, is there by then.
PATIENCE = 10.0


class UnionDiscovery:
    """The pods of all sources. Of pods with one address, that of the source that comes first.

    Nothing is published before `first_sync`, which is set when it is for all sources, or when `patience` is over and a
    pod is known. So one source that cannot be reached does not keep the others' pods from being used; no pods at all
    are no reason to be ready; and what an earlier process wrote down is not replaced by half a list.

    Args:
        sources: in order of precedence.
        patience: seconds.
        sleep: waits for that long.
        background: starts a source again that died; the others do not notice.
    """

    def __init__(
        self,
        sources: Sequence[Discovery],
        patience: float = PATIENCE,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        background: Background | None = None,
    ) -> None:
        self._sources = sources
        self._background = background or Background()
        self._patience = patience
        self._sleep = sleep
        #: What each source published; None before it did.
        self._lists: list[Sequence[Pod] | None] = [None] * len(sources)
        self._published: list[Pod] | None = None
        self._any_pod = asyncio.Event()
        self.first_sync = asyncio.Event()

    @property
    def contacts(self) -> list[Contact]:
        return [contact for source in self._sources for contact in source.contacts]

    async def run(self, publish: Publish) -> None:
        async with asyncio.TaskGroup() as group:
            for place, source in enumerate(self._sources):
                group.create_task(self._keep(source, partial(self._update, place, publish)))
            some = group.create_task(self._wait_for_some(publish))
            for source in self._sources:
                await source.first_sync.wait()
            some.cancel()
            self._sync(publish)
            await asyncio.Event().wait()

    async def _keep(self, source: Discovery, publish: Publish) -> None:
        async def run() -> None:
            try:
                await source.run(publish)
            except Exception as error:
                for contact in source.contacts:
                    contact.failed(Reason.FAULT, f"{type(error).__name__}: {error}")
                raise

        of = ", ".join(contact.source for contact in source.contacts) or type(source).__name__
        await self._background.keep("discovery", run, of=of, needed=True)

    async def _wait_for_some(self, publish: Publish) -> None:
        await self._sleep(self._patience)
        await self._any_pod.wait()
        away = sum(not source.first_sync.is_set() for source in self._sources)
        errors = "; ".join(f"{contact.source}: {contact.error}" for contact in self.contacts if contact.error)
        log.warning(
            "%d of %d sources of pods did not answer yet; starting without", away, len(self._sources),
            extra={"detail": errors},
        )  # fmt: skip
        self._sync(publish)

    def _sync(self, publish: Publish) -> None:
        if any(known is not None for known in self._lists):
            self._merge(publish)
        self.first_sync.set()

    def _update(self, place: int, publish: Publish, pods: Sequence[Pod]) -> None:
        self._lists[place] = pods
        if pods:
            self._any_pod.set()
        if self.first_sync.is_set():
            self._merge(publish)

    def _merge(self, publish: Publish) -> None:
        merged: dict[str, Pod] = {}
        for known in self._lists:
            for pod in known or ():
                merged.setdefault(pod.address, pod)
        union = list(merged.values())
        if union != self._published:
            self._published = union
            publish(union)
