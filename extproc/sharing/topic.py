"""What a thing has to be to be known alike by several processes: a pool, Envoy's access log, the usage of tenants.

A topic gives its events to the carriers, and takes in those of others through one `Incoming` each. Events are tuples
of what msgpack knows, the kind first. Two carriers take them to others: `sockets` to processes of this gateway, which
are of this version, and lose nothing; `redis` to other gateways, whose clocks and versions are others, and whose events
may be lost, or come twice.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from scheduler.pool.shared import Event


class NotUnderstood(Exception):
    """An event of a form that is not known here: of another version, or of none. Nothing was done."""


class Incoming(Protocol):
    """Applies the events of one other process on a topic."""

    def apply(self, event: Sequence[Any], /) -> None:
        """Does here what was done there.

        Raises:
            Exception: it is no event that is known here; nothing was done.
        """
        ...

    def end(self) -> None:
        """The other is gone."""
        ...


class Topic(Protocol):
    """Something that all processes know."""

    def other(self) -> Incoming:
        """What takes in the events of one other process."""
        ...

    def in_flight(self) -> list[Event]:
        """Events for requests in flight: a process that comes needs them at once."""
        ...

    def notes(self) -> Iterator[Event]:
        """And piece by piece."""
        ...


class DistantIncoming(Incoming, Protocol):
    """… where it comes from another machine."""

    @property
    def in_flight(self) -> int:
        """What would be taken back by `end`."""
        ...

    def replace(self, events: Sequence[Sequence[Any]], /) -> None:
        """Makes `in_flight()` of the other, as it came, what is known of it.

        Raises:
            Exception: it is none; nothing was done.
        """
        ...

    def fade(self, keep: int, /) -> None:
        """Takes the oldest back until `keep` are left: nothing was heard for a while."""
        ...


class DistantTopic(Topic, Protocol):
    """A topic that other machines share, too."""

    @property
    def nearby(self) -> frozenset[str]:
        """Kinds of events that are not for them."""
        ...

    def other(self) -> DistantIncoming: ...

    def outward(self, event: Event, now: float, /) -> Sequence[Any]:
        """An event in the form sent to other machines: with ages in the place of times."""
        ...

    def inward(self, event: Sequence[Any], at: float, /) -> Sequence[Any]:
        """The reverse. `at`: when it was sent, by this machine's monotonic clock.

        Raises:
            Exception: it is no event.
        """
        ...

    def keyed(self, event: Sequence[Any], /) -> bool:
        """Whether the event means nothing to processes with another secret."""
        ...
