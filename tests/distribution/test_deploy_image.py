"""The image's recipe, and the one program in it that is not in the wheel."""

import asyncio
import re
import socket
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.gateway import MODEL, configuration, gateway

from extproc.config import load
from extproc.envoy.bootstrap import template

ROOT = Path(__file__).parents[2]
DRAIN = ROOT / "deploy" / "drain-envoy"
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
IGNORE = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
STAGES = list(re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:])


async def drain(*arguments: str) -> tuple[int, str]:
    """Exit code of drain-envoy, and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(DRAIN), *arguments, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_envoy_that_is_told_to_drain_closes_connections_and_goes_on_serving(tmp_path: Path) -> None:
    async with gateway(configuration("{}", tmp_path), pods=1) as running:
        body = {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "Hello"}]}

        async def asked() -> str:
            async with running.client.post("/v1/chat/completions", json=body) as response:
                assert response.status == 200
                return response.headers.get("connection", "")

        assert await asked() != "close"
        assert await drain(running.stack.config.envoy.admin_socket) == (0, "")
        assert await asked() == "close"
        assert await asked() == "close"  # a new connection


async def test_an_envoy_that_is_away_is_told_of(tmp_path: Path) -> None:
    code, said = await drain(str(tmp_path / "none.sock"))
    assert code == 1
    assert said.startswith(f"drain-envoy: {tmp_path}/none.sock: ")
    assert len(said.splitlines()) == 1


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Callable[[bytes], str]]:
    """A function that makes an admin socket which answers one connection with given bytes."""
    threads: list[threading.Thread] = []
    listeners: list[socket.socket] = []

    def answer(data: bytes) -> str:
        listener = socket.socket(socket.AF_UNIX)
        listeners.append(listener)
        path = str(tmp_path / "admin.sock")
        listener.bind(path)
        listener.listen(1)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(data)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return path

    yield answer
    for thread in threads:
        thread.join(10)
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", "Envoy answered 403"),
        (b"nonsense\r\n\r\n", "nonsense"),
        (b"", "closed connection"),
    ],
)
async def test_an_answer_that_is_none(answering: Callable[[bytes], str], data: bytes, said: str) -> None:
    code, text = await drain(answering(data))
    assert code == 1
    assert said in text


async def test_it_wants_one_socket() -> None:
    code, said = await drain()
    assert code != 0
    assert said == "usage: drain-envoy [--on-stop URL] SOCKET\n"


def test_it_can_be_run_and_needs_nothing_but_python() -> None:
    assert DRAIN.stat().st_mode & 0o111
    text = DRAIN.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env python3\n")
    assert set(re.findall(r"^(?:import|from) ([\w]+)", text, flags=re.MULTILINE)) <= set(sys.stdlib_module_names)


def test_each_stage_starts_from_its_argument() -> None:
    first = DOCKERFILE.index("FROM ")
    images = dict(re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", DOCKERFILE[:first], flags=re.MULTILINE))
    assert [stage.splitlines()[0] for stage in STAGES] == ["${BUILD_IMAGE} AS build", "${BASE_IMAGE}"]
    # What is compiled is for one minor version of Python.
    assert images["BASE_IMAGE"] == f"{images['BUILD_IMAGE']}-slim"


def test_the_request_path_is_compiled_unless_it_is_asked_not_to_be() -> None:
    build, final = STAGES
    assert "ARG COMPILE=1\n" in build
    assert "HATCH_BUILD_HOOK_ENABLE_MYPYC=${COMPILE} /opt/build/bin/pip wheel" in build
    assert "MYPYC" not in final


def test_the_wheel_is_built_once_with_what_it_is_made_of() -> None:
    build, final = STAGES
    assert build.count("pip wheel") == 1
    assert "ARG EXTRAS=speed,otel,redis\n" in build
    assert "[${EXTRAS}]" in build
    assert "pip" not in final
    copied = set(re.findall(r"^COPY (.+) \S+$", build, flags=re.MULTILINE))
    sources = {source.rstrip("/") for line in copied for source in line.split()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {
        "pyproject.toml", project["project"]["readme"], *project["project"]["license-files"], *wheel["packages"],
        *(source.split("/")[0] for source in wheel["force-include"]),
    }  # fmt: skip
    assert sources == needed | {"requirements"}
    context = {line.removeprefix("!") for line in IGNORE if line.startswith("!")}
    assert IGNORE[1] == "*"
    assert context == sources | {"deploy/drain-envoy"}
    assert all((ROOT / source).exists() for source in context)


def test_the_image_runs_the_program_as_nobody_in_particular() -> None:
    final = STAGES[1]
    assert 'ENTRYPOINT ["infer-gateway"]' in final
    user = re.search(r"^USER (\d+):(\d+)$", final, flags=re.MULTILINE)
    assert user is not None
    assert user.groups() == ("65532", "65532")
    assert int(user[1]) > 0
    # A fresh volume that is mounted there belongs to that user. /var/run is a link to /run.
    config = load(str(ROOT / "deploy/kubernetes/configmap.yaml"), {}).config
    folder = str(Path(config.envoy.admin_socket).parent).removeprefix("/var")
    assert f"mkdir -p {folder} && chown 65532:65532 {folder}" in final
    assert f"COPY {DRAIN.relative_to(ROOT)} /usr/local/bin/{DRAIN.name}" in final


def test_the_bootstrap_needs_no_more_than_a_read_only_root() -> None:
    """Every path in it is one of the placeholders, which lie in the shared folder."""
    paths = re.findall(r'(?:path|filename): "?(/[^"\s}]+)', template())
    assert paths == []
