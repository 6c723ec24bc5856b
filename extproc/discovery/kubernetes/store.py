"""What a list and a watch add up to. Pure: bytes and objects in, objects out."""

from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from typing import Generic, TypeVar

import msgspec

from extproc.discovery.kubernetes.objects import Keyed, KubernetesObject, Status

#: Objects of one kind that are kept. A gateway scrapes each pod five times a second: it is far past its end at a
#: tenth of this. Objects beyond it are left out, and logged.
MAX_OBJECTS = 10_000
#: Bytes of one event of a watch. etcd stores no object over 1.5 MiB; as JSON, one may be a few times larger.
MAX_EVENT = 8 << 20

T = TypeVar("T", bound=KubernetesObject)
#: Namespace and name.
ObjectKey = tuple[str, str]


#: What msgspec raises for input that is not what it should be.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class BadAnswer(Exception):
    """The API server sent what a watch cannot go on from: everything has to be listed again."""


class Event(msgspec.Struct, frozen=True):
    """One line of a watch."""

    type: str
    object: msgspec.Raw


class ListMeta(msgspec.Struct, frozen=True, rename={"resource_version": "resourceVersion", "more": "continue"}):
    resource_version: str = ""
    #: Token of the next page; empty on the last one.
    more: str = ""


class Page(msgspec.Struct, frozen=True):
    """One page of a list."""

    metadata: ListMeta = ListMeta()
    items: list[msgspec.Raw] | None = None


_page = msgspec.json.Decoder(Page)
_event = msgspec.json.Decoder(Event)
_keyed = msgspec.json.Decoder(Keyed)
_status = msgspec.json.Decoder(Status)


def read_page(data: bytes) -> Page:
    """Raises BadAnswer."""
    try:
        return _page.decode(data)
    except UNREADABLE as error:
        raise BadAnswer(f"a list that cannot be read: {error}") from error


def read_status(data: bytes) -> Status:
    """The `Status` of an error's body; an empty one where the body cannot be read."""
    try:
        return _status.decode(data)
    except UNREADABLE:
        return Status()


class Lines:
    """Cuts a stream of bytes into lines, however it arrives."""

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are now complete, without their ends; empty ones are left out.

        Raises:
            BadAnswer: a line is longer than the limit.
        """
        *complete, rest = data.split(b"\n")
        lines: list[bytes] = []
        for piece in complete:
            self._keep(piece)
            line = b"".join(self._parts).strip()
            self._parts, self._size = [], 0
            if line:
                lines.append(line)
        if rest:
            self._keep(rest)
        return lines

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            raise BadAnswer(f"an event of more than {self._limit} bytes")
        self._parts.append(piece)


class Store(Generic[T]):
    """Objects of one kind, as of a version.

    An object that cannot be read leaves what was known of it as it was: a field that is odd is no reason to lose a pod.

    Args:
        kind: the type that objects are decoded to.
        complain: called for objects that are left out or cannot be read.
        limit: objects that are kept at most.
    """

    def __init__(self, kind: type[T], complain: Callable[[str], None], limit: int = MAX_OBJECTS) -> None:
        self._decoder = msgspec.json.Decoder(kind)
        self._complain = complain
        self.limit = limit
        self._objects: dict[ObjectKey, T] = {}
        #: Of what was last listed or seen. Empty before the first list.
        self.version = ""

    @property
    def objects(self) -> Collection[T]:
        return self._objects.values()

    def read(self, items: Iterable[msgspec.Raw]) -> dict[ObjectKey, T]:
        """Objects of a page of a list. Changes nothing.

        Raises:
            BadAnswer: one is no object.
        """
        keyed = ((_key(raw)[0], raw) for raw in items)
        read = {key: self._read(raw, key) for key, raw in keyed}
        return {key: one for key, one in read.items() if one is not None}

    def replace(self, objects: Mapping[ObjectKey, T], version: str) -> None:
        """A new list in place of all that was known.

        Raises:
            BadAnswer: it has no version to go on from; nothing has changed.
        """
        if not version:
            raise BadAnswer("a list without a resourceVersion")
        if len(objects) > self.limit:
            self._complain(f"objects beyond {self.limit} are left out")
        self._objects = dict(islice(objects.items(), self.limit))
        self.version = version

    def apply(self, line: bytes) -> bool:
        """One event of a watch. Returns whether objects may have changed.

        Raises:
            BadAnswer: the watch is of no more use (410 Gone is the usual case); nothing has changed.
        """
        try:
            event = _event.decode(line)
        except UNREADABLE as error:
            raise BadAnswer(f"an event that cannot be read: {error}") from error
        if event.type == "ERROR":
            status = read_status(bytes(event.object))
            raise BadAnswer(f"an error in the watch: {status.code} {status.message or status.reason}")
        key, version = _key(event.object)
        if not version:
            raise BadAnswer(f"an event {event.type!r} without a resourceVersion")
        changed = event.type in {"ADDED", "MODIFIED", "DELETED"}
        if event.type == "DELETED":
            self._objects.pop(key, None)
        elif changed:
            self._put(event.object, key)
        # Other types (BOOKMARK, and what may come one day) bring a version and nothing else.
        self.version = version
        return changed

    def _put(self, raw: msgspec.Raw, key: ObjectKey) -> None:
        if key not in self._objects and len(self._objects) >= self.limit:
            self._complain(f"objects beyond {self.limit} are left out")
            return
        one = self._read(raw, key)
        if one is not None:
            self._objects[key] = one

    def _read(self, raw: msgspec.Raw, key: ObjectKey) -> T | None:
        try:
            return self._decoder.decode(raw)
        except UNREADABLE as error:
            self._complain(f"{'/'.join(key)} cannot be read: {error}")
            return self._objects.get(key)


def _key(raw: msgspec.Raw) -> tuple[ObjectKey, str]:
    """An object's key and version."""
    try:
        metadata = _keyed.decode(raw).metadata
    except UNREADABLE as error:
        raise BadAnswer(f"an object without usable metadata: {error}") from error
    return (metadata.namespace, metadata.name), metadata.resource_version
