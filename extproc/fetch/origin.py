"""GET requests to one server, over a keep-alive connection: no answer of the server holds up the event loop.

Pods, key servers and API servers are asked from the loop that decides requests. A general client parses all that has
arrived before anybody else has a turn: 256 KiB of interim answers of 16 bytes, or of chunks of one byte, take it a
second. Here h11 takes an answer apart, event by event, and the loop has its turn every few of them.
"""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from enum import StrEnum
from typing import Self
from urllib.parse import SplitResult, urlsplit

import h11

#: Bytes that are taken from the connection at a time: one or two pieces for a usual page of metrics.
PIECE = 64 << 10
#: Bytes of an answer's head. As much as gunicorn, nginx and Envoy take of a request's by default, twice over.
MAX_HEAD = 16 << 10
#: Interim answers (1xx) before the final one. None is of use to a GET request; a proxy may send one or two.
MAX_INTERIM = 8
#: Events of h11 from one turn of the loop to the next: each takes some 10 µs.
EVENTS_A_TURN = 200
#: Pieces of a body, which a server makes by its chunks. A page written line by line has some thousands.
MAX_PIECES = 100_000


class Reason(StrEnum):
    """Why there is no answer."""

    #: Refused, reset, cut off; no certificate that is trusted; no HTTP.
    CONNECT = "connect"
    #: More than what was asked to be read, or in more pieces than any server makes.
    TOO_LARGE = "too_large"


class FetchError(Exception):
    """There is no answer, or not all of it. `str()` is for logs; it may quote what the server sent."""

    def __init__(self, reason: Reason, detail: str, *, refused: bool = False) -> None:
        super().__init__(detail)
        self.reason = reason
        #: The connection was refused.
        self.refused = refused


class _Connection:
    """One connection, and the state of HTTP on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._events = 0
        #: Whether anything has come since the last request.
        self.heard = False
        #: Seconds of CPU that the last answer has cost.
        self.cpu = 0.0

    async def ask(self, request: h11.Request) -> h11.Response:
        """The head of the final answer."""
        self.heard, self.cpu = False, 0.0
        self._writer.write((self._http.send(request) or b"") + (self._http.send(h11.EndOfMessage()) or b""))
        await self._writer.drain()
        interim = 0
        while not isinstance(event := await self.next(), h11.Response):
            interim += 1
            if interim > MAX_INTERIM:
                raise FetchError(Reason.CONNECT, f"more than {MAX_INTERIM} interim answers")
        return event

    async def next(self) -> h11.Event | type[h11.PAUSED]:
        """What comes next of the answer."""
        while True:
            self._events += 1
            if self._events % EVENTS_A_TURN == 0:
                await asyncio.sleep(0)
            before = time.thread_time()
            try:
                event = self._http.next_event()
            finally:
                self.cpu += time.thread_time() - before
            if not isinstance(event, type) or event is h11.PAUSED:
                return event
            # What has arrived already comes without a turn of the loop.
            await asyncio.sleep(0)
            data = await self._reader.read(PIECE)
            self.heard = self.heard or bool(data)
            self._http.receive_data(data)

    def reusable(self) -> bool:
        """Whether another request may go over it; it is made ready for that."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        if self._http.trailing_data[0] or self._reader.at_eof():
            return False
        self._http.start_next_cycle()
        return True

    def close(self) -> None:
        # At once: nothing of it is wanted any more, and a peer that does not read must not keep it.
        self._writer.transport.abort()


class Answer:
    """An answer whose body may still be on its way."""

    def __init__(self, head: h11.Response, connection: _Connection) -> None:
        self._connection = connection
        #: HTTP's status, 200 to 999.
        self.status: int = head.status_code
        self._headers = list(head.headers)

    def header(self, name: str) -> str:
        """The values of a header, given in lower case, with commas between; empty where there is none."""
        wanted = name.encode()
        return ", ".join([value.decode("latin-1") for key, value in self._headers if key == wanted])

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes, in pieces of at most `PIECE` bytes.

        Raises:
            FetchError: it was cut off.
        """
        with _named():
            while isinstance(event := await self._connection.next(), h11.Data):
                yield bytes(event.data)

    async def body(self, limit: int) -> bytes:
        """All of the body.

        Raises:
            FetchError: it is longer than `limit` bytes, or was cut off.
        """
        pieces: list[bytes] = []
        size = 0
        async for piece in self.pieces():
            size += len(piece)
            pieces.append(piece)
            if size > limit:
                raise FetchError(Reason.TOO_LARGE, f"more than {limit} bytes")
            if len(pieces) > MAX_PIECES:
                raise FetchError(Reason.TOO_LARGE, f"more than {MAX_PIECES} pieces")
        return b"".join(pieces)

    @property
    def cpu(self) -> float:
        """Seconds of CPU that it took to read it so far."""
        return self._connection.cpu


class Origin:
    """A server that is asked now and then, one request at a time. `close()` it.

    Args:
        url: scheme and authority; what follows them is not looked at.
        headers: of each request, beside `Host`.
        tls: for `https`; None: the system's authorities.
    """

    def __init__(self, url: str, headers: Iterable[tuple[str, str]] = (), *, tls: ssl.SSLContext | None = None) -> None:
        self._url = url
        self._headers = tuple(headers)
        self._tls = tls
        self._kept: _Connection | None = None

    @contextlib.asynccontextmanager
    async def get(self, target: str, headers: Iterable[tuple[str, str]] = ()) -> AsyncIterator[Answer]:
        """The answer to a GET of `target` (path and query). No redirect is followed. Bound it in time.

        The connection is kept where all of the body was read by then, else closed.

        Raises:
            FetchError: there is none.
        """
        connection, head = await self._ask(target, headers)
        try:
            yield Answer(head, connection)
            # An empty body is read by nobody.
            if head.status_code in (204, 304):
                await connection.next()
        except BaseException:
            connection.close()
            raise
        if connection.reusable():
            self._kept = connection
        else:
            connection.close()

    def close(self) -> None:
        """Ends the connection that is kept. Further requests open another."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _ask(self, target: str, headers: Iterable[tuple[str, str]]) -> tuple[_Connection, h11.Response]:
        with _named():
            parts = urlsplit(self._url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError(f"not an address that can be asked: {self._url!r:.200}")
            host = ("host", parts.netloc.rpartition("@")[2])
            request = h11.Request(method="GET", target=target, headers=[host, *self._headers, *headers])
        kept, self._kept = self._kept, None
        if kept is not None:
            try:
                return kept, await self._answered(kept, request)
            except FetchError:
                # Servers close idle connections, and may do so just now: the server has not read the request then.
                if kept.heard:
                    raise
        connection = await self._connect(parts)
        return connection, await self._answered(connection, request)

    async def _answered(self, connection: _Connection, request: h11.Request) -> h11.Response:
        try:
            with _named():
                return await connection.ask(request)
        except BaseException:
            connection.close()
            raise

    async def _connect(self, parts: SplitResult) -> _Connection:
        secure = parts.scheme == "https"
        if secure and self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        with _named():
            port = parts.port or (443 if secure else 80)
            tls = self._tls if secure else None
            return _Connection(*await asyncio.open_connection(parts.hostname, port, ssl=tls, limit=PIECE))


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """What goes wrong on the way, in this module's own words."""
    try:
        yield
    except (OSError, h11.ProtocolError, ValueError) as error:
        refused = isinstance(error, ConnectionRefusedError)
        raise FetchError(Reason.CONNECT, str(error) or type(error).__name__, refused=refused) from None
