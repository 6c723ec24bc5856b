"""The other gateways, as one process hears of them from a carrier that may lose messages, or bring them twice. Pure.

Of each process the next number is known. One that is missing is a gap: from then on its requests in flight are known in
part only, and it is asked for a whole message, which takes the place of what was known. A message that was heard before
is left out.

How long ago something was sent is reckoned by the carrier's own clock, and silence only while this process' own
messages come back: a carrier that stands still makes no process dead.
"""

from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import Final

from extproc.sharing.message import Message, Origin, decode_event
from extproc.sharing.topic import DistantIncoming, DistantTopic

#: Seconds of silence after which a process is gone, where it gives a sign of life each `BEAT`.
GONE_AFTER: Final = 2.5
BEAT: Final = 0.5
#: Seconds without its own messages after which a process hears the carrier no more.
DEAF_AFTER: Final = 1.5
#: Seconds over which what others had in flight is forgotten while nothing is heard: as long as most answers take.
FADE: Final = 30.0
#: Processes of other gateways that are listened to. What each of them picks costs time here.
MAX_MEMBERS: Final = 256


#: Seconds between two times that a process is asked for all it has in flight.
ASK_INTERVAL: Final = 1.0
#: Seconds between two times that others are asked for what plugins noted: it is much.
COLD_INTERVAL: Final = 15.0


class Hearing:
    """Whether the carrier carries: this process' own messages come back. All times are monotonic seconds."""

    __slots__ = ("echo_at", "heard_at", "since")

    def __init__(self) -> None:
        #: When the newest message that came back was sent, and when it came.
        self.echo_at = -inf
        self.heard_at = -inf
        #: When the first one was sent of those that came without a pause.
        self.since = inf

    def echo(self, at: float, now: float) -> bool:
        """A message that was sent at `at` is back. Returns whether nothing was heard before it."""
        paused = now - self.heard_at > DEAF_AFTER
        if paused:
            self.since = at
        self.heard_at = now
        self.echo_at = max(self.echo_at, at)
        return paused

    def deaf_for(self, now: float) -> float:
        """Seconds for which nothing has been heard that should have been; 0 while all is well."""
        return max(now - self.heard_at - DEAF_AFTER, 0.0)


class _Member:
    """One process of another gateway."""

    __slots__ = ("asked_at", "at", "cold_at", "epoch", "exact", "faded_from", "incoming", "next", "seal")

    def __init__(self, incoming: Mapping[str, DistantIncoming], epoch: int, number: int) -> None:
        self.incoming = incoming
        self.epoch = epoch
        #: Number of the message that comes next.
        self.next = number
        #: Whether its requests in flight are known to the last; and when it was asked for them.
        self.exact = False
        self.asked_at = -inf
        #: When it last asked what others noted.
        self.cold_at = -inf
        #: When the newest message was sent.
        self.at = -inf
        self.seal = b""
        #: What it had in flight when the carrier went silent, by topic; empty while it does not.
        self.faded_from: dict[str, int] = {}

    @property
    def in_flight(self) -> int:
        return sum(one.in_flight for one in self.incoming.values())

    def fade(self, left: float) -> None:
        """Forgets what it had in flight but for a share of `left` (0-1)."""
        if not self.faded_from:
            self.faded_from = {name: one.in_flight for name, one in self.incoming.items()}
        for name, count in self.faded_from.items():
            self.incoming[name].fade(int(count * left))

    def end(self) -> None:
        for one in self.incoming.values():
            one.end()


