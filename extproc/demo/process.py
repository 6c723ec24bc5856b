"""A child process whose log is read line by line."""

import asyncio
import contextlib
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence

#: Lines of a child's log that are kept for an error message.
KEPT_LINES = 40


class ChildFailed(Exception):
    """A process of the stack ended, or did not come up. `str()` names it and quotes the end of its log."""


class Child:
    """A process that this one started, and will end."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, on_line: Callable[[str], None]) -> None:
        self.name = name
        self.process = process
        self.log: deque[str] = deque(maxlen=KEPT_LINES)
        self._on_line = on_line
        self._waiters: list[tuple[Callable[[str], bool], asyncio.Future[str]]] = []
        self._reader = asyncio.create_task(self._read())
        self._output: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        on_line: Callable[[str], None] = lambda _line: None,
        on_output: Callable[[bytes], object] | None = None,
    ) -> "Child":
        """Starts `command`. `on_line` gets each line of its log, `on_output` each line of its standard output."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL if on_output is None else asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=env,
            limit=1 << 20,
            # Ctrl-C in a terminal goes to the whole process group; these are ended in order, by us.
            start_new_session=True,
        )
        child = cls(name, process, on_line)
        if on_output is not None:
            child.read_output(on_output)
        return child

    async def line(self, wanted: Callable[[str], bool], within: float) -> str:
        """The first line from now on, or among those kept, for which `wanted` is true.

        Raises:
            ChildFailed: the process ended first, or `within` seconds passed.
        """
        for line in self.log:
            if wanted(line):
                return line
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiters.append((wanted, future))
        try:
            async with asyncio.timeout(within):
                return await future
        except TimeoutError:
            raise self._failure(f"did not come up within {within:g} s") from None

    def read_output(self, on_output: Callable[[bytes], object]) -> None:
        """Hands each line of the standard output on, until it ends."""
        self._output = asyncio.create_task(self._read_output(on_output))

    async def _read_output(self, on_output: Callable[[bytes], object]) -> None:
        stream = self.process.stdout
        assert stream is not None  # noqa: S101 - it was asked for
        while line := await stream.readline():
            on_output(line)

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def stop(self, grace: float = 5.0) -> int:
        """SIGTERM, and after `grace` seconds SIGKILL. Returns the exit code."""
        if self.process.returncode is None:
            self.signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(grace):
                    await self.process.wait()
            except TimeoutError:
                self.signal(signal.SIGKILL)
        return await self.wait()

    async def kill(self) -> None:
        """SIGKILL, as a crash."""
        self.signal(signal.SIGKILL)
        await self.wait()

    async def wait(self) -> int:
        code = await self.process.wait()
        await self._reader
        if self._output is not None:
            await self._output
        return code

    def _failure(self, what: str) -> ChildFailed:
        tail = "".join(f"\n  {line}" for line in list(self.log)[-10:])
        return ChildFailed(f"{self.name} {what}{tail}")

    async def _read(self) -> None:
        stream = self.process.stderr
        assert stream is not None  # noqa: S101 - it was asked for
        while True:
            try:
                raw = await stream.readline()
            except ValueError:  # a line over the limit
                continue
            if not raw:
                break
            line = raw.decode(errors="replace").rstrip()
            self.log.append(line)
            self._on_line(line)
            for wanted, future in self._waiters:
                if not future.done() and wanted(line):
                    future.set_result(line)
        for _, future in self._waiters:
            if not future.done():
                future.set_exception(self._failure("ended"))
