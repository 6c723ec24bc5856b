# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""A pod store that several processes keep alike: each sends its changes to the others, and applies theirs.

Events are small and in the order in which they happened. No process waits for another: for the moment that a message
takes, a process does not know the picks of another one. Events may be lost or come twice: a request that is taken
again under its number counts once, and one that is given back without having been taken does not count.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Any, Final

import msgspec

from scheduler.pool.signals import Sample
from scheduler.pool.store import PodStore, Ticket
from scheduler.types import Pod

#: Events, by their first element. A request is named by a number that is its process' own, and is used again later.
TAKEN: Final = "+"  # number, address, uncached tokens, monotonic seconds, whether the first token is still to come
BEGUN: Final = "b"  # number, monotonic seconds
GIVEN_BACK: Final = "-"  # number, whether it was served, monotonic seconds
SCRAPED: Final = "s"  # address, Sample, monotonic seconds
NOT_SCRAPED: Final = "S"  # address, monotonic seconds, why
OUTCOME: Final = "o"  # address, TTFT or None, uncached tokens, TPOT or None, monotonic seconds, tokens ahead
FAILED: Final = "f"  # address, monotonic seconds
SUCCEEDED: Final = "g"  # address
REFUSED: Final = "r"  # address, seconds, monotonic seconds
MISSING: Final = "M"  # address, model, monotonic seconds
MOVED: Final = "m"  # address of the pod that was picked, of the one that served

#: Events that only processes of one machine send each other: each gateway scrapes for itself.
NEARBY: Final = frozenset({SCRAPED, NOT_SCRAPED})
#: Where an event has its time. On the way to another machine, whose clock is another, it is an age there.
_TIMES: Final[Mapping[str, int]] = {
    TAKEN: 4, BEGUN: 2, GIVEN_BACK: 3, SCRAPED: 3, NOT_SCRAPED: 2, OUTCOME: 5, FAILED: 2, REFUSED: 3,
    MISSING: 3,
}  # fmt: skip
#: Tokens of a request that are believed: more than any context is long.
MAX_TOKENS: Final = 1 << 31

Event = tuple[Any, ...]
Tell = Callable[[Event], None]


def turned(event: Sequence[Any], now: float) -> Sequence[Any]:
    """An event with its age in the place of its time, and one with an age with its time: `now` less what it has there.

    Raises:
        IndexError, TypeError: it is no event.
    """
    place = _TIMES.get(event[0])
    if place is None:
        return event
    return (*event[:place], max(now - event[place], 0.0), *event[place + 1 :])


