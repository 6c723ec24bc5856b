"""Processes over real sockets."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.eventually import PATIENCE, eventually

from extproc.sharing.replica import Replica
from extproc.sharing.sockets.peers import Peers
from extproc.sharing.topic import Incoming
from scheduler.pool.shared import Event, SharedStore
from scheduler.types import Pod

PODS = tuple(Pod(f"10.0.0.{number}:8000") for number in range(1, 4))


class Process:
    def __init__(self, folder: Path, name: str, others: str, **limits: Any) -> None:
        self.peers = Peers(str(folder / name), {other: str(folder / other) for other in others}, **limits)
        tell = self.peers.teller("default")
        self.store = SharedStore(2.0, lambda _pod: None, tell)
        self.store.set_pods(PODS, 0.0)
        self.peers.replicas["default"] = replica = Replica(tell, 1)
        replica.share_store(self.store)

    def in_flight(self) -> list[int]:
        return [row["in_flight"] for row in self.store.statistics(0.0)]


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """In the place of a process. No server of asyncio's, which leaves open what it has just accepted when it is closed."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.setblocking(False)
        yield listener


@contextlib.asynccontextmanager
async def telling(process: "Process", path: Path) -> AsyncIterator[socket.socket]:
    """A process that tells the one at `path`, which is this test."""
    with listening(path) as listener:
        await process.peers.start()
        try:
            yield listener
        finally:
            await process.peers.stop()


async def accepted(listener: socket.socket) -> socket.socket:
    connection, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(listener), PATIENCE)
    return connection


@pytest_asyncio.fixture
async def three(tmp_path: Path) -> AsyncIterator[list[Process]]:
    found = [Process(tmp_path, name, "abc".replace(name, "")) for name in "abc"]
    for one in found:
        await one.peers.start()
    yield found
    for one in found:
        await one.peers.stop()


async def test_all_know_of_all(three: list[Process]) -> None:
    tickets = [one.store.acquire(pod, 5, 0.0) for one, pod in zip(three, PODS, strict=True)]
    for one in three:
        await eventually(lambda one=one: one.in_flight() == [1, 1, 1])  # type: ignore[misc]
    for ticket in tickets:
        ticket.release(1.0)
    for one in three:
        await eventually(lambda one=one: one.in_flight() == [0, 0, 0])  # type: ignore[misc]


async def test_one_that_ends_leaves_nothing_and_is_told_all_when_it_is_back(
    three: list[Process], tmp_path: Path
) -> None:
    a, b, c = three
    kept = a.store.acquire(PODS[0], 5, 0.0)
    b.store.acquire(PODS[1], 5, 0.0)
    await eventually(lambda: c.in_flight() == a.in_flight() == [1, 1, 0])
    await b.peers.stop()
    await eventually(lambda: c.in_flight() == a.in_flight() == [1, 0, 0])
    again = Process(tmp_path, "b", "ac")
    await again.peers.start()
    try:
        await eventually(lambda: again.in_flight() == [1, 0, 0])
        kept.release(1.0)
        await eventually(lambda: again.in_flight() == [0, 0, 0])
    finally:
        await again.peers.stop()


async def test_what_is_no_event_ends_the_connection(
    three: list[Process], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    a = three[0]
    for garbage in (b"\x00\x00\x00\x01\xc1", b"\x00\x00\x00\x0a\x91\x92\xa7default\x00"):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "a")
        writer.write(garbage)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), PATIENCE)
        writer.close()
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == [
        "events of another process"
    ] * 2
    three[1].store.acquire(PODS[1], 5, 0.0)
    await eventually(lambda: a.in_flight() == [0, 1, 0])


async def test_a_pool_that_only_one_has_does_not_matter(three: list[Process], caplog: pytest.LogCaptureFixture) -> None:
    """A process that is started again reads the configuration again."""
    a, b, _ = three
    await eventually(lambda: not a.peers.not_ready())
    a.peers.teller("another pool")(("+", 1, PODS[0].address, 5))
    a.store.acquire(PODS[0], 5, 0.0)
    await eventually(lambda: b.in_flight() == [1, 0, 0])
    assert not caplog.records


async def test_one_that_does_not_listen_is_cut_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    a = Process(tmp_path, "a", "b", max_waiting=1 << 16)
    async with telling(a, tmp_path / "b") as listener:
        with await accepted(listener):

            def cut_off() -> bool:
                for _ in range(1000):
                    a.store.acquire(PODS[0], 5, 0.0)
                a.peers.flush()
                return "a process does not listen" in caplog.text

            await eventually(cut_off)
            with await accepted(listener):  # and comes back
                pass


async def test_what_cannot_be_said_makes_all_be_told_anew(
    three: list[Process], caplog: pytest.LogCaptureFixture
) -> None:
    a, b, c = three
    tickets = [a.store.acquire(PODS[0], 5, 0.0) for _ in range(2)]
    await eventually(lambda: b.in_flight()[0] == c.in_flight()[0] == 2)
    a.store.observe_outcome(PODS[0].address, ttft=0.1, uncached_tokens=10**300, tpot=None, now=0.0)
    tickets.pop().release(0.0)
    await eventually(lambda: b.in_flight()[0] == c.in_flight()[0] == 1)
    assert "peers: an event could not be sent" in caplog.text


class Unspeakable:
    """Something shared that cannot be told of, the first time."""

    def __init__(self) -> None:
        self.asked = 0

    def other(self) -> Incoming:
        raise AssertionError("nobody tells it anything")

    def in_flight(self) -> list[Event]:
        self.asked += 1
        return [(10**300,)] if self.asked == 1 else []

    def notes(self) -> Iterator[Event]:
        return iter(())


async def test_one_that_cannot_be_told_is_told_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    a = Process(tmp_path, "a", "b", retry_after=0.0)
    a.peers.replicas["odd"] = Unspeakable()
    async with telling(a, tmp_path / "b") as listener:
        with await accepted(listener):
            pass
        with await accepted(listener) as connection:
            assert await asyncio.get_running_loop().sock_recv(connection, 100)
    assert [record.message for record in caplog.records].count("peers: catching up failed") == 1


class Endless:
    """Something shared of which there is more to tell than anybody hears."""

    def other(self) -> Incoming:
        raise AssertionError("nobody tells it anything")

    def in_flight(self) -> list[Event]:
        return []

    def notes(self) -> Iterator[Event]:
        return repeat(("note",))


async def test_one_that_ends_while_it_is_told_does_not_hold_up_the_next(tmp_path: Path) -> None:
    a = Process(tmp_path, "a", "b", history_pause=0.0, retry_after=0.0)
    a.peers.replicas["endless"] = Endless()
    async with telling(a, tmp_path / "b") as listener:
        for _ in range(2):
            with await accepted(listener) as connection:
                assert await asyncio.get_running_loop().sock_recv(connection, 100)
