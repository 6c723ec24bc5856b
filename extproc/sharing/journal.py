"""Outgoing events for other machines, collected into numbered messages. Pure.

Bounded: where a carrier does not take messages for long, events are dropped, and the next message has all that is in
flight in their place.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from extproc.sharing.message import Origin, encode
from extproc.sharing.topic import DistantTopic
from scheduler.pool.shared import Event

#: Events that wait for a carrier that is away: some seconds of a busy gateway. Notes of plugins are up to 1 KiB each.
MAX_WAITING: Final = 20_000
#: Events of one message. A receiver takes some milliseconds for so many.
MAX_EVENTS: Final = 1_000
#: Processes that may queue for the plugins' notes, sent to one after the other; one more asks again.
MAX_LETTERS: Final = 16
#: Seconds between two messages of all that is in flight: each is as long as the requests are many.
WHOLE_INTERVAL: Final = 1.0


class Journal:
    """The messages of one run of a process.

    Args:
        origin: this process.
        epoch: of this run: larger than of any before.
        topics: what is shared, by name.
        seal: of the secret in force.
        on_event: called when there is something to send that was not there before.
    """

    def __init__(
        self,
        origin: Origin,
        epoch: int,
        topics: Mapping[str, DistantTopic],
        seal: Callable[[], bytes],
        on_event: Callable[[], None],
    ) -> None:
        self.origin = origin
        self.epoch = epoch
        #: Events that were dropped.
        self.dropped = 0
        self._topics = topics
        self._seal = seal
        self._on_event = on_event
        self._number = 0
        self._waiting: list[tuple[str, Event]] = []
        self._letters: deque[tuple[Origin, Iterator[tuple[str, Event]]]] = deque()
        #: Whether the next message has all that is in flight. The first has.
        self._whole = True
        self._whole_at = float("-inf")

    def add(self, topic: str, event: Event) -> None:
        """Something happened that others may have to know."""
        if event[0] in self._topics[topic].nearby:
            return
        waiting = self._waiting
        if not waiting:
            self._on_event()
        elif len(waiting) >= MAX_WAITING:
            self.dropped += len(waiting)
            waiting.clear()
            self._whole = True
        waiting.append((topic, event))

    @property
    def waiting(self) -> int:
        """Events that are not sent yet."""
        return len(self._waiting)

    @property
    def more(self) -> bool:
        """Whether there is another message to send at once."""
        return bool(self._waiting or self._letters)

    def tell_notes(self, to: Origin) -> None:
        """Queues the plugins' notes for one process: piece by piece, whenever nothing else waits."""
        if len(self._letters) < MAX_LETTERS and all(other != to for other, _ in self._letters):
            self._letters.append((to, self._notes()))
            self._on_event()

    def _notes(self) -> Iterator[tuple[str, Event]]:
        for name, topic in list(self._topics.items()):
            for event in topic.notes():
                yield name, event

    def tell_all(self) -> None:
        """Marks all requests in flight to be sent anew."""
        self._whole = True

    def take(self, now: float, *, wanted: tuple[Origin, ...] = (), cold: bool = False, last: bool = False) -> bytes:
        """The next message. Without events the message is a heartbeat.

        All requests in flight are sent at most every `WHOLE_INTERVAL`, however many processes asked for them.

        Args:
            now: monotonic seconds.
            wanted: processes that are to send all their requests in flight.
            cold: whether this process needs the notes of other processes' plugins.
            last: whether this process ends.
        """
        if self._whole and now - self._whole_at >= WHOLE_INTERVAL and not last:
            # Waiting events are sent after the snapshot: a receiver counts a request that comes twice once.
            events = {
                name: [topic.outward(event, now) for event in topic.in_flight()] for name, topic in self._topics.items()
            }
            self._whole, self._whole_at = False, now
            return self._encoded(events, whole=True, wanted=wanted, cold=cold)
        if self._letters and not self._waiting and not last:
            to, notes = self._letters[0]
            note = next(notes, None)
            if note is None:
                self._letters.popleft()
            return self._encoded({} if note is None else self._by_topic([note], now), wanted=wanted, cold=cold, to=to)
        some, self._waiting = self._waiting[:MAX_EVENTS], self._waiting[MAX_EVENTS:]
        return self._encoded(self._by_topic(some, now), wanted=wanted, cold=cold, last=last)

    def _by_topic(self, waiting: Sequence[tuple[str, Event]], now: float) -> dict[str, list[Sequence[Any]]]:
        events: dict[str, list[Sequence[Any]]] = {}
        for name, event in waiting:
            events.setdefault(name, []).append(self._topics[name].outward(event, now))
        return events

    def _encoded(self, events: Mapping[str, Sequence[Sequence[Any]]], **options: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        return encode(self.origin, self.epoch, number, self._seal(), dict(events), **options)  # type: ignore[arg-type]