class SharedStore(PodStore):
    """Calls `tell` with each change that others have to make as well. Monotonic clocks are one on one machine."""

    def __init__(
        self, stale_after: float, on_left: Callable[[Pod], None], tell: Tell, *, follows: bool = False
    ) -> None:
        super().__init__(stale_after, on_left, follows=follows)
        self._tell = tell
        #: This process' own requests in flight.
        self._own: dict[int, Ticket] = {}

    def own(self) -> Iterator[Event]:
        """The first state to send to another process: this one's requests in flight."""
        for number, ticket in self._own.items():
            yield TAKEN, number, ticket.pod.address, ticket.tokens, ticket.sent_at, ticket.waits

    # What this process does

    def _take(self, ticket: Ticket, entry: Any) -> None:
        super()._take(ticket, entry)
        number = id(ticket)
        self._own[number] = ticket
        self._tell((TAKEN, number, ticket.pod.address, ticket.tokens, ticket.sent_at, ticket.waits))

    def _begin(self, ticket: Ticket, entry: Any, now: float) -> None:
        super()._begin(ticket, entry, now)
        self._tell((BEGUN, id(ticket), now))

    def _give_back(self, ticket: Ticket, entry: Any, now: float, *, served: bool) -> None:
        super()._give_back(ticket, entry, now, served=served)
        number = id(ticket)
        del self._own[number]
        self._tell((GIVEN_BACK, number, served, now))

    def moved(self, picked: str, served: str) -> None:
        super().moved(picked, served)
        self._tell((MOVED, picked, served))

    def observe(self, address: str, sample: Sample, now: float, in_flight: int | None = None) -> None:
        super().observe(address, sample, now, in_flight)
        self._tell((SCRAPED, address, sample, now))

    def observe_failure(self, address: str, now: float, error: str = "") -> None:
        super().observe_failure(address, now, error)
        self._tell((NOT_SCRAPED, address, now, error))

    def observe_outcome(
        self,
        address: str,
        *,
        ttft: float | None,
        uncached_tokens: int,
        tpot: float | None,
        now: float,
        ahead: float = 0.0,
    ) -> None:
        super().observe_outcome(address, ttft=ttft, uncached_tokens=uncached_tokens, tpot=tpot, now=now, ahead=ahead)
        if ttft is not None or tpot is not None:
            self._tell((OUTCOME, address, ttft, uncached_tokens, tpot, now, ahead))

    def observe_failure_of_request(self, address: str, now: float) -> bool:
        self._tell((FAILED, address, now))
        return super().observe_failure_of_request(address, now)

    def observe_success_of_request(self, address: str) -> None:
        entry = self._entries.get(address)
        if entry is not None and entry in self._troubled:
            self._tell((SUCCEEDED, address))
        super().observe_success_of_request(address)

    def observe_refusal(self, address: str, seconds: float, now: float) -> None:
        super().observe_refusal(address, seconds, now)
        self._tell((REFUSED, address, seconds, now))

    def observe_missing(self, address: str, model: str, now: float) -> None:
        super().observe_missing(address, model, now)
        self._tell((MISSING, address, model, now))

    # What another process did

    def refused_elsewhere(self, address: str, seconds: float, now: float) -> None:
        super().observe_refusal(address, seconds, now)

    def missing_elsewhere(self, address: str, model: str, now: float) -> None:
        super().observe_missing(address, model, now)

    def taken_elsewhere(self, address: str, tokens: int, now: float, waits: bool = True) -> Ticket:
        """Counts a request of another process, also at a pod that is not known here: not yet, or no more.

        It was sent at `now`; `waits`: its first token is still to come.
        """
        entry = self._entry_of(Pod(address))
        ticket = Ticket(self, entry.pod, tokens)
        if waits:
            entry.backlog.add(ticket, float(tokens), entry.pace.beside(self._pace), now)
        super()._take(ticket, entry)
        self._look_again(entry)
        return ticket

    def begun_elsewhere(self, ticket: Ticket, now: float) -> None:
        """Its first token came."""
        if ticket.entry is not None:
            super()._begin(ticket, ticket.entry, now)

    def given_back_elsewhere(self, ticket: Ticket, *, served: bool, now: float) -> None:
        """Counts it no more."""
        entry = ticket.entry
        assert entry is not None  # noqa: S101 - it was taken, and is given back once
        super()._give_back(ticket, entry, now, served=served)
        self._look_again(entry)

    def _look_again(self, entry: Any) -> None:
        # Whether a pod in trouble rests depends on whether a request is under way there. Few are: these cost a new
        # snapshot each.
        if entry in self._troubled:
            self._deadline = -inf

    def scraped_elsewhere(self, address: str, sample: Sample, now: float) -> None:
        super().observe(address, sample, now)

    def not_scraped_elsewhere(self, address: str, now: float, error: str) -> None:
        super().observe_failure(address, now, error)

    def outcome_elsewhere(
        self,
        address: str,
        ttft: float | None,
        uncached_tokens: int,
        tpot: float | None,
        now: float,
        ahead: float = 0.0,
    ) -> None:
        super().observe_outcome(address, ttft=ttft, uncached_tokens=uncached_tokens, tpot=tpot, now=now, ahead=ahead)

    def moved_elsewhere(self, picked: str, served: str) -> None:
        super().moved(picked, served)

    def failed_elsewhere(self, address: str, now: float) -> None:
        super().observe_failure_of_request(address, now)

    def succeeded_elsewhere(self, address: str) -> None:
        super().observe_success_of_request(address)


