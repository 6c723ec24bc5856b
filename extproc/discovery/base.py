"""What a source of pods is."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from extproc.discovery.contact import Contact
from scheduler.types import Pod

#: Takes all pods of a source, each time they change.
Publish = Callable[[Sequence[Pod]], None]


class Discovery(Protocol):
    """A source of pods."""

    #: Set once the source had its first answer: what was published by then is all that it knows. A source that cannot
    #: be reached leaves it clear. In a rolling update, a gateway that is ready and knows no pod takes the place of one
    #: that knows them all. How long the pods of other sources wait for it is `UnionDiscovery`'s business.
    first_sync: asyncio.Event

    @property
    def contacts(self) -> Sequence[Contact]:
        """How what it asks is reached: one for each thing that is asked."""
        ...

    async def run(self, publish: Publish) -> None:
        """Publishes the pods when they are first known and whenever they change, until it is cancelled.

        A list has no two pods of one address, and is in an order that does not change by itself. A source that fails
        keeps to what it last published; nothing is raised for it. What is raised is a fault of ours, or of `publish`:
        then it may be run again.
        """
        ...
