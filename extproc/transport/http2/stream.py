# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""One gRPC call on an HTTP/2 stream: messages out of DATA frames, and replies into them.

A stream that is paused holds its peer up by its window, and no other stream with it. One that cannot take more all the
same, in either direction, is ended with a status. Section numbers are those of RFC 9113.
"""

from collections import OrderedDict, deque
from struct import Struct
from typing import Final, Protocol

from extproc.transport.grpc_status import OK_TRAILERS, RESPONSE_HEADERS, TABLE_SIZE_0, Status, trailers
from extproc.transport.http2 import frames
from extproc.transport.http2.frames import END_HEADERS, END_STREAM, ConnectionFault, ErrorCode, frame, rst_stream

#: gRPC over HTTP/2, "Length-Prefixed-Message": compressed flag, length.
PREFIX_SIZE: Final = 5
#: Largest frame that is taken. A body costs some microseconds a frame, and a partial frame is held: 1 MiB makes the
#: first invisible (the default of 16 KiB does not) and the second small.
MAX_FRAME = 1 << 20
#: Window of a stream, bytes: a common long prompt comes without a pause, and
#: what is sent to a stream that is not read from is held. The window is topped up when half of it was read.
WINDOW: Final = 1 << 20
READ_ON: Final = WINDOW // 2
#: The connection's window is as large as can be, and topped up when half of it is used: a stream that is not read from
#: must not stop the others. What is held is bounded by each stream's window, and by limits that end one stream.
TOP_UP: Final = 1 << 30
#: Most bytes that all streams of a connection hold together: messages that are not complete, or wait for their turn,
#: and replies that the peer does not take. Bodies pass in one go, so this is 256 requests of 1 MiB caught half-way.
MAX_HELD: Final = 256 << 20
#: The same for all connections of a server: two peers at their limit.
MAX_HELD_BY_ALL: Final = 512 << 20
#: Streams that ended before their peer had: frames of theirs may be on their way and mean nothing (section 5.1). Only
#: refused calls and faults end so; older ones than these count as closed.
MAX_REMEMBERED: Final = 256

_PREFIX: Final = Struct(">BL")
_REPLY: Final = Struct(">HBHLBL")  # a DATA frame's head, type and flags in one, and the prefix of the message in it


class Receiver(Protocol):
    """What a stream calls. Must not raise."""

    def message(self, payload: bytes, /) -> None:
        """A whole message. Not called while the stream is paused, nor after it ended."""

    def half_closed(self) -> None:
        """The peer sends no more messages. `finish` the stream, now or later."""

    def ended(self) -> None:
        """The stream is over, for whatever reason. Called exactly once, and the last of all calls."""


class Holdings:
    """What all connections of a server hold, in bytes: `total` and its `limit`."""

    __slots__ = ("limit", "total")

    def __init__(self, max_message: int) -> None:
        self.total = 0
        self.limit = max(MAX_HELD_BY_ALL, 4 * max_message)


class Link:
    """What the streams of a connection share."""

    __slots__ = (
        "_endings", "_table_given_up", "blocked", "closed", "draining", "frame_size", "held", "holdings",
        "initial_window", "max_frame", "max_held", "max_message", "max_queued", "out", "read_on", "remembered",
        "streams", "top_up", "window",
    )  # fmt: skip

    def __init__(self, max_message: int, holdings: Holdings) -> None:
        self.streams: dict[int, Stream] = {}
        self.draining = False
        self.closed = False
        #: Frames that are to be sent.
        self.out: list[bytes] = []
        # What the peer takes: bytes on all streams together, on a new stream, and in one frame.
        self.window = self.initial_window = frames.DEFAULT_WINDOW
        self.frame_size = frames.DEFAULT_FRAME_SIZE
        #: Streams with replies for which the peer has no room.
        self.blocked: dict[int, Stream] = {}
        self.max_message = max_message
        #: Bytes: of a frame of the peer's, and read before the window is topped up, on a stream and on all of them.
        self.max_frame, self.read_on, self.top_up = MAX_FRAME, READ_ON, TOP_UP
        #: A body that is sent back in pieces is a little more than the body.
        self.max_queued = max_message + max_message // 16
        self.held = 0
        self.max_held = max(MAX_HELD, 4 * max_message)
        self.holdings = holdings
        self.remembered: OrderedDict[int, None] = OrderedDict()
        self._table_given_up = False
        #: Where in `out` the trailers of streams are that end with them.
        self._endings: dict[int, int] = {}

    def has_room(self, size: int) -> bool:
        """Whether `size` bytes more may be held."""
        return self.held + size <= self.max_held and self.holdings.total + size <= self.holdings.limit

    def hold(self, size: int) -> None:
        """`size` bytes more are held, or less."""
        self.held += size
        self.holdings.total += size

    def data_to_send(self) -> bytes:
        """What is to be sent now. Each byte is handed out once."""
        out = self.out
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self._endings.clear()
        return data

    def ending(self, stream_id: int, block: bytes) -> None:
        """Sends the trailers of a stream that its peer has half-closed."""
        if self._table_given_up:
            self._endings[stream_id] = len(self.out)
        self.headers(stream_id, END_STREAM, block)

    def unwanted(self, stream_id: int) -> None:
        """The peer has reset a stream that is over. Trailers that were not handed out yet would only wake it up."""
        at = self._endings.pop(stream_id, None)
        if at is not None:
            self.out[at] = b""

    def headers(self, stream_id: int, flags: int, block: bytes) -> None:
        """Sends a header block. `flags`: beside END_HEADERS."""
        if not self._table_given_up:
            # RFC 7541 section 4.2: a table of size 0, whatever the peer may allow. The size has to be sent, once.
            self._table_given_up = True
            block = TABLE_SIZE_0 + block
        self.out.append(frame(frames.HEADERS, END_HEADERS | flags, stream_id, block))

    def refuse(self, stream_id: int, code: ErrorCode) -> None:
        """Resets the stream; what the peer has sent already is ignored."""
        self.out.append(rst_stream(stream_id, code))
        self.remembered[stream_id] = None
        if len(self.remembered) > MAX_REMEMBERED:
            self.remembered.popitem(last=False)

    def set(self, name: int, value: int) -> None:
        """Takes a setting of the peer's (section 6.5.2). Most do not concern a server that pushes nothing.

        Raises:
            ConnectionFault: the value is not allowed.
        """
        if name == frames.INITIAL_WINDOW_SIZE:
            if value > frames.MAX_31_BITS:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE out of range")
            # Section 6.9.2: open streams change as well; their windows may become negative.
            change = value - self.initial_window
            self.initial_window = value
            for stream in self.streams.values():
                stream.window += change
                if stream.window > frames.MAX_31_BITS:
                    raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a stream's window is too large")
        elif name == frames.MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME_SIZE <= value <= frames.LARGEST_FRAME_SIZE:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE out of range")
            self.frame_size = value
        elif name == frames.ENABLE_PUSH and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH out of range")

    def send_queued(self) -> None:
        """Gives each stream that waits a frame in turn, while there is room."""
        progress = True
        while progress:
            progress = False
            for stream in list(self.blocked.values()):
                progress |= stream.send_piece()


class Stream:
    """One call. `send`, `finish`, `pause`, `resume` are for its receiver; the rest is for the connection.

    `window`: bytes that the peer takes on this stream.
    """

    __slots__ = (
        "_buffer", "_finish", "_headers_sent", "_link", "_paused", "_queue", "_queued", "_wanted", "closed",
        "half_closed", "heard", "id", "received", "receiver", "window",
    )  # fmt: skip

    receiver: Receiver

    def __init__(self, link: Link, stream_id: int, window: int, *, half_closed: bool) -> None:
        self.id = stream_id
        self.window = window
        #: True: the peer sends no more.
        self.half_closed = half_closed
        #: True: what is sent goes nowhere.
        self.closed = False
        #: Whether a message came.
        self.heard = False
        #: Bytes received since the peer's window was topped up.
        self.received = 0
        self._link = link
        self._headers_sent = False
        self._paused = False
        # From the peer: what is not a whole message yet, or waits; and how much of it is worth a look.
        self._buffer: bytearray | None = None
        self._wanted = PREFIX_SIZE
        # To the peer: what it has no room for, and the trailers that come after it.
        self._queue: deque[memoryview] | None = None
        self._queued = 0
        self._finish: bytes | None = None

    # The receiver's side

    def send(self, payload: bytes) -> None:
        """Sends a message; later, if the peer has no room. A stream whose peer takes too little is reset."""
        if self.closed or self._finish is not None:
            return
        link = self._link
        size = len(payload)
        total = size + PREFIX_SIZE
        if not self._headers_sent:
            self._headers_sent = True
            link.headers(self.id, 0, RESPONSE_HEADERS)
        if self._queue is None and total <= link.window and total <= self.window and total <= link.frame_size:
            link.window -= total
            self.window -= total
            # Type DATA is 0, and so are the flags.
            link.out.append(_REPLY.pack(total >> 8, total & 0xFF, 0, self.id, 0, size) + payload)
            return
        if self._queued + total > link.max_queued or not link.has_room(total):
            self.reset(ErrorCode.ENHANCE_YOUR_CALM)
            return
        if self._queue is None:
            self._queue = deque()
            link.blocked[self.id] = self
        self._queue.append(memoryview(_PREFIX.pack(0, size) + payload))
        self._queued += total
        link.hold(total)
        while self.send_piece():
            pass

    def finish(self, status: Status, message: str = "") -> None:
        """Ends the call, after what was sent before. Further calls do nothing."""
        if self.closed or self._finish is not None:
            return
        block = OK_TRAILERS if status is Status.OK and not message else trailers(status, message)
        # gRPC over HTTP/2, "Responses": without a message, one block is headers and trailers.
        self._finish = block if self._headers_sent else RESPONSE_HEADERS + block
        self._paused = True  # no reader is left for further messages
        if self._queue is None:
            self._send_trailers()

    def pause(self) -> None:
        """Until `resume`, neither messages are delivered nor their end."""
        self._paused = True

    def resume(self) -> None:
        if self.closed or self._finish is not None:
            return
        self._paused = False
        self._deliver()
        self.read_on()

    # The connection's side: from the peer

    def read_on(self) -> None:
        """Lets the peer send more, where that is due; nothing while the stream is paused."""
        if self.received >= self._link.read_on and not self._paused and not self.half_closed:
            self._link.out.append(frames.window_update(self.id, self.received))
            self.received = 0

    def take(self, data: bytes, start: int, stop: int) -> None:
        """A piece of the peer's messages."""
        if self._buffer is None and not self._paused:
            start = self._messages(data, start, stop)
        if start == stop or self.closed or self._finish is not None:
            return
        buffer = self._buffer
        if buffer is None:
            buffer = self._buffer = bytearray()
        link = self._link
        size = stop - start
        # Only a stream that is paused can hold more than one message and the frame that ended it.
        most = link.max_message + PREFIX_SIZE + link.max_frame
        if len(buffer) + size > most or not link.has_room(size):
            self.finish(Status.RESOURCE_EXHAUSTED, "too much waits to be handled")
            return
        buffer += memoryview(data)[start:stop]
        link.hold(size)
        if len(buffer) >= self._wanted and not self._paused:
            self._deliver()

    def end_of_messages(self) -> None:
        """The peer has half-closed the stream."""
        self.half_closed = True
        if not self._paused:
            self._deliver()

    def reset(self, code: ErrorCode) -> None:
        """Section 5.4.2: ends the stream with an error."""
        self._link.refuse(self.id, code)
        self.end()

    def end(self) -> None:
        """The stream is over."""
        link = self._link
        del link.streams[self.id]
        self.closed = True
        self._paused = True  # `send` may have ended it, in the middle of a piece with more messages
        if self._buffer is not None:
            link.hold(-len(self._buffer))
            self._buffer = None
        if self._queue is not None:
            link.hold(-self._queued)
            self._queue = None
            del link.blocked[self.id]
        if link.draining and not link.streams:
            link.closed = True
        self.receiver.ended()

    def _messages(self, data: bytes, start: int, stop: int) -> int:
        """Delivers the whole messages in `data`, and returns where they end."""
        while stop - start >= PREFIX_SIZE:
            compressed, size = _PREFIX.unpack_from(data, start)
            if compressed:
                # gRPC's "Compression": a flag without an encoding that both know. None is offered here.
                self.finish(Status.UNIMPLEMENTED, "compressed messages are not taken")
                return stop
            if size > self._link.max_message:
                self.finish(Status.RESOURCE_EXHAUSTED, f"message larger than {self._link.max_message} bytes")
                return stop
            after = start + PREFIX_SIZE + size
            if after > stop:
                self._wanted = PREFIX_SIZE + size
                return start
            self.heard = True
            self.receiver.message(data[start + PREFIX_SIZE : after])
            start = after
            if self._paused:
                break
        self._wanted = PREFIX_SIZE
        return start

    def _deliver(self) -> None:
        """What waited: messages, then their end."""
        buffer = self._buffer
        if buffer is not None:
            size = len(buffer)
            used = self._messages(bytes(buffer), 0, size)
            if self._buffer is None:
                return  # the stream has ended
            self._link.hold(-used)
            if used == size:
                self._buffer = None
            else:
                del buffer[:used]
            if self._paused:
                return
        if not self.half_closed or self.closed:
            return
        if self._buffer is None:
            self.receiver.half_closed()
        else:
            self.finish(Status.INTERNAL, "the last message is not complete")

    # The connection's side: to the peer

    def send_piece(self) -> bool:
        """Sends one frame of what waits. False: nothing does, or there is no room."""
        queue = self._queue
        link = self._link
        room = min(link.window, self.window, link.frame_size)
        if queue is None or room <= 0:
            return False
        rest = queue[0]
        piece = rest[:room]
        size = len(piece)
        if size == len(rest):
            queue.popleft()
        else:
            queue[0] = rest[size:]
        link.window -= size
        self.window -= size
        link.hold(-size)
        self._queued -= size
        link.out.append(frame(frames.DATA, 0, self.id, bytes(piece)))
        if not queue:
            self._queue = None
            del link.blocked[self.id]
            if self._finish is not None:
                self._send_trailers()
        return True

    def _send_trailers(self) -> None:
        link = self._link
        assert self._finish is not None  # noqa: S101 - set by `finish`
        if self.half_closed:
            link.ending(self.id, self._finish)
        else:
            link.headers(self.id, END_STREAM, self._finish)
            link.refuse(self.id, ErrorCode.NO_ERROR)  # section 8.1: the rest of the request is not wanted
        self.end()
