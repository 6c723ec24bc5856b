"""Pods that are written down."""

import asyncio
from collections.abc import Iterable

from extproc.discovery.base import Publish
from extproc.discovery.contact import Contact
from scheduler.types import Pod


class StaticDiscovery:
    """The pods that it is given, for ever."""

    def __init__(self, pods: Iterable[Pod]) -> None:
        by_address: dict[str, Pod] = {}
        for pod in pods:
            by_address.setdefault(pod.address, pod)
        self._pods = tuple(by_address.values())
        self.first_sync = asyncio.Event()
        self._contact = Contact("static", lasting=True)

    @property
    def contacts(self) -> tuple[Contact, ...]:
        return (self._contact,) if self._pods else ()

    async def run(self, publish: Publish) -> None:
        self._contact.reached()
        publish(self._pods)
        self.first_sync.set()
        await asyncio.Event().wait()