class Group:
    """The processes of all other gateways. All times are monotonic seconds of this machine.

    Args:
        me: this process.
        epoch: of this run of it.
        topics: what is shared, by name.
        on_asked: called when this process must send all its requests in flight.
        on_cold: called with a process to which this one must send the plugins' notes.
    """

    def __init__(
        self,
        me: Origin,
        epoch: int,
        topics: Mapping[str, DistantTopic],
        on_asked: Callable[[], None],
        on_cold: Callable[[Origin], None],
    ) -> None:
        self._me = me
        self._epoch = epoch
        self._topics = topics
        self._on_asked = on_asked
        self._on_cold = on_cold
        #: Whether others know of notes that are not known here; and when they were asked for them.
        self._cold = True
        self._cold_at = -inf
        self._members: dict[Origin, _Member] = {}
        self._faded = False
        self.hearing = Hearing()
        #: Of the secret in force: notes of others with another are left out.
        self.seal = b""
        #: Messages that came twice, or too late.
        self.duplicates = 0
        #: Messages that never came: gaps in the message numbers.
        self.lost = 0
        #: Events and messages that are not understood.
        self.unknown = 0
        #: Notes under another secret.
        self.foreign = 0

    @property
    def members(self) -> int:
        """Other gateways' processes that are there."""
        return len(self._members)

    @property
    def strangers(self) -> int:
        """Those of them that have another secret."""
        return sum(member.seal != self.seal for member in self._members.values())

    @property
    def in_flight(self) -> int:
        """Requests that the others have in flight."""
        return sum(member.in_flight for member in self._members.values())

    @property
    def exact(self) -> bool:
        """Whether all that others have in flight is known."""
        return all(member.exact for member in self._members.values())

    def incoming(self, topic: str) -> Iterator[DistantIncoming]:
        """What takes in a topic's events, of each process."""
        for member in self._members.values():
            yield member.incoming[topic]

    @property
    def warm(self) -> bool:
        """Whether what others noted is known here, as far as there are others."""
        return not (self._cold and self._members)

    def cold(self, now: float) -> bool:
        """Whether to ask now for what others noted."""
        if self.warm or now - self._cold_at < COLD_INTERVAL:
            return False
        self._cold_at = now
        return True

    def wants(self, now: float) -> bool:
        """Whether `wanted` is somebody, or `cold`."""
        if not self.warm and now - self._cold_at >= COLD_INTERVAL:
            return True
        return any(not one.exact and now - one.asked_at >= ASK_INTERVAL for one in self._members.values())

    def wanted(self, now: float) -> tuple[Origin, ...]:
        """Whom to ask now for all that is in flight."""
        found = []
        for origin, member in self._members.items():
            if not member.exact and now - member.asked_at >= ASK_INTERVAL:
                member.asked_at = now
                found.append(origin)
        return tuple(found)

    def hear(self, message: Message, at: float, now: float) -> None:
        """Takes in a message that was sent at `at` and is heard at `now`."""
        origin = message.origin
        if origin == self._me:
            # Processes that heard nothing of this one removed its requests: they need its requests again.
            if message.epoch == self._epoch and self.hearing.echo(at, now):
                self._on_asked()
            return
        if self._me in message.wanted:
            self._on_asked()
        if origin[0] == self._me[0]:
            return  # a process of this gateway, from which this one hears by a shorter way
        member = self._members.get(origin)
        if member is None:
            if len(self._members) >= MAX_MEMBERS:
                self.unknown += 1
                return
            incoming = {name: topic.other() for name, topic in self._topics.items()}
            member = self._members[origin] = _Member(incoming, message.epoch, message.number)
        if (message.epoch, message.number) < (member.epoch, member.next):
            self.duplicates += 1
            return
        if message.epoch > member.epoch:
            # Another run: what the one before had in flight ended with it.
            member.end()
            member.epoch, member.next, member.exact = message.epoch, 0, False
        if message.number > member.next:
            self.lost += message.number - member.next
            member.exact = False
            # What was noted in it is known by name only from now on.
            self._cold = True
        member.next = message.number + 1
        member.at = max(member.at, at)
        member.seal = message.seal
        if message.cold:
            member.cold_at = now
            if self._tells(origin, now):
                self._on_cold(origin)
        if message.to is not None:
            if message.to == self._me:
                self._cold = self._cold and bool(message.events)
                self._apply(member, message, at)
        elif message.whole:
            self._replace(member, message, at)
        else:
            self._apply(member, message, at)
        if message.last:
            member.end()
            del self._members[origin]

    def caught_up(self, now: float) -> None:
        """All that was sent before this process came has been heard: processes silent at its end are gone."""
        for origin, member in list(self._members.items()):
            if now - member.at > GONE_AFTER:
                self._gone(origin)
        if not self._members:
            self._cold = False

    def tick(self, now: float) -> None:
        """Sees to what only time changes. To be called a few times a second."""
        hearing = self.hearing
        if hearing.heard_at == -inf:
            return
        deaf_for = hearing.deaf_for(now)
        if deaf_for:
            self._faded = True
            for member in self._members.values():
                member.fade(max(1.0 - deaf_for / FADE, 0.0))
            return
        if self._faded:
            self._faded = False
            for member in self._members.values():
                member.faded_from = {}
                member.exact = False
        for origin, member in list(self._members.items()):
            if hearing.echo_at - max(member.at, hearing.since) > GONE_AFTER:
                self._gone(origin)

    def _tells(self, to: Origin, now: float) -> bool:
        """Whether this process sends the plugins' notes to `to`: one process does, by a rule that all apply alike.

        The sender is the least process of those that did not ask for notes within `COLD_INTERVAL`, or else of all.
        """
        asked = {origin: member.cold_at for origin, member in self._members.items() if origin != to}
        asked[self._me] = self._cold_at
        return self._me == min([one for one, at in asked.items() if now - at >= COLD_INTERVAL] or asked)

    def _gone(self, origin: Origin) -> None:
        self._members.pop(origin).end()

    def _replace(self, member: _Member, message: Message, at: float) -> None:
        for name, incoming in member.incoming.items():
            raws = message.events.get(name, ())
            try:
                incoming.replace([self._topics[name].inward(decode_event(raw), at) for raw in raws])
            except Exception:  # noqa: BLE001 - whatever another version, or an enemy, has sent
                self.unknown += 1
        # Of what was not understood more is not to be had.
        member.exact = True

    def _apply(self, member: _Member, message: Message, at: float) -> None:
        understood = message.seal == self.seal
        for name, raws in message.events.items():
            topic, incoming = self._topics.get(name), member.incoming.get(name)
            if topic is None or incoming is None:
                # A pool that only the other has.
                self.unknown += len(raws)
                continue
            for raw in raws:
                try:
                    event = topic.inward(decode_event(raw), at)
                    if not understood and topic.keyed(event):
                        self.foreign += 1
                    else:
                        incoming.apply(event)
                except Exception:  # noqa: BLE001 - as above
                    self.unknown += 1
