"""Every command in a document is run, or what it names is looked up: a reader never meets one that does not work.

A new command that fits none of the cases below fails here, until a case says how it is run.
"""

import asyncio
import re
import shlex
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from support.bare import BARE
from support.eventually import PATIENCE
from support.gateway import Gateway, configuration, gateway

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/**/*.md"), ROOT / "bench/README.md"]
#: A program and its first argument.
COMMAND = r"(curl|docker|helm|infer-gateway|kubectl|make|pip|python3?|\.venv/bin/\w+) [\w./-]"
#: As it is in documents, and a real one.
CONFIGURATION = "deploy/kubernetes/configmap.yaml"
#: These run against a live gateway; a whole test each.
LIVE = ("infer-gateway top", "infer-gateway explain", "curl ", "kubectl exec ")
#: Needs what is not here; why that is no gap.
ELSEWHERE = {
    "infer-gateway serve": "every integration test runs it",
    "infer-gateway demo": "tests/integration/test_commands.py",
    "infer-gateway simulate": "tests/integration/test_commands.py, or the test of its own",
    "infer-gateway model-server": "tests/integration/test_commands.py",
    "infer-gateway tune": "tests/unit/extproc/simulation/test_tune.py",
    "infer-gateway convert": "tests/unit/extproc/convert/test_source.py",
    "infer-gateway api-key": "tests/integration/test_credentials.py",
    "infer-gateway check --config gateway.yaml": "what `convert` wrote",
    "infer-gateway envoy --output": "tests/integration/test_commands.py",
    "curl POD:PORT/metrics": "a pod of the reader's",
    "kubectl get ": "reads a cluster",
    "kubectl describe ": "reads a cluster",
    "kubectl logs ": "reads a cluster",
    "kubectl rollout ": "changes a cluster; the objects' names are looked up in tests/distribution",
    ".venv/bin/pip install ./my-plugins": "the reader's own package",
}


def commands() -> Iterator[tuple[str, str]]:
    """Document and command: from shell blocks, indented blocks, and code within text."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        blocks = re.findall(r"```(?:sh|bash|console|shell)\n(.*?)```", text, re.DOTALL)
        text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        blocks += re.findall(r"(?:^ {4}[^\n]+\n)+", text, re.MULTILINE)
        lines = [line for block in blocks for line in joined(block)]
        lines += re.findall(r"`([^`\n]+)`", text)
        for line in lines:
            command = line.strip()
            words = re.sub(r"^(?:\w+=\S+ )+", "", command)
            if re.match(COMMAND, words):
                yield str(path.relative_to(ROOT)), command


def joined(block: str) -> list[str]:
    """The commands of a block: a line goes on while a quotation is open or it ends with a backslash."""
    found, open_ = [""], False
    for line in block.strip("\n").split("\n"):
        found[-1] += line if not open_ else "\n" + line
        if not open_:
            found[-1] = re.sub(r"\s+#.*", "", found[-1])  # whose apostrophes are none of a command's
        open_ = found[-1].count("'") % 2 == 1 or line.endswith("\\")
        if not open_:
            found.append("")
    return [one.replace("\\\n", " ") for one in found if one.strip()]


COMMANDS = sorted(set(commands()))


def told_elsewhere(command: str) -> bool:
    return command.startswith(tuple(ELSEWHERE))


def is_live(command: str) -> bool:
    return command.startswith(LIVE) and not told_elsewhere(command)


async def run(command: str) -> str:
    words = ["bash", "-euc", command]
    process = await asyncio.create_subprocess_exec(
        *words, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**BARE, "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"},
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate()
    assert process.returncode == 0, f"{command}: {err.decode()}"
    return out.decode()


def exists(command: str) -> bool:
    """What a command for a cluster or Docker names in this checkout is there, as is what `python` is to run."""
    words = [word for word in shlex.split(command) if "/" in word and "=" not in word and ":" not in word]
    paths = [ROOT / word.removeprefix("./") for word in words if not word.startswith((".venv/", "/"))]
    return all(path.exists() for path in paths)


@pytest.mark.parametrize(("document", "command"), [pair for pair in COMMANDS if not is_live(pair[1])])
async def test_a_command_works(document: str, command: str) -> None:
    if told_elsewhere(command):
        return
    words = shlex.split(command)
    if words[0] == "make":
        # Not by --dry-run, which runs lines that call make again.
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), document
    elif words[:2] in (["infer-gateway", "check"], ["infer-gateway", "envoy"], ["infer-gateway", "schema"]) or (
        words == ["infer-gateway", "version"]
    ):
        assert await run(command.replace("/etc/config", CONFIGURATION))
    elif words[0] in ("kubectl", "helm", "docker") or any(word.startswith("bench/") for word in words):
        assert exists(command), f"{document} names what is not there: {command}"
    elif words[:2] == ["pip", "install"]:
        extras = re.findall(r"\[([\w,]+)\]", command)
        declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        assert all(f"\n{extra} = [" in declared for one in extras for extra in one.split(","))
    else:
        pytest.fail(f"{document} has a command that no case here knows: {command}")


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway(configuration("{}", tmp_path)) as found:
        assert (await found.chat()).status == 200
        yield found


@pytest.mark.integration
async def test_commands_to_a_gateway_that_runs(running: Gateway, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text('{"model": "m", "messages": [{"role": "user", "content": "Hello"}]}')
    seen = set()
    for document, command in COMMANDS:
        if not is_live(command):
            continue
        live = command
        for there, here in (
            ("kubectl exec deploy/infer-gateway -c sidecar -- python3", shlex.quote(sys.executable)),
            ("/var/run/infer-gateway/envoy-admin.sock", running.stack.config.envoy.admin_socket),
            ("localhost:9090", running.stack.admin), ("127.0.0.1:9090", running.stack.admin),
            ("body.json", str(body)), ("request.json", str(body)),
        ):  # fmt: skip
            live = live.replace(there, here)
        if live.startswith("infer-gateway explain"):
            live += f" --admin {running.stack.admin}"
        if live.startswith("infer-gateway top"):
            live += f" --admin {running.stack.admin} --once"
        assert not live.startswith("kubectl"), f"{document}: {command}"
        assert (await run(live)).strip(), command
        seen.add(command.split()[0])
    assert seen == {"curl", "infer-gateway", "kubectl"}
