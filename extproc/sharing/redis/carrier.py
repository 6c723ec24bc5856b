"""Carries messages between gateways through one stream: one task writes, one reads, no decision waits for either.

Whatever the server does (it is away, slow, full, frozen, emptied, another one), decisions go on; both tasks try again.
The writer sends the same message until it is taken: receivers leave out duplicates. The reader goes on behind the
last entry that it has read.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from redis.exceptions import RedisError

from extproc.config.sections.sharing import RedisConfig
from extproc.process.background import Background
from extproc.sharing.group import BEAT, DEAF_AFTER, Group
from extproc.sharing.journal import Journal
from extproc.sharing.message import FORMAT, decode
from extproc.sharing.redis.client import connected
from extproc.sharing.redis.clock import ServerClock, before, milliseconds_of, order

log = logging.getLogger(__name__)

#: Seconds for which events are collected before they are sent. What sharing costs is the number of messages.
COLLECT: Final = 0.005
#: Seconds from one message to the next, and from one read to the next, at the least: each costs as much as ten events,
#: and at hundreds of picks a second there are so many pods that what is picked in that time is little for each.
PACE: Final = 0.02
#: Entries of one read, and seconds that a read waits for the first.
MOST_ENTRIES: Final = 200
WAIT: Final = 1.0
#: Seconds for an answer to what is written. A server that takes longer is as good as away.
WRITE_TIMEOUT: Final = 1.0
#: The same for a read, which waits that long for nothing.
READ_TIMEOUT: Final = 3.0
#: Seconds between two tries, the first and the longest.
FIRST_RETRY, LAST_RETRY = 0.05, 1.0
#: Seconds for which one message is tried. Its events grow old, and all requests in flight are sent anew anyway.
GIVE_UP: Final = 5.0
#: Seconds for which a process that was just started waits for what others know: requests are more than prefixes.
PATIENCE: Final = 5.0
#: The same where the server is not reached.
SHORT_PATIENCE: Final = 1.0
#: Seconds between looks at what time changes.
TICK: Final = 0.1
#: Seconds between two times that the stream's end is put off, and its length looked at.
KEEP_INTERVAL: Final = 30.0
#: Seconds that the stream outlives the last gateway.
EXPIRY: Final = 900
#: Entries at most, whatever their age: 60 s of eight busy gateways are half of it.
MAX_ENTRIES: Final = 200_000
#: Seconds of what is heard between two breaths for requests.
BREATH: Final = 0.002

_ERRORS = (RedisError, OSError, TimeoutError)


class Carrier:
    """One process' connections to the server.

    Args:
        config: of the server.
        group: the others.
        journal: outgoing messages of this process.
        key: of the stream.
        prepare: called with the writer's client at each connection and every `KEEP_INTERVAL`: what else is to be there.
    """

    def __init__(
        self,
        config: RedisConfig,
        group: Group,
        journal: Journal,
        *,
        key: str,
        prepare: Callable[[Any], Awaitable[None]],
    ) -> None:
        self._config = config
        self._group = group
        self._journal = journal
        self._key = key
        self._prepare = prepare
        self._clock = ServerClock()
        self._due = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._started = 0.0
        self._sent_at = 0.0
        #: The newest entry of this process, and when the server had taken it.
        self._acked: tuple[bytes, float] = b"0-0", 0.0
        #: Set once the stream's messages from before this process came are read.
        self._read_up = False
        self._ready = False
        self._prepared = asyncio.Event()
        self._detail = "not connected yet"
        self._told: bool | None = None
        self.sent_bytes = 0
        self.sent_messages = 0
        self.heard_bytes = 0
        self.heard_messages = 0

    # For this process

    def due(self) -> None:
        """There is something to send."""
        wait = max(COLLECT, self._sent_at + PACE - time.monotonic())
        asyncio.get_running_loop().call_later(wait, self._due.set)

    @property
    def up(self) -> bool:
        """Whether this process' own messages come back."""
        now = time.monotonic()
        return self._group.hearing.deaf_for(now) == 0

    @property
    def age(self) -> float:
        """Seconds since one came back; since the start where none did."""
        now = time.monotonic()
        return now - max(self._group.hearing.heard_at, self._started)

    @property
    def dropped(self) -> int:
        """Events that were never sent."""
        return self._journal.dropped

    def not_ready(self) -> str:
        """Why this process should not decide yet: others know more. "" where it may, from then on."""
        if not self._ready:
            waited = time.monotonic() - self._started
            away = not self.up and not self.heard_messages and waited > SHORT_PATIENCE
            self._ready = (
                waited > PATIENCE or away or (self._read_up and self.up and self._group.exact and self._group.warm)
            )
        return "" if self._ready else "what other gateways know is not known here yet"

    async def start(self, background: Background | None = None) -> None:
        """Connects, and begins to send and to receive. `background` restarts tasks that died."""
        background = background or Background()
        self._started = self._sent_at = time.monotonic()
        self._due.set()
        loops = {"write": self._write, "read": self._read, "watch": self._watch}
        self._tasks = [background.start("sharing", run, of=name) for name, run in loops.items()]

    async def stop(self) -> None:
        """Takes leave, so that no process has to wait for this process' silence."""
        if not self._tasks:
            return
        writing, *others = self._tasks
        await _ended(writing)
        with contextlib.suppress(*_ERRORS):
            async with asyncio.timeout(WRITE_TIMEOUT):
                client = await connected(self._config, patience=WRITE_TIMEOUT)
                try:
                    await self._add(client, self._journal.take(time.monotonic(), last=True))
                finally:
                    await client.aclose()
        await asyncio.gather(*map(_ended, others))
        self._tasks = []

    # Writing

    async def _write(self) -> None:
        retry = FIRST_RETRY
        message, since = b"", 0.0
        while True:
            client = None
            try:
                client = await connected(self._config, patience=WRITE_TIMEOUT)
                await self._look_at_clock(client)
                await self._prepare(client)
                self._prepared.set()
                kept_at = 0.0
                while True:
                    if message and time.monotonic() - since > GIVE_UP:
                        self._journal.tell_all()
                        message = b""
                    if not message:
                        await self._due.wait()
                        self._due.clear()
                        since = time.monotonic()
                        message = self._journal.take(
                            since, wanted=self._group.wanted(since), cold=self._group.cold(since)
                        )
                        if self._journal.more:
                            self._due.set()
                    await self._add(client, message)
                    message = b""
                    retry = FIRST_RETRY
                    if time.monotonic() - kept_at >= KEEP_INTERVAL:
                        kept_at = time.monotonic()
                        await self._keep(client)
                        await self._prepare(client)
            except _ERRORS as error:
                self._detail = f"writing: {type(error).__name__}: {error}"
            except Exception:
                # An event that cannot be sent. All requests in flight are sent anew.
                log.exception("sharing: an event could not be sent")
                self._journal.tell_all()
            finally:
                if client is not None:
                    await _close(client)
            await asyncio.sleep(retry)
            retry = min(retry * 2, LAST_RETRY)

    async def _add(self, client: Any, message: bytes) -> None:
        oldest = before(self._acked[0], self._config.history)
        reply = await client.execute_command("XADD", self._key, "MINID", "~", oldest, "*", FORMAT, message)
        now = time.monotonic()
        self._clock.answered(milliseconds_of(reply), now)
        self._acked = reply, now
        self._sent_at = now
        self.sent_messages += 1
        self.sent_bytes += len(message)

    async def _look_at_clock(self, client: Any) -> bytes:
        """The id that an entry would have now."""
        seconds, microseconds = await client.execute_command("TIME")
        milliseconds = int(seconds) * 1000 + int(microseconds) // 1000
        self._clock.answered(milliseconds, time.monotonic())
        return b"%d-0" % milliseconds

    async def _keep(self, client: Any) -> None:
        """Puts the stream's end off, and bounds its length."""
        await client.execute_command("XTRIM", self._key, "MAXLEN", "~", MAX_ENTRIES)
        await client.execute_command("EXPIRE", self._key, EXPIRY)

    # Reading

    async def _read(self) -> None:
        retry = FIRST_RETRY
        cursor = until = b""
        # Before the group's secret is known, what others noted means nothing.
        await self._prepared.wait()
        while True:
            client = None
            try:
                client = await connected(self._config, patience=READ_TIMEOUT)
                if not cursor:
                    until = await self._look_at_clock(client)
                    cursor = before(until, self._config.history)
                while True:
                    reply = await client.execute_command(
                        "XREAD", "COUNT", MOST_ENTRIES, "BLOCK", int(WAIT * 1000), "STREAMS", self._key, cursor
                    )
                    retry = FIRST_RETRY
                    entries = _entries(reply)
                    if entries:
                        await self._take(entries)
                        cursor = entries[-1][0]
                    if not self._read_up and (not entries or order(cursor) >= order(until)):
                        self._group.caught_up(time.monotonic())
                        self._read_up = True
                    cursor = self._rewound(cursor)
                    if entries and (self._read_up or len(entries) < MOST_ENTRIES):
                        await asyncio.sleep(PACE)
            except _ERRORS as error:
                self._detail = f"reading: {type(error).__name__}: {error}"
            except Exception:
                log.exception("sharing: reading failed")
            finally:
                if client is not None:
                    await _close(client)
            await asyncio.sleep(retry)
            retry = min(retry * 2, LAST_RETRY)

    def _rewound(self, cursor: bytes) -> bytes:
        """Where to read on.

        An entry of this process that the server took, and that lies before what was read, and never came: the stream
        is another one (the server was emptied, or a replica took over), and its ids begin earlier. It is read from
        there; what was heard is left out.
        """
        entry, at = self._acked
        heard = self._group.hearing.heard_at
        if at - heard > WAIT and order(entry) <= order(cursor):
            log.warning("sharing: the stream is another one", extra={"entry": entry.decode(), "read": cursor.decode()})
            return before(entry, self._config.history)
        return cursor

    async def _take(self, entries: Sequence[tuple[bytes, Sequence[bytes]]]) -> None:
        group, clock = self._group, self._clock
        began = time.monotonic()
        for entry, fields in entries:
            now = time.monotonic()
            if now - began > BREATH:
                await asyncio.sleep(0)
                began = now = time.monotonic()
            try:
                at = clock.local(milliseconds_of(entry), now)
                name, data = fields
                if name != FORMAT:
                    raise ValueError("a message of another version")  # noqa: TRY301 - as all that is wrong with it
                message = decode(data)
            except ValueError:
                group.unknown += 1
                continue
            self.heard_messages += 1
            self.heard_bytes += len(data)
            group.hear(message, at, now)

    # Both

    async def _watch(self) -> None:
        """Sends heartbeats, checks those of others, and logs when the state changes."""
        while True:
            now = time.monotonic()
            if now - self._sent_at > BEAT - TICK or self._group.wants(now):
                self._due.set()
            try:
                self._group.tick(now)
            except Exception:
                log.exception("sharing: the group's clock failed")
            self._say(now)
            await asyncio.sleep(TICK)

    def _say(self, now: float) -> None:
        up = self._group.hearing.deaf_for(now) == 0
        if up != self._told and (up or self.age > DEAF_AFTER):
            self._told = up
            if up:
                log.info("sharing works", extra={"key": self._key, "others": self._group.members})
            else:
                log.warning("sharing does not work", extra={"key": self._key, "detail": self._detail})


def _entries(reply: Any) -> Sequence[tuple[bytes, Sequence[bytes]]]:
    """Of one stream, by either protocol."""
    if not reply:
        return ()
    streams = reply.values() if isinstance(reply, dict) else [stream[1] for stream in reply]
    return [(entry[0], entry[1]) for stream in streams for entry in stream]


async def _ended(task: asyncio.Task[None]) -> None:
    """Cancels a task until it ends: a connection that breaks just then makes another error of it."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=TICK)


async def _close(client: Any) -> None:
    with contextlib.suppress(*_ERRORS):
        await client.aclose()
