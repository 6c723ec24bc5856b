"""What a discovery published, and how to run one in a test."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from support.eventually import PATIENCE

from extproc.discovery.base import Discovery
from scheduler.types import Pod


class Published:
    """Takes what is published, and waits for it."""

    def __init__(self) -> None:
        self.lists: list[list[Pod]] = []
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, pods: Sequence[Pod]) -> None:
        self.lists.append(list(pods))
        task = asyncio.ensure_future(self._tell())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    @property
    def now(self) -> list[Pod]:
        return self.lists[-1]

    @property
    def addresses(self) -> list[str]:
        return [pod.address for pod in self.lists[-1]] if self.lists else ["nothing yet"]

    async def until(self, *addresses: str) -> None:
        """Waits until these are the pods."""
        await self.until_it(lambda: self.addresses == list(addresses))

    async def until_it(self, condition: Callable[[], bool]) -> None:
        async with self._changed, asyncio.timeout(PATIENCE):
            await self._changed.wait_for(condition)


class Naps:
    """Sleep that takes no time, and notes how long it was to be. `held` makes it wait."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)
        await self.go.wait()


@asynccontextmanager
async def running(source: Discovery) -> AsyncIterator[Published]:
    published = Published()
    task = asyncio.create_task(source.run(published))
    try:
        yield published
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
