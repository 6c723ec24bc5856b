"""`logging.trace` of a running gateway, replayed by `simulate`."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.eventually import eventually
from support.gateway import configuration, gateway

from extproc.simulation.trace import read

pytestmark = pytest.mark.integration

TURNS, CONVERSATIONS = 3, 4
SECRET = "Project Nightingale will be announced on Thursday. "


async def recorded(tmp_path: Path) -> Path:
    """The trace of a few conversations."""
    key, path = tmp_path / "key", tmp_path / "trace.jsonl"
    key.write_bytes(b"0123456789abcdef\n")
    document = f"logging: {{trace: {{file: {path}, keyFile: {key}}}}}"
    async with gateway(configuration(document, tmp_path)) as running:
        # First, so that its end is known when the last line is there.
        bad = await running.chat("x", max_tokens=-1)
        assert bad.status == 400
        for conversation in range(CONVERSATIONS):
            text = ""
            for turn in range(TURNS):
                text += f"{conversation} {turn} " + "and so on " * 250
                answer = await running.chat(text, system=SECRET * 100, stream=True, max_tokens=5 + turn)
                assert answer.status == 200

        async def all_written() -> bool:
            return path.read_bytes().count(b"\n") == TURNS * CONVERSATIONS

        await eventually(all_written)
    return path


def test_what_was_recorded_is_replayed(tmp_path: Path) -> None:
    path = asyncio.run(recorded(tmp_path))
    assert b"Nightingale" not in path.read_bytes()
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert sorted(line["output_length"] for line in lines) == sorted([5, 6, 7] * CONVERSATIONS)
    trace = read(path)
    assert trace.calls[0].at == 0.0
    first, second, third = trace.calls[:TURNS]
    # A conversation keeps its beginning, and all share the system prompt of 5,100 characters.
    assert second.blocks[: len(first.blocks) - 1] == first.blocks[:-1]
    assert third.blocks[: len(second.blocks) - 1] == second.blocks[:-1]
    assert {call.blocks[:2] for call in trace.calls} == {first.blocks[:2]}

    # Its pods were 50 times as fast as those of the replay.
    options = ["--pods", "2", "--policy", "smg", "--rate", "0.02", "--json"]
    command = [sys.executable, "-m", "extproc", "simulate", str(path), *options]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: Any = json.loads(done.stdout)
    replayed = found["configurations"]["smg"]
    assert replayed["requests"] == TURNS * CONVERSATIONS
    assert replayed["figures"]["failed"]["median"] == 0
    assert replayed["figures"]["hit_rate"]["median"] > 0.3
