"""Where connections come in: a Unix socket or TCP, with TLS or without."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from extproc.process.background import Background
from extproc.process.repeats import Repeats
from extproc.process.unix_socket import BACKLOG, UNIX, UnixListener
from extproc.transport.tls import Certificates, Pem, Tls

log = logging.getLogger(__name__)

#: Seconds that a client has to finish its handshake. Over any network it takes a few round trips.
HANDSHAKE_TIMEOUT: Final = 10.0
#: Seconds without new connections when the system has no file descriptors or memory for one: others have to end first.
PAUSE: Final = 0.1


class Listener:
    """Takes connections, one protocol for each.

    Args:
        address: `unix:///absolute/path`, or `host:port` (0: a free one).
        protocol: makes what a connection is handed to.
        room: asked before a connection is taken any notice of. False: it is closed.
        tls: on TCP only; None is plain text.
        background: starts the taking of connections again where it died.
    """

    def __init__(
        self,
        address: str,
        protocol: Callable[[], asyncio.Protocol],
        room: Callable[[], bool],
        tls: Tls | None,
        background: Background | None = None,
    ) -> None:
        self._background = background or Background()
        #: Seconds for a TLS handshake.
        self.handshake_timeout = HANDSHAKE_TIMEOUT
        self._address = address
        self._protocol = protocol
        self._room = room
        self._tls = tls
        self._certificates: Certificates | None = None
        self._pem: Pem | None = None
        self._unix: UnixListener | None = None
        self._tcp: list[socket.socket] = []
        self._tasks: list[asyncio.Task[None]] = []
        #: Connections that are not a protocol's yet.
        self.handshakes: set[asyncio.Task[None]] = set()
        self._failed = Repeats(log, "TLS handshake failed")
        self._short = Repeats(log, "connections cannot be taken")

    async def start(self) -> str:
        """Binds and listens. Returns the address, with the port that was chosen.

        Raises:
            OSError: the address cannot be bound, or a certificate not be used.
        """
        address = self._address
        if self._tls is not None:
            if address.startswith(UNIX):
                raise OSError(f"cannot listen on {address}: TLS is for TCP")
            self._certificates = Certificates(self._tls)
            self._pem = self._certificates.load()
        if address.startswith(UNIX):
            self._unix = UnixListener(Path(address.removeprefix(UNIX)))
            listening = [self._unix.socket]
        else:
            listening = await self._bind()
            address = f"{address.rpartition(':')[0]}:{listening[0].getsockname()[1]}"
        self._tasks = [
            self._background.start("accept", partial(self._accept, one), of=str(one.fileno()), needed=True)
            for one in listening
        ]
        return address

    def close(self) -> None:
        """Takes no connections any more. Further calls do nothing."""
        for task in (*self._tasks, *self.handshakes):
            task.cancel()
        self._tasks.clear()
        for one in self._tcp:
            one.close()
        if self._unix is not None:
            self._unix.close()

    async def _bind(self) -> list[socket.socket]:
        """All addresses of the host, on one port."""
        host, _, port = self._address.rpartition(":")
        number = int(port)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host.strip("[]"), number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            for family, _, _, _, name in dict.fromkeys(found):
                # A second gateway on one port must fail to start, not take half of the streams: no SO_REUSEPORT.
                one = socket.socket(family, socket.SOCK_STREAM)
                self._tcp.append(one)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    # `[::]` is every address of the machine, as people expect of a server; but beside an IPv4 socket.
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(len(found) > 1))
                one.bind((name[0], number, *name[2:]))
                one.listen(BACKLOG)
                one.setblocking(False)
                number = number or one.getsockname()[1]
        except OSError as error:
            self.close()
            raise OSError(error.errno, f"cannot listen on {self._address}: {error}") from error
        return self._tcp

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                taken, _ = await loop.sock_accept(listening)
            except OSError as error:
                self._short.warn(str(error))
                await asyncio.sleep(PAUSE)
                continue
            if not self._room():
                taken.close()
                continue
            task = asyncio.create_task(self._welcome(taken))
            self.handshakes.add(task)
            task.add_done_callback(self.handshakes.discard)

    async def _welcome(self, taken: socket.socket) -> None:
        context = self._context()
        timeout = None if context is None else self.handshake_timeout
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol, taken, ssl=context, ssl_handshake_timeout=timeout
            )
        except (OSError, TimeoutError) as error:
            self._failed.warn(str(error) or type(error).__name__)
        except asyncio.CancelledError:
            with contextlib.suppress(OSError):
                taken.close()
            raise

    def _context(self) -> ssl.SSLContext | None:
        if self._certificates is None or self._pem is None:
            return None
        changed = self._certificates.changed()
        if changed is not None:
            self._pem = changed
        return self._pem.context
