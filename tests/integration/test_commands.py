"""The command line, as a person runs it."""

import asyncio
import json
import re
import signal
import socket
import sys
from pathlib import Path

import pytest
from support.bare import BARE
from support.eventually import PATIENCE

from extproc import __version__
from extproc.process.build_info import compiled

pytestmark = pytest.mark.integration

DATA = Path(__file__).parent.parent / "data" / "config"


async def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `infer-gateway …`."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "extproc", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=BARE,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("name", ["page-scheduler.yaml", "page-auth.yaml"])
async def test_the_pages_examples_pass(name: str) -> None:
    code, out, err = await run("check", "--config", str(DATA / name))
    assert (code, err) == (0, "")
    assert "blockSizeToHash: 64" in out


async def test_a_mistake_has_its_place_and_exit_code_2() -> None:
    code, out, err = await run("check", "--config", str(DATA / "page-auth.template.yaml"))
    assert (code, out) == (2, "")
    assert "{{" in err
    for command in ("check", "serve", "envoy", "demo"):
        code, out, err = await run(command, "--config", "/nowhere/at/all")
        assert (code, out) == (2, "")
        assert "/nowhere/at/all" in err


async def test_wrong_examples_are_refused_with_line_and_path() -> None:
    """One process for each would take a minute; all of them are in the loader's own tests."""
    for name in ("misspelt-plugin", "negative-weight", "many"):
        path = DATA / "wrong" / f"{name}.yaml"
        code, out, err = await run("check", "--config", str(path))
        assert (code, out) == (2, "")
        assert re.search(rf"{re.escape(str(path))}:[0-9]+:[0-9]+: [a-zA-Z.]+", err)
        assert "Traceback" not in err


async def test_version() -> None:
    said = f"{__version__} (compiled)" if compiled() else __version__
    assert await run("version") == (0, f"{said}\n", "")


async def test_demo_once() -> None:
    code, out, err = await run("demo", "--once", "--json", "--pods", "2", "--speedup", "20")
    assert code == 0
    result = json.loads(out)
    assert result["failed"] == 0
    assert result["gateway"] in err
    assert result["admin"] in err
    requests = result["requests"]
    assert {request["status"] for request in requests} == {200}
    assert {request["streamed"] for request in requests} == {True, False}
    assert all(request["decision"] for request in requests)
    assert len(result["pods"]) == 2


async def test_demo_with_the_pages_auth() -> None:
    """Nobody else's provider signs for the demo: it brings keys of its own, the other rules stay."""
    code, out, _ = await run("demo", "--once", "--json", "--config", str(DATA / "page-auth.yaml"))
    assert code == 0
    assert json.loads(out)["failed"] == 0


async def test_demo_stays_up_and_its_commands_work() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "extproc", "demo", "--speedup", "20",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=BARE | {"COLUMNS": "80"},
    )  # fmt: skip
    assert process.stdout is not None
    lines: list[str] = []
    try:
        await _use_the_demo(process, lines)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _use_the_demo(process: asyncio.subprocess.Process, lines: list[str]) -> None:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        while not lines or "OPENAI_API_KEY" not in lines[-1]:
            line = (await process.stdout.readline()).decode()
            assert line, "the demo ended"
            lines.append(line.rstrip("\n"))
        rows = [line for line in lines if re.match(r"(support|code)-", line)]
        assert len(rows) == 12
        assert all(re.search(r" pod-[123]  ", row) and len(row) <= 80 for row in rows)
        for start, found in (("curl ", b"x-modelsim-replica: pod-"), ("echo ", b" (1)  ")):
            (command,) = [line.strip() for line in lines if line.strip().startswith(start)]
            shell = await asyncio.create_subprocess_shell(command, stdout=asyncio.subprocess.PIPE)
            out, _ = await shell.communicate()
            assert shell.returncode == 0, command
            assert found in out, command
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0


async def test_a_port_in_use_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, out, err = await run("demo", "--port", str(port))
    assert (code, out) == (1, "")
    assert err == f"--port {port}: something listens there already; 0 takes a free port\n"


async def test_the_demos_tokens_are_for_its_model(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text("auth: {issuer: a, audiences: [b], jwksUri: 'https://c.example/', models: allowed}\n")
    code, out, _ = await run("demo", "--once", "--json", "--config", str(path))
    assert (code, json.loads(out)["failed"]) == (0, 0)


async def test_options_that_people_try() -> None:
    assert (await run("--version")) == await run("version")
    code, out, _ = await run("-h")
    assert (code, "--install-completion" in out) == (0, True)
    code, _, err = await run("top", "--admin", "https://127.0.0.1:1", "--once")
    assert (code, "write host:port" in err) == (2, True)


async def test_model_server() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "extproc", "model-server", "--port", "0", "--replicas", "2", "--json",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env=BARE,
    )  # fmt: skip
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        replicas = json.loads(await process.stdout.readline())["replicas"]
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert len({replica["address"] for replica in replicas}) == 2


async def test_envoys_bootstrap_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    right, wrong, output = tmp_path / "right.yaml", tmp_path / "wrong.yaml", tmp_path / "envoy.yaml"
    right.write_text("{}\n")
    wrong.write_text("listener: {prot: 1}\n")
    _, printed, _ = await run("envoy", "--config", str(right))
    assert await run("envoy", "--config", str(right), "--output", str(output)) == (0, "", "")
    assert output.read_text() == printed
    code, out, err = await run("envoy", "--config", str(wrong), "--output", str(output))
    assert (code, out) == (2, "")
    assert "listener.prot" in err
    assert output.read_text() == printed
    code, _, err = await run("envoy", "--config", str(right), "--output", str(tmp_path))
    assert (code, "Traceback" in err) == (1, False)


async def test_the_demo_of_two_gateways_that_share() -> None:
    """What one of them picked, the other knows: no request fails, and both took part."""
    code, out, err = await run("demo", "--once", "--json", "--replicas", "2", "--speedup", "20")
    assert code == 0, err
    report = json.loads(out)
    assert report["failed"] == 0
    assert len({replica["gateway"] for replica in report["replicas"]}) == 2
    assert report["replicas"][0] == {"gateway": report["gateway"], "admin": report["admin"]}
    assert all(request["decision"] for request in report["requests"])
