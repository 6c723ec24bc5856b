import asyncio
import json
import os
import runpy
import signal
import socket
import sys
from typing import Any

import aiohttp
import pytest

from modelsim import cli


async def start(*arguments: str) -> tuple[asyncio.subprocess.Process, list[dict[str, str]]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-m", "modelsim", *arguments, "--json",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    return process, json.loads(await process.stdout.readline())["replicas"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_until_a_signal(number: signal.Signals) -> None:
    process, rows = await start("--port", "0", "--replicas", "2", "--model", "m", "--lora", "a", "--speedup", "1000")
    assert [row["name"] for row in rows] == ["replica-0", "replica-1"]
    async with aiohttp.ClientSession() as client:
        for row in rows:
            async with client.get(f"http://{row['address']}/v1/models") as response:
                assert [model["id"] for model in (await response.json())["data"]] == ["m", "a"]
    process.send_signal(number)
    _, errors = await process.communicate()
    assert process.returncode == 0
    lines = [f"model-server: {row['name']} listens on http://{row['address']}" for row in rows]
    assert errors.decode().splitlines() == lines


def test_run_in_this_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The signal comes as soon as the addresses were told."""
    announce = cli._announce

    def announce_and_signal(*arguments: Any, **options: Any) -> None:
        announce(*arguments, **options)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(cli, "_announce", announce_and_signal)
    assert cli.run(port=0, replicas=2, speedup=10, lora=["a"], max_loras=1, json=True) == 0
    out, err = capsys.readouterr()
    assert [row["name"] for row in json.loads(out)["replicas"]] == ["replica-0", "replica-1"]
    assert err.count("listens on http://127.0.0.1:") == 2
    assert cli.run(port=0) == 0
    assert capsys.readouterr().out == ""


def test_an_address_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert cli.main(["--port", str(taken.getsockname()[1])]) == 1
    assert "cannot listen" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--replicas", "0"],
        ["--port", "-1"],
        ["--port", "65535", "--replicas", "2"],
        ["--speedup", "0"],
        ["--max-loras", "-1"],
        ["--max-loras", "0", "--lora", "a"],
        ["--odd"],
    ],
)
def test_arguments_that_make_no_sense(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        cli.main(arguments)
    assert error.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_as_a_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["modelsim", "--help"])
    with pytest.raises(SystemExit) as error:
        runpy.run_module("modelsim", run_name="__main__")
    assert error.value.code == 0
    assert "without a GPU" in capsys.readouterr().out
