"""The line between the supervisor and one process: a socket that is the process's standard input.

Down comes one instruction, up come lines that say how ready the process is. Its end means that the other is gone.
"""

import asyncio
import logging
import socket
from collections.abc import Callable

import msgspec

log = logging.getLogger(__name__)

#: Bytes of a line: a configuration of a ConfigMap's 1 MiB, with escapes. The other end is our own.
MAX_LINE = 8 << 20
#: Seconds from one sign of life of a process that serves to the next.
BEAT_INTERVAL = 1.0
_BEAT = b"\n"
_APPLIED = b'{"text":'


class Instruction(msgspec.Struct, frozen=True):
    """The supervisor's message to a process at its start."""

    #: Seed of the hashes that all processes must compute alike. 64 bits.
    secret: int
    #: Identifier of this gateway. 64 bits.
    gateway: int
    #: Which run of the process this is: larger than that of any before.
    run: int


class Status(msgspec.Struct, frozen=True):
    """How a process is."""

    #: Why it is not ready; "": it is.
    not_ready: str
    #: What is wrong where it is ready all the same; "": nothing.
    doubts: str = ""


class Applied(msgspec.Struct, frozen=True):
    """What a process has put into force since it was started."""

    #: Of the configuration.
    text: str


class Line:
    """The process's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def take(cls, fileno: int = 0) -> "Line":
        """Takes the line that is open as `fileno`.

        Raises:
            OSError: it is none.
        """
        return cls(*await asyncio.open_unix_connection(sock=socket.socket(fileno=fileno), limit=MAX_LINE))

    async def instruction(self) -> Instruction:
        """The instruction.

        Raises:
            OSError: the supervisor is gone.
        """
        data = await self._reader.readline()
        if not data:
            raise ConnectionResetError("the supervisor is gone")
        return msgspec.json.decode(data, type=Instruction)

    def tell(self, not_ready: str, doubts: str = "") -> None:
        """Reports the status. `not_ready`: why it is not ready, or ""; `doubts`: what is wrong all the same, or ""."""
        if not self._writer.is_closing():
            self._writer.write(msgspec.json.encode(Status(not_ready, doubts)) + b"\n")

    def applied(self, text: str) -> None:
        """Reports that the configuration of this text was put into force, as far as that can be."""
        if not self._writer.is_closing():
            self._writer.write(msgspec.json.encode(Applied(text)) + b"\n")

    async def beat(self) -> None:
        """Gives signs of life for as long as this process' loop turns."""
        while True:
            if not self._writer.is_closing():
                self._writer.write(_BEAT)
            await asyncio.sleep(BEAT_INTERVAL)

    async def ended(self) -> None:
        """Waits until the supervisor is gone."""
        try:
            await self._reader.read()
        except OSError:
            return


async def read_status(
    reader: asyncio.StreamReader,
    on_status: Callable[[Status], None],
    on_beat: Callable[[], None],
    on_applied: Callable[[Applied], None],
) -> None:
    """Hands on a process's messages, until its line ends."""
    # Half a line is the last word of one that was killed.
    while (line := await reader.readline()).endswith(b"\n"):
        if line == _BEAT:
            on_beat()
        elif line.startswith(_APPLIED):
            on_applied(msgspec.json.decode(line, type=Applied))
        else:
            on_status(msgspec.json.decode(line, type=Status))
