"""What stands between client and pods: nothing, Envoy alone, this gateway in its forms, and its peers."""

import asyncio
import contextlib
import json
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import aiohttp
from engines.environment import environment
from gateways import compiled

from extproc.config import loads
from extproc.demo.process import Child, ChildFailed
from extproc.demo.stack import Stack, envoy_binary
from extproc.demo.tokens import local_issuer

HERE = Path(__file__).resolve().parent
#: Seconds for a process to come up and take its first request. smg looks for its workers once a second.
START_TIMEOUT = 60.0
AUTH = "auth: {issuer: https://issuer.example, audiences: [models], jwksUri: 'file:///replaced'}\n"

#: The one that runs from its source. The others are compiled, where a C compiler is there, as the image is.
NOT_COMPILED = "infer-gateway, not compiled"

#: Name -> configuration. All that is left out has its default: all default plugins, a scrape of each pod every 200 ms,
#: metrics.
OURS: dict[str, str] = {
    "infer-gateway": AUTH,
    NOT_COMPILED: AUTH,
    "infer-gateway, no auth": "{}",
    "infer-gateway, 2 workers": "transport: {workers: 2}\n" + AUTH,
    "infer-gateway, grpc.aio": "transport: {mode: grpcio}\n" + AUTH,
}
#: Keeps prefixes on their pods more firmly than the defaults do. It costs about the same: only tokens are measured.
STICKY = "infer-gateway, sticky"
STICKY_CONFIG = f"""{AUTH}
scheduler:
  plugins:
    Filter: {{enabled: [least-request, prefix-affinity]}}
    Score: {{enabled: [{{name: token-load}}]}}
"""
PEERS: dict[str, tuple[str, str]] = {
    "vllm-router round_robin": ("vllm-router", "round_robin"),
    "vllm-router cache_aware": ("vllm-router", "cache_aware"),
    "smg round_robin": ("smg", "round_robin"),
    "smg cache_aware": ("smg", "cache_aware"),
}
DIRECT, FLOOR = "direct", "Envoy alone"
ALL = (DIRECT, FLOOR, *OURS, *PEERS)


@dataclass
class System:
    """Something that takes requests."""

    name: str
    address: str
    #: Part -> the processes that it is made of.
    parts: dict[str, list[int]]
    token: str = "-"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def answers(address: str, token: str) -> None:
    """Waits until a chat request is answered.

    Raises:
        TimeoutError: it was not.
    """
    body = {"model": "bench", "messages": [{"role": "user", "content": "Hello!"}]}
    headers = {"authorization": f"Bearer {token}"}
    async with asyncio.timeout(START_TIMEOUT), aiohttp.ClientSession() as client:
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                url = f"http://{address}/v1/chat/completions"
                async with client.post(url, json=body, headers=headers) as response:
                    await response.read()
                    if response.status == 200:
                        return
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def start(name: str, pods: Sequence[str], envoy_workers: int) -> AsyncIterator[System]:
    """A system by one of the names in `ALL`, in front of `pods`, ready to be asked."""
    starter = _floor if name == FLOOR else _ours if name in OURS or name == STICKY else _peer
    if name == DIRECT:
        yield System(name, pods[0], {})
        return
    async with starter(name, pods, envoy_workers) as system:
        try:
            await answers(system.address, system.token)
        except TimeoutError:
            raise ChildFailed(f"{name} has not answered a request within {START_TIMEOUT:g} s") from None
        yield system


@contextlib.asynccontextmanager
async def _floor(name: str, pods: Sequence[str], envoy_workers: int) -> AsyncIterator[System]:
    folder = Path(tempfile.mkdtemp(prefix="infer-gateway-floor-"))
    endpoints = []
    for pod in pods:
        host, _, port = pod.rpartition(":")
        endpoints.append({"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}})
    admin = folder / "admin.sock"
    template = Template((HERE / "floor.yaml").read_text(encoding="utf-8"))
    path = folder / "envoy.yaml"
    path.write_text(template.substitute(admin_socket=admin, endpoints=json.dumps(endpoints)), encoding="utf-8")
    command = [
        envoy_binary(), "-c", str(path), "--use-dynamic-base-id", "--log-level", "warning",
        "--concurrency", str(envoy_workers),
    ]  # fmt: skip
    child = await Child.start("envoy", command)
    try:
        address = await _listener(admin)
        yield System(name, address, {"Envoy": [child.process.pid]})
    finally:
        await child.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def _listener(admin: Path) -> str:
    async with (
        asyncio.timeout(START_TIMEOUT),
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(admin))) as client,
    ):
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError, LookupError):
                async with client.get("http://envoy/listeners?format=json") as response:
                    page: Any = await response.json(content_type=None)
                one = page["listener_statuses"][0]["local_address"]["socket_address"]
                return f"{one['address']}:{one['port_value']}"
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def _ours(name: str, pods: Sequence[str], envoy_workers: int) -> AsyncIterator[System]:
    config = loads(STICKY_CONFIG if name == STICKY else OURS[name], name).config
    token = "-"
    with tempfile.TemporaryDirectory() as folder:
        if config.auth is not None and config.auth_policy() is not None:
            auth, token = local_issuer(config.auth, Path(folder))
            config = config.model_copy(update={"auth": auth})
        machine_code = name != NOT_COMPILED and not compiled.obstacle()
        env = compiled.environment(machine_code)
        async with Stack(config, pods, envoy_concurrency=envoy_workers, sidecar_env=env) as stack:
            assert stack.sidecar is not None
            # What is measured is what is said to be.
            await stack.sidecar.line(lambda text: f'"compiled":{json.dumps(machine_code)}' in text, START_TIMEOUT)
            assert stack.envoy is not None
            parts = {"Envoy": [stack.envoy.process.pid], "sidecar": [stack.sidecar.process.pid]}
            yield System(name, stack.address, parts, token)


@contextlib.asynccontextmanager
async def _peer(name: str, pods: Sequence[str], _envoy_workers: int) -> AsyncIterator[System]:
    package, policy = PEERS[name]
    script = environment(package, f"{package}.txt") / "bin" / package
    port = free_port()
    command = [
        str(script), *(["launch"] if package == "smg" else []), "--host", "127.0.0.1", "--port", str(port),
        "--worker-urls", *[f"http://{pod}" for pod in pods], "--policy", policy,
        "--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port()),
        "--worker-startup-timeout-secs", "30", "--worker-startup-check-interval", "1",
        "--log-level", "warn" if package == "smg" else "warning",
    ]  # fmt: skip
    child = await Child.start(name, command)
    try:
        yield System(name, f"127.0.0.1:{port}", {"router": [child.process.pid]})
    finally:
        await child.stop(grace=10)
