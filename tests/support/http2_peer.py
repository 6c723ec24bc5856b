"""The other end of an `Http2Connection`, without sockets: frames in, frames out, and receivers that keep what they get."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from extproc.transport.grpc_status import TABLE_SIZE_0, Status
from extproc.transport.http2.connection import Http2Connection
from extproc.transport.http2.frames import DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, frame, settings
from extproc.transport.http2.requests import Route
from extproc.transport.http2.stream import Holdings, Stream

PATH = b"/envoy.service.ext_proc.v3.ExternalProcessor/Process"
HEALTH_PATH = b"/grpc.health.v1.Health/Check"
HELLO = PREFACE + settings({})

Fields = list[tuple[bytes, bytes]]


def fields(path: bytes = PATH) -> Fields:
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"sidecar"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ]


def block(of: Fields) -> bytes:
    """A header block of literals that enter no table; no string may be longer than 126 bytes."""
    return b"".join([b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value for name, value in of])


REQUEST = block(fields())


def opening(stream_id: int, flags: int = 0, of: bytes = REQUEST) -> bytes:
    """HEADERS that open a call. `flags`: beside END_HEADERS."""
    return frame(HEADERS, END_HEADERS | flags, stream_id, of)


def prefixed(payload: bytes) -> bytes:
    """A gRPC message."""
    return b"\0" + len(payload).to_bytes(4) + payload


def message(stream_id: int, payload: bytes, flags: int = 0) -> bytes:
    """A gRPC message in one DATA frame."""
    return frame(DATA, flags, stream_id, prefixed(payload))


class Frame(NamedTuple):
    kind: int
    flags: int
    stream_id: int
    payload: bytes


def parse(data: bytes) -> Iterator[Frame]:
    """The frames in `data`, which must end with one."""
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 3])
        stop = at + 9 + size
        assert stop <= len(data)
        yield Frame(data[at + 3], data[at + 4], int.from_bytes(data[at + 5 : at + 9]), data[at + 9 : stop])
        at = stop


class Call:
    """A receiver that keeps what it gets, and answers as the peer says."""

    def __init__(self, stream: Stream, route: Route, answer: "Callable[[Call, bytes], None]") -> None:
        self.stream = stream
        self.route = route
        self.messages: list[bytes] = []
        self.half_closes = 0
        self.ends = 0
        #: True: the end of messages is not answered, so that the stream stays open.
        self.lingers = False
        self._answer = answer

    def message(self, payload: bytes) -> None:
        assert type(payload) is bytes
        assert self.ends == 0
        assert self.half_closes == 0
        self.messages.append(payload)
        self._answer(self, payload)

    def half_closed(self) -> None:
        assert self.ends == 0
        self.half_closes += 1
        if not self.lingers:
            self.stream.finish(Status.OK)

    def ended(self) -> None:
        self.ends += 1


def echo(call: Call, payload: bytes) -> None:
    call.stream.send(payload)


def silent(_call: Call, _payload: bytes) -> None:
    pass


class Peer:
    """A client of frames. `answer`: what is done with each message."""

    def __init__(
        self,
        answer: Callable[[Call, bytes], None] = echo,
        *,
        max_streams: int = 100,
        max_message: int = 1 << 20,
        greet: bool = True,
        lingers: bool = False,
        holdings: Holdings | None = None,
    ) -> None:
        self.calls: list[Call] = []
        self._lingers = lingers
        self._table_given_up = False
        self._answer = answer
        self.machine = Http2Connection(
            self._accept, max_streams=max_streams, max_message=max_message, holdings=holdings
        )
        if greet:
            # What is said first is no subject of most tests.
            self.said(HELLO)

    def _accept(self, stream: Stream, route: Route) -> Call:
        call = Call(stream, route, self._answer)
        call.lingers = self._lingers
        self.calls.append(call)
        return call

    def said(self, *frames: bytes) -> list[Frame]:
        """Sends all of `frames` in one piece, and gives what came back."""
        self.machine.receive(b"".join(frames))
        return self.heard()

    def heard(self) -> list[Frame]:
        heard = list(parse(self.machine.data_to_send()))
        for at, f in enumerate(heard):
            if f.kind == HEADERS and not self._table_given_up:
                # The first header block says that there is no table; what it says besides is what tests look at.
                assert f.payload.startswith(TABLE_SIZE_0)
                heard[at] = f._replace(payload=f.payload[1:])
                self._table_given_up = True
        return heard


def data(frames: list[Frame], stream_id: int) -> bytes:
    """The payload of all DATA frames of a stream."""
    return b"".join([f.payload for f in frames if f.kind == DATA and f.stream_id == stream_id])


def is_end(f: Frame, stream_id: int) -> bool:
    return f.kind == HEADERS and f.stream_id == stream_id and bool(f.flags & END_STREAM)
