"""One process and its supervisor, with a program in the process' place."""

import asyncio
import logging
import sys

import pytest
from support.eventually import PATIENCE, eventually

from extproc.workers.place import Place
from extproc.workers.supervisor import Pace, WorkerError, _Process

#: `line` is the socket to the supervisor.
PRELUDE = "import os, signal, socket, sys; line = socket.socket(fileno=0); line.recv(100);"


QUICKLY = Pace(first_backoff=0.001, last_backoff=0.001)


def process(program: str, *command: str, pace: Pace = QUICKLY) -> _Process:
    made = _Process(Place("0", "unix:///nowhere"), [], 1, 2, lambda: None, pace)
    made._command = [*command] or [sys.executable, "-c", PRELUDE + program]
    return made


async def test_one_that_hangs_is_killed_and_started_again(caplog: pytest.LogCaptureFixture) -> None:
    hangs = r"""line.send(b'{"not_ready":""}\n\n'); os.kill(os.getpid(), signal.SIGSTOP)"""
    one = process(hangs, pace=QUICKLY._replace(beat_interval=0.01))
    keeping = asyncio.create_task(one.keep())
    await eventually(lambda: not one.not_ready)
    await eventually(lambda: one.restarts > 0)
    assert "process hangs" in caplog.text
    # Also one that is to end.
    await eventually(lambda: not one.not_ready)
    await one.stop()
    await asyncio.wait_for(keeping, PATIENCE)


async def test_one_that_lives_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    lives = r"""[line.send(b'\n') for _ in range(50)]; line.send(b'{"not_ready":"half a li'); sys.exit(2)"""
    one = process(lives, pace=QUICKLY._replace(beat_interval=0.0, missed_beats=1 << 60))
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
