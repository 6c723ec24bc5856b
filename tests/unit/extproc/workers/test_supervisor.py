"""One process and its supervisor, with a program in the process' place."""

import asyncio
import logging
import sys

import pytest
from support.eventually import PATIENCE, eventually

from extproc.workers import supervisor
from extproc.workers.place import Place
from extproc.workers.supervisor import WorkerError, _Process

#: `line` is the socket to the supervisor.
PRELUDE = "import os, signal, socket, sys; line = socket.socket(fileno=0); line.recv(100);"


def process(program: str, *command: str) -> _Process:
    made = _Process(Place("0", "unix:///nowhere"), [], 1, 2, lambda: None)
    made._command = [*command] or [sys.executable, "-c", PRELUDE + program]
    return made


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_BACKOFF", 0.001)
    monkeypatch.setattr(supervisor, "LAST_BACKOFF", 0.001)


async def test_one_that_hangs_is_killed_and_started_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "BEAT_INTERVAL", 0.01)
    one = process(r"""line.send(b'{"not_ready":""}\n\n'); os.kill(os.getpid(), signal.SIGSTOP)""")
    keeping = asyncio.create_task(one.keep())
    await eventually(lambda: not one.not_ready)
    await eventually(lambda: one.restarts > 0)
    assert "process hangs" in caplog.text
    # Also one that is to end.
    await eventually(lambda: not one.not_ready)
    await one.stop()
    await asyncio.wait_for(keeping, PATIENCE)


async def test_one_that_lives_is_left_alone(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(supervisor, "BEAT_INTERVAL", 0.0)
    monkeypatch.setattr(supervisor, "MISSED_BEATS", 1 << 60)
    one = process(r"""[line.send(b'\n') for _ in range(50)]; line.send(b'{"not_ready":"half a li'); sys.exit(2)""")
    with pytest.raises(WorkerError):
        await asyncio.wait_for(one.keep(), PATIENCE)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_one_that_cannot_be_started_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    one = process("", "/there/is/none")
    keeping = asyncio.create_task(one.keep())
    await eventually(lambda: one.restarts > 1)
    await one.stop()
    await asyncio.wait_for(keeping, PATIENCE)
    assert "process not started" in caplog.text


async def test_one_that_could_start_once_is_tried_again_whatever_it_says() -> None:
    one = process(r"""line.send(b'{"not_ready":""}\n'); sys.exit(2)""")
    keeping = asyncio.create_task(one.keep())
    await eventually(lambda: one.restarts > 1)
    await one.stop()
    await asyncio.wait_for(keeping, PATIENCE)
