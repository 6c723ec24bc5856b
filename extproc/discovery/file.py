"""Pods that are listed in a file which others write."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path

import msgspec
import yaml

from extproc.discovery.addresses import forbidden, normal
from extproc.discovery.base import Publish
from extproc.discovery.contact import Contact, Reason
from scheduler.types import Pod

log = logging.getLogger(__name__)

#: Seconds between looks at the file. Reading a few KB costs microseconds.
DEFAULT_INTERVAL = 1.0
#: Bytes of the file: 10 000 pods with a few labels. A long list should be JSON, which is read in milliseconds; YAML of
#: this size takes many seconds (its fast C parser is no choice: deep nesting crashes the process).
MAX_FILE = 1 << 20


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pod of the file. Its address alone will do."""

    address: str
    name: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)


def parse(data: bytes, *, local: bool = True) -> list[Pod]:
    """The pods of a YAML or JSON list, in its order. `local`: as in `addresses.forbidden`.

    Raises:
        ValueError: it is no such list, or larger than `MAX_FILE`. An empty file is none: it was being written.
    """
    if len(data) > MAX_FILE:
        raise ValueError(f"larger than {MAX_FILE} bytes")
    try:
        entries = msgspec.convert(_document(data), list[Entry | str])
    except (yaml.YAMLError, msgspec.ValidationError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())[:300]) from error
    pods: dict[str, Pod] = {}
    for index, entry in enumerate(entries):
        one = Entry(entry) if isinstance(entry, str) else entry
        try:
            address = normal(one.address)
        except ValueError as error:
            raise ValueError(f"[{index}]: {error}") from None
        if why := forbidden(ip_address(address.rpartition(":")[0].strip("[]")), local=local):
            raise ValueError(f"[{index}]: {address} {why}")
        if address in pods:
            raise ValueError(f"[{index}]: {address} is listed already")
        pods[address] = Pod(address, one.name, one.labels)
    return list(pods.values())


def _document(data: bytes) -> object:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return yaml.safe_load(data)


class FileDiscovery:
    """The pods of a file, read again when its content changes.

    A file that is missing or wrong changes nothing: the last good list stays, and the fault is logged once. A
    list with nothing in it is a list.

    Args:
        path: of a YAML or JSON list whose items are addresses or `{address, name, labels}`.
        interval: seconds between looks.
        local: as in `addresses.forbidden`.
        sleep: waits between looks.
    """

    def __init__(
        self,
        path: Path,
        interval: float = DEFAULT_INTERVAL,
        *,
        local: bool = True,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._path = path
        self._interval = interval
        self._local = local
        self._sleep = sleep
        #: Content that was last looked into, good or not.
        self._content: bytes | None = None
        #: What the content last looked into lacks; "": nothing.
        self._error = ""
        self._published: list[Pod] | None = None
        self._contact = Contact(f"file {path}")
        self.first_sync = asyncio.Event()

    @property
    def contacts(self) -> tuple[Contact, ...]:
        return (self._contact,)

    async def run(self, publish: Publish) -> None:
        while True:
            # In a thread: the file may be on a network, and a long one takes a while to parse.
            pods = await asyncio.to_thread(self._look)
            if pods is not None:
                if pods != self._published:
                    self._published = pods
                    publish(pods)
                self.first_sync.set()
            await self._sleep(self._interval)

    def _look(self) -> list[Pod] | None:
        """The pods, if the file has changed and is good."""
        try:
            with self._path.open("rb") as file:
                content = file.read(MAX_FILE + 1)
        except OSError as error:
            # The same content is news when it comes back.
            self._content = None
            missing = isinstance(error, FileNotFoundError)
            reason = Reason.NOT_FOUND if missing else Reason.UNREADABLE
            self._failed(reason, error.strerror or str(error) or type(error).__name__)
            return None
        if content == self._content:
            if not self._error:
                self._contact.alive()
            return None
        self._content = content
        try:
            pods = parse(content, local=self._local)
        except ValueError as error:
            self._error = str(error)
            self._failed(Reason.BAD_ANSWER, self._error)
            return None
        self._error = ""
        if self._contact.reached():
            log.info("%s is read again: %d pods", self._path, len(pods))
        return pods

    def _failed(self, reason: Reason, text: str) -> None:
        if self._contact.failed(reason, text):
            kept = len(self._published or ())
            log.warning("cannot read pods from %s: %s; keeping %d", self._path, text, kept)