class Other:
    """Applies the changes of one other process here. Call `end` when that process is gone."""

    def __init__(self, store: SharedStore) -> None:
        self._store = store
        self._tickets: dict[int, Ticket] = {}
        self._do: dict[str, Callable[..., object]] = {
            TAKEN: self._taken,
            BEGUN: self._begun,
            GIVEN_BACK: self._given_back,
            SCRAPED: self._scraped,
            NOT_SCRAPED: store.not_scraped_elsewhere,
            OUTCOME: self._outcome,
            FAILED: self._failed,
            SUCCEEDED: store.succeeded_elsewhere,
            MOVED: store.moved_elsewhere,
            REFUSED: self._refused,
            MISSING: self._missing,
        }

    @property
    def in_flight(self) -> int:
        """Requests of the other that are in flight."""
        return len(self._tickets)

    def requests(self) -> Iterator[tuple[str, int]]:
        """Address of the pod and uncached tokens of each of them."""
        for ticket in self._tickets.values():
            yield ticket.pod.address, ticket.tokens

    def apply(self, event: Sequence[Any]) -> None:
        """Applies a change of the other process.

        Raises:
            KeyError, TypeError, ValueError, msgspec.ValidationError: the argument is no event; nothing was done.
        """
        self._do[event[0]](*event[1:])

    def replace(self, events: Iterable[Sequence[Any]]) -> None:
        """Makes these the requests that the other has in flight: known ones stay unchanged.

        Raises:
            KeyError, TypeError, ValueError: one of them is no request that was taken; nothing was done.
        """
        wanted: dict[int, tuple[str, int, float, bool]] = {}
        for kind, number, address, tokens, now, waits in events:
            if kind != TAKEN:
                raise ValueError("no request that was taken")
            _check_request(number, address, tokens)
            _check_seconds(now)
            wanted[number] = address, tokens, now, bool(waits)
        for number, ticket in list(self._tickets.items()):
            there = wanted.get(number)
            if there is not None and there[:2] == (ticket.pod.address, ticket.tokens):
                del wanted[number]
                if not there[3]:
                    self._store.begun_elsewhere(ticket, 0.0)
            else:
                self._given_back(number, True, 0.0)
        for number, (address, tokens, now, waits) in wanted.items():
            self._tickets[number] = self._store.taken_elsewhere(address, tokens, now, waits)

    def fade(self, keep: int) -> None:
        """Counts no more than `keep` requests of the other, the newest: nothing is heard of how they end."""
        for number in list(self._tickets)[: max(len(self._tickets) - keep, 0)]:
            self._given_back(number, False, 0.0)

    def end(self) -> None:
        """The other is gone, and with it what it had in flight."""
        for number in list(self._tickets):
            # When is not known: no time has passed for the others that wait there.
            self._given_back(number, True, 0.0)

    def _taken(self, number: int, address: str, tokens: int, now: float, waits: bool) -> None:
        _check_request(number, address, tokens)
        _check_seconds(now)
        ticket = self._tickets.get(number)
        if ticket is not None:
            if (ticket.pod.address, ticket.tokens) == (address, tokens):
                return  # it is known already
            # Numbers are used again: that the one before was given back was lost.
            self._given_back(number, True, now)
        self._tickets[number] = self._store.taken_elsewhere(address, tokens, now, bool(waits))

    def _begun(self, number: int, now: float) -> None:
        _check_seconds(now)
        ticket = self._tickets.get(number)
        if ticket is not None:
            self._store.begun_elsewhere(ticket, now)

    def _given_back(self, number: int, served: bool, now: float) -> None:
        _check_seconds(now)
        ticket = self._tickets.pop(number, None)
        if ticket is not None:
            self._store.given_back_elsewhere(ticket, served=bool(served), now=now)

    def _outcome(
        self,
        address: str,
        ttft: float | None,
        tokens: int,
        tpot: float | None,
        now: float,
        ahead: float = 0.0,
    ) -> None:
        _check_request(0, address, tokens)
        for value in (ttft, tpot, now, ahead):
            if value is not None:
                _check_seconds(value)
        self._store.outcome_elsewhere(address, ttft, tokens, tpot, now, ahead)

    def _failed(self, address: str, now: float) -> None:
        _check_seconds(now)
        self._store.failed_elsewhere(address, now)

    def _refused(self, address: str, seconds: float, now: float) -> None:
        _check_seconds(seconds)
        _check_seconds(now)
        self._store.refused_elsewhere(address, seconds, now)

    def _missing(self, address: str, model: str, now: float) -> None:
        _check_request(0, model, 0)
        _check_seconds(now)
        self._store.missing_elsewhere(address, model, now)

    def _scraped(self, address: str, sample: object, now: float) -> None:
        self._store.scraped_elsewhere(address, msgspec.convert(sample, Sample), now)


def _check_request(number: object, address: object, tokens: object) -> None:
    """Raises TypeError or ValueError: counts that were spoilt by half of an event would stay so."""
    if not (isinstance(number, int) and isinstance(address, str) and isinstance(tokens, int)):
        raise TypeError("no request")
    if not 0 <= tokens <= MAX_TOKENS:
        raise ValueError("no number of tokens")


def _check_seconds(value: object) -> None:
    """Raises TypeError or ValueError."""
    if not isinstance(value, int | float):
        raise TypeError("no number")
    if not -inf < value < inf:
        raise ValueError("no finite number")
