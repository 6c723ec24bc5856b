"""Pods that are written down."""

import asyncio
from collections.abc import Iterable

from scheduler.pool.discovery.base import Publish
from scheduler.types import Pod


class StaticDiscovery:
    """The pods that it is given, for ever."""

    def __init__(self, pods: Iterable[Pod]) -> None:
        self._pods = tuple({pod.address: pod for pod in reversed(list(pods))}.values())[::-1]
        self.first_sync = asyncio.Event()

    async def run(self, publish: Publish) -> None:
        publish(self._pods)
        self.first_sync.set()
        await asyncio.Event().wait()
