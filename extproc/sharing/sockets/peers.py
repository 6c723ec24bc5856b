"""Events between processes of a gateway: each process listens on a Unix socket, and every other connects to it.

The end of a connection means the end of its process. No process waits for an answer.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, cast

import msgspec

from extproc.process.background import Background
from extproc.process.unix_socket import UnixListener
from extproc.sharing.topic import Incoming, NotUnderstood, Topic
from scheduler.pool.shared import TAKEN, Event

log = logging.getLogger(__name__)

#: Seconds for which events are collected before they are sent: less than a decision's worth of error, and of several
#: thousand requests a second a few share each write.
FLUSH_AFTER = 0.001
#: The same for what is no pick: ends, outcomes, scrapes. Each message costs every process a read, whatever is in it.
PATIENT_FLUSH_AFTER = 0.01
#: The same where the one that hears of them does not decide: less of its time, and what is lost with a process that
#: dies are the picks of so long.
LAZY_FLUSH_AFTER = 0.02
#: Seconds between tries to reach a process that is not there.
RETRY_AFTER = 0.05
#: Bytes that may wait for a process that does not read. Beyond, it is disconnected, and sent all anew when it is back.
MAX_WAITING = 64 << 20
#: Bytes of one message: what is noted of one pod, or what was collected in `LAZY_FLUSH_AFTER`, many times over.
MAX_FRAME = 64 << 20
#: Seconds after which a process that was just started waits no more for what the others know.
CATCH_UP_PATIENCE = 5.0
#: Seconds between two pieces of the history sent to a process that was just started: requests come first.
HISTORY_PAUSE = 0.005
_LENGTH = 4
#: Topic name that marks the end of the history sent to a process.
_ALL_TOLD = ""

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[tuple[str, list[Any]]])


class Peers:
    """This process' connections to the others.

    Args:
        path: of this process' socket.
        others: path of each other process' socket, by its name.
        lazily: names of those that do not decide, and so can receive events a little later.
        retry_after: seconds between tries to reach a process that is not there.
        history_pause: seconds between two pieces of the history sent to a process that was just started.
        max_waiting: bytes that may wait for a process that does not read.
    """

    def __init__(
        self,
        path: str,
        others: Mapping[str, str],
        lazily: Iterable[str] = (),
        *,
        retry_after: float = RETRY_AFTER,
        history_pause: float = HISTORY_PAUSE,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._path = path
        self._retry_after = retry_after
        self._history_pause = history_pause
        self._others = others
        #: What is shared, by name. To be filled before `start`.
        self.replicas: dict[str, Topic] = {}
        slow = frozenset(lazily)
        self._channels = [
            channel
            for channel in (
                _Channel([name for name in others if name not in slow], FLUSH_AFTER, max_waiting),
                _Channel([name for name in others if name in slow], LAZY_FLUSH_AFTER, max_waiting),
            )
            if channel.names
        ]
        # Processes that were looked for, and processes that have sent all their history.
        self._sought = 0
        self._heard = 0
        self._patient_until = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._incoming: set[_Incoming] = set()
        self._server: asyncio.Server | None = None
        self._listener: UnixListener | None = None

    def teller(self, name: str) -> Callable[[Event], None]:
        """What sends the events of what is shared under that name."""
        channels = self._channels

        def tell(event: Event) -> None:
            for channel in channels:
                if channel.transports:
                    channel.add((name, event))

        return tell

    async def start(self, background: Background | None = None) -> None:
        """Listens, and begins to look for the others. `background` starts that again where it died.

        Raises:
            OSError: the socket cannot be bound.
        """
        background = background or Background()
        loop = asyncio.get_running_loop()
        self._patient_until = loop.time() + CATCH_UP_PATIENCE
        listener = self._listener = UnixListener(Path(self._path))
        self._server = await loop.create_unix_server(
            lambda: _Incoming(self.replicas, self._incoming, self._hear), sock=listener.socket
        )
        self._tasks = [
            background.start("peers", partial(self._keep, channel, name, self._others[name]), of=name)
            for channel in self._channels
            for name in channel.names
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        for incoming in list(self._incoming):
            incoming.abort()
        if self._listener is not None:
            self._listener.close()

    def not_ready(self) -> str:
        """Why this process should not decide yet: others know more. "" where it may."""
        there = sum(len(channel.transports) for channel in self._channels)
        caught_up = self._sought == len(self._others) and self._heard >= there
        if caught_up or asyncio.get_running_loop().time() > self._patient_until:
            return ""
        return "what the other processes know is not known here yet"

    async def caught_up(self) -> None:
        """Waits until this process knows what the others do, or for `CATCH_UP_PATIENCE`."""
        while self.not_ready():  # noqa: ASYNC110 - also when time is up
            await asyncio.sleep(self._history_pause)

    def _hear(self) -> None:
        self._heard += 1

    def flush(self) -> None:
        """Sends the collected events at once."""
        for channel in self._channels:
            channel.flush()

    async def _keep(self, channel: "_Channel", name: str, path: str) -> None:
        """Is connected to one other process whenever that is there."""
        loop = asyncio.get_running_loop()
        sought = False
        while True:
            try:
                transport, outgoing = await loop.create_unix_connection(_Outgoing, path)
            except OSError:
                self._sought += not sought
                sought = True
                await asyncio.sleep(self._retry_after)
                continue
            try:
                channel.flush()  # later events are sent as they happen, earlier ones as history
                history = self._history()
                channel.transports[name] = transport
                self._sought += not sought
                sought = True
                for events in history:
                    if outgoing.lost.is_set():
                        break  # its successor must not wait for the rest
                    channel.send(name, _frame(events))
                    await asyncio.sleep(self._history_pause)
                channel.send(name, _frame([(_ALL_TOLD, ())]))
                await outgoing.lost.wait()
            except Exception:
                # The other process needs the whole history, or none.
                log.exception("peers: catching up failed")
            finally:
                channel.transports.pop(name, None)
                transport.abort()
            await asyncio.sleep(self._retry_after)

    def _history(self) -> Iterator[list[tuple[str, Event]]]:
        # All that is in flight at once, before any of it ends; the rest in pieces.
        first = [(pool, event) for pool, replica in self.replicas.items() for event in replica.in_flight()]
        notes = ([(pool, event)] for pool, replica in self.replicas.items() for event in replica.notes())
        return chain([first], notes)


def _frame(events: list[tuple[str, Event]]) -> bytes:
    data = _encoder.encode(events)
    return len(data).to_bytes(_LENGTH, "big") + data


class _Channel:
    """Processes that are sent events at the same pace."""

    def __init__(self, names: list[str], flush_after: float, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self.names = names
        #: Of those that are there, by name.
        self.transports: dict[str, asyncio.WriteTransport] = {}
        self._flush_after = flush_after
        self._batch: list[tuple[str, Event]] = []
        #: Of the next flush, and whether that is soon.
        self._timer: asyncio.TimerHandle | None = None
        self._soon = False

    def add(self, event: tuple[str, Event]) -> None:
        # Only a pick changes what others are about to do.
        urgent = event[1][0] == TAKEN
        if self._timer is None or (urgent and not self._soon):
            if self._timer is not None:
                self._timer.cancel()
            after = self._flush_after if urgent else max(self._flush_after, PATIENT_FLUSH_AFTER)
            self._timer = asyncio.get_running_loop().call_later(after, self.flush)
            self._soon = urgent
        self._batch.append(event)

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._batch = self._batch, []
        if batch:
            try:
                data = _frame(batch)
            except Exception:
                # No process may miss an event: all are sent everything anew.
                log.exception("peers: an event could not be sent")
                for transport in self.transports.values():
                    transport.abort()
                return
            for name in list(self.transports):
                self.send(name, data)

    def send(self, name: str, data: bytes) -> None:
        transport = self.transports[name]
        if transport.get_write_buffer_size() > self._max_waiting:
            log.error("a process does not listen", extra={"worker": name})
            transport.abort()
        elif not transport.is_closing():
            transport.write(data)


class _Outgoing(asyncio.Protocol):
    """The sending side: the other process sends nothing here, and only its end is noticed."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()

    def connection_lost(self, _error: Exception | None) -> None:
        self.lost.set()


