"""What a source of pods is."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from scheduler.types import Pod

#: Takes all pods of a source, each time they change.
Publish = Callable[[Sequence[Pod]], None]


class Discovery(Protocol):
    """A source of pods. Used once: one `run`."""

    #: Set once the source was asked for the first time: what was published by then is all that it knows. A source
    #: that cannot be reached sets it too, so that it never keeps the gateway from starting with the pods of others.
    first_sync: asyncio.Event

    async def run(self, publish: Publish) -> None:
        """Publishes the pods when they are first known and whenever they change, until it is cancelled.

        A list has no two pods of one address, and is in an order that does not change by itself. A source that fails
        keeps to what it last published; nothing is raised for it.
        """
        ...
