"""What all processes know of a pool alike: requests in flight, signals, and what plugins note.

Pure: events come and go as tuples, carriers take them along.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any, Final

from extproc.sharing.topic import NotUnderstood
from scheduler.framework import Sharer
from scheduler.pool.shared import NEARBY, Event, Other, SharedStore, turned
from scheduler.profile import OnFault, Profile, ignore_fault
from scheduler.types import Undo

#: Events beside those of the store.
NOTED: Final = "n"  # number or None, plugin, address, data
UNDONE: Final = "u"  # number
_KEYED: Final = frozenset({NOTED, UNDONE})
#: The phase in which plugins share, where they fail in it.
SHARE: Final = "share"
#: Notes of another process that can be taken back. Those of requests that fail are, a moment after the pick or at the
#: end of the request; by then at most so many others were made.
MAX_UNDO: Final = 16_384


class Replica:
    """One pool's part of what is shared.

    Args:
        tell: sends an event to all others.
        secret: 64 bits that all processes have alike.
    """

    nearby: Final = NEARBY

    def __init__(self, tell: Callable[[Event], None], secret: int) -> None:
        self._tell = tell
        self._secret = secret
        self._numbers = count()
        self._plugins: Mapping[str, Any] = {}
        #: Those of them that share: asking each time costs more than most of what they do.
        self._sharers: dict[str, Sharer] = {}
        self._on_fault: OnFault = ignore_fault
        self._store: SharedStore | None = None

    def share_store(self, store: SharedStore) -> None:
        """Sets the store whose requests in flight are shared. Once, before the first request."""
        self._store = store

    def share_plugins(self, profile: Profile) -> None:
        """The plugins in force from now on."""
        before, self._plugins = self._plugins, profile.plugins
        self._on_fault = profile.on_fault
        self._sharers = {name: plugin for name, plugin in profile.plugins.items() if isinstance(plugin, Sharer)}
        for name, plugin in self._sharers.items():
            # One that was taken over from the profile before shares already.
            if before.get(name) is not plugin:
                self.guarded(name, plugin.share, self._secret, partial(self._note, name))

    def reseed(self, secret: int) -> None:
        """The secret is another one: what plugins noted under the one before is void."""
        self._secret = secret
        for name, plugin in self._sharers.items():
            self.guarded(name, plugin.share, secret, partial(self._note, name))

    def guarded(self, plugin: str, call: Callable[..., Any], /, *arguments: Any) -> Any:
        """What a plugin answers; None where it fails, which is nobody else's trouble."""
        try:
            return call(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises
            self._on_fault(plugin, SHARE, error)
            return None

    def _note(self, plugin: str, address: str, data: bytes, /) -> Undo:
        number = next(self._numbers)
        self._tell((NOTED, number, plugin, address, data))
        return partial(self._tell, (UNDONE, number))

    def in_flight(self) -> list[Event]:
        """This process' requests in flight: a process that was just started needs them at once."""
        return [] if self._store is None else list(self._store.own())

    def notes(self) -> Iterator[Event]:
        """And what plugins noted, each within a few milliseconds."""
        for name, plugin in list(self._sharers.items()):
            memory = self.guarded(name, plugin.memory)
            while memory is not None and (note := self.guarded(name, next, memory, None)) is not None:
                yield NOTED, None, name, *note  # nothing of it will be taken back

    def other(self) -> "OtherProcess":
        """What takes in the events of one other process."""
        assert self._store is not None  # noqa: S101 - set up first
        return OtherProcess(self, self._store)

    def outward(self, event: Event, now: float) -> Sequence[Any]:
        """The event for other machines."""
        return turned(event, now)

    def inward(self, event: Sequence[Any], at: float) -> Sequence[Any]:
        """The event of another machine, sent at `at` by this one's clock."""
        return turned(event, at)

    def keyed(self, event: Sequence[Any]) -> bool:
        """Whether its meaning depends on the secret: hashes do."""
        return event[0] in _KEYED

    def told(self, plugin: str, address: str, data: bytes) -> Undo | None:
        """Another process noted something.

        None: there is no such plugin here, for a reload that is under way; or no such pod, which left here already and
        will not leave again, so that what is noted of it would stay for good.

        Raises:
            NotUnderstood: the plugin makes nothing of it.
        """
        sharer, store = self._sharers.get(plugin), self._store
        if sharer is not None and store is not None and store.has(address):
            try:
                return sharer.told(address, data)
            except ValueError as error:
                raise NotUnderstood(plugin) from error
            except Exception as error:  # noqa: BLE001 - as in `guarded`
                self._on_fault(plugin, SHARE, error)
        return None


class OtherProcess:
    """The events of one other process, taken in. `end` it when it is gone."""

    def __init__(self, replica: Replica, store: SharedStore, max_undo: int = MAX_UNDO) -> None:
        self._replica = replica
        self._max_undo = max_undo
        self._store = Other(store)
        self._undo: OrderedDict[int, tuple[str, Undo]] = OrderedDict()

    @property
    def in_flight(self) -> int:
        """Requests of the other that are in flight."""
        return self._store.in_flight

    def requests(self) -> Iterator[tuple[str, int]]:
        """Address of the pod and uncached tokens of each of them."""
        return self._store.requests()

    def apply(self, event: Sequence[Any]) -> None:
        """Does here what was done there.

        Raises:
            NotUnderstood: a plugin here makes nothing of what it noted there.
            KeyError, TypeError, ValueError, msgspec.ValidationError: it is no event.
        """
        kind = event[0]
        if kind == NOTED:
            _, number, plugin, address, data = event
            if not (isinstance(plugin, str) and isinstance(address, str) and isinstance(data, bytes)):
                raise TypeError("no note")
            undo = self._replica.told(plugin, address, data)
            if undo is not None and number is not None:
                self._undo[number] = plugin, undo
                if len(self._undo) > self._max_undo:
                    self._undo.popitem(last=False)
        elif kind == UNDONE:
            noted = self._undo.pop(event[1], None)
            if noted is not None:
                self._replica.guarded(*noted)
        else:
            self._store.apply(event)

    def replace(self, events: Sequence[Sequence[Any]]) -> None:
        """Makes these its requests in flight.

        Raises:
            KeyError, TypeError, ValueError: one of them is none; nothing was done.
        """
        self._store.replace(events)

    def fade(self, keep: int) -> None:
        """Counts no more than so many of its requests, the newest."""
        self._store.fade(keep)

    def end(self) -> None:
        """The other is gone. What it had noted stays: the pods hold it."""
        self._store.end()
        self._undo.clear()