class _Incoming(asyncio.Protocol):
    """The receiving side: events of one other process."""

    def __init__(self, replicas: Mapping[str, Topic], every: "set[_Incoming]", on_all_told: Callable[[], None]) -> None:
        self._on_all_told = on_all_told
        self._others = {pool: replica.other() for pool, replica in replicas.items()}
        self._every = every
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass
        self._every.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._every.discard(self)
        for other in self._others.values():
            other.end()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start, others = 0, self._others
        try:
            while len(buffer) - start >= _LENGTH:
                end = start + _LENGTH + int.from_bytes(buffer[start : start + _LENGTH], "big")
                if end - start > MAX_FRAME:
                    raise ValueError("a message that is too long")  # noqa: TRY301 - as all that is wrong with it
                if len(buffer) < end:
                    break
                for name, event in _decoder.decode(memoryview(buffer)[start + _LENGTH : end]):
                    if name == _ALL_TOLD:
                        self._on_all_told()
                    elif (other := others.get(name)) is not None:
                        # Else it is of a pool that only the other has, which read the configuration later.
                        self._apply(other, event)
                start = end
        except Exception:
            # A bug: the other's state is wrong here from now on. The other reconnects, and sends everything anew.
            log.exception("events of another process")
            self.abort()
            return
        if start:
            self._buffer = buffer[start:]

    @staticmethod
    def _apply(other: Incoming, event: list[Any]) -> None:
        try:
            other.apply(event)
        except NotUnderstood:
            # By a plugin: nobody else's trouble.
            log.exception("event of another process")
