"""gRPC over HTTP/2, the server's side of one connection, without I/O.

For a peer that is trusted but may be wrong: one Envoy, on a Unix socket. `receive` takes bytes and calls the
receivers of the streams; what they send, and what the protocol wants said, is collected in `data_to_send`. Section
numbers are those of RFC 9113.

Nothing here waits: a stream that cannot take more, in either direction, is ended with a status, and no other with it.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from struct import Struct
from typing import Final, Protocol

from extproc.transport import frames
from extproc.transport.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    HEAD_SIZE,
    MAX_31_BITS,
    PADDED,
    PREFACE,
    PRIORITY_FLAG,
    ErrorCode,
    frame,
)
from extproc.transport.grpc_status import NOT_GRPC, OK_TRAILERS, RESPONSE_HEADERS, Status, trailers
from extproc.transport.requests import MAX_HEADER_BLOCK, CompressionError, MalformedRequest, RequestDecoder, Route

#: Largest frame that is taken. A body costs some microseconds a frame, and a partial frame is held: 1 MiB makes the
#: first invisible (the default of 16 KiB does not) and the second small.
MAX_FRAME: Final = 1 << 20
#: Windows of the peer are as large as can be, and topped up when half of one is used: what is held is bounded by the
#: limits below, which end one stream. A full window would stop all of them.
TOP_UP: Final = 1 << 30
#: Most bytes that all streams of a connection hold together: messages that are not complete, or wait for their turn,
#: and replies that the peer does not take. Bodies pass in one go, so this is 256 requests of 1 MiB caught half-way.
MAX_HELD: Final = 256 << 20
#: Streams that ended before their peer had: frames of theirs may be on their way and mean nothing (section 5.1). Only
#: refused calls and our own faults end so; older ones than these count as closed.
MAX_REMEMBERED: Final = 256
#: gRPC's message prefix: compressed flag, length.
PREFIX_SIZE: Final = 5

_HEAD: Final = Struct(">HBBBL")  # length (16 + 8 bits), type, flags, stream
_PREFIX: Final = Struct(">BL")
_REPLY: Final = Struct(">HBHLBL")  # a DATA frame's head, type and flags together, and the prefix of the message in it
_SETTING: Final = Struct(">HL")


class Receiver(Protocol):
    """What a stream's calls go to. Must not raise."""

    def message(self, payload: bytes, /) -> None:
        """A whole message. Not called while the stream is paused, or after it ended."""

    def half_closed(self) -> None:
        """The peer will send no more messages. `finish` the stream, now or later."""

    def ended(self) -> None:
        """The stream is over, for whatever reason. Called exactly once, and the last of all calls."""


class ConnectionFault(Exception):
    """Section 5.4.1: the peer broke the protocol in a way that ends the connection."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Stream:
    """One call."""

    __slots__ = (
        "_buffer", "_connection", "_finish", "_half_closed", "_headers_sent", "_paused", "_queue", "_queued",
        "_received", "_wanted", "_window", "closed", "id", "receiver",
    )  # fmt: skip

    receiver: Receiver

    def __init__(self, connection: "Http2Connection", stream_id: int, window: int) -> None:
        self.id = stream_id
        #: True: what is sent goes nowhere.
        self.closed = False
        self._connection = connection
        self._window = window
        self._headers_sent = False
        self._half_closed = False
        self._paused = False
        # From the peer: what is not a whole message yet, or waits; bytes needed before it is worth a look.
        self._buffer: bytearray | None = None
        self._wanted = 0
        self._received = 0
        # To the peer: what its windows have no room for, and the trailers behind that.
        self._queue: deque[memoryview] | None = None
        self._queued = 0
        self._finish: bytes | None = None

    def send(self, payload: bytes) -> None:
        """Sends a message; if the peer has no room, later. A stream whose peer takes nothing is ended."""
        if self.closed or self._finish is not None:
            return
        connection = self._connection
        size = len(payload)
        total = size + PREFIX_SIZE
        if not self._headers_sent:
            self._headers_sent = True
            connection._out.append(frame(frames.HEADERS, END_HEADERS, self.id, RESPONSE_HEADERS))
        if (
            total <= connection._window
            and total <= self._window
            and total <= connection._frame_size
            and self._queue is None
        ):
            connection._window -= total
            self._window -= total
            # Type DATA is 0, and so are its flags.
            connection._out.append(_REPLY.pack(total >> 8, total & 0xFF, 0, self.id, 0, size) + payload)
            return
        if not connection._hold(total) or self._queued + total > connection._max_queued:
            connection._reset(self, ErrorCode.ENHANCE_YOUR_CALM)
            return
        if self._queue is None:
            self._queue = deque()
            connection._blocked[self.id] = self
        self._queue.append(memoryview(_PREFIX.pack(0, size) + payload))
        self._queued += total
        connection._held += total
        connection._send_queued(self)

    def finish(self, status: Status, message: str = "") -> None:
        """Ends the call, after what was sent before. Further calls do nothing."""
        if self.closed or self._finish is not None:
            return
        self._paused = True  # what still comes is nobody's
        block = OK_TRAILERS if status is Status.OK and not message else trailers(status, message)
        if self._headers_sent:
            self._finish = block
        else:
            self._finish = RESPONSE_HEADERS + block  # gRPC over HTTP/2: Trailers-Only
        if self._queue is None:
            self._connection._send_trailers(self, self._finish)

    def pause(self) -> None:
        """Until `resume` no message is delivered, nor the end of messages."""
        self._paused = True

    def resume(self) -> None:
        if self.closed or self._finish is not None:
            return
        self._paused = False
        self._connection._deliver(self)


class Http2Connection:
    """The machine of one connection.

    Args:
        accept: called with each new stream and its route, `PROCESS` or `HEALTH_CHECK`; gives its receiver.
        max_streams: most streams at a time; the peer gets REFUSED_STREAM for more.
        max_message: most bytes of a message in either direction.
    """

    __slots__ = (
        "_accept", "_blocked", "_decoder", "_draining", "_fragments", "_frame_size", "_greeted", "_held",
        "_initial_window", "_last_id", "_max_held", "_max_message", "_max_queued", "_max_streams", "_opening", "_out",
        "_partial", "_received", "_remembered", "_streams", "_wanted", "_window", "closed", "fault",
    )  # fmt: skip

    def __init__(self, accept: Callable[[Stream, Route], Receiver], *, max_streams: int, max_message: int) -> None:
        #: True: send what is to be sent, then close. Nothing more is taken.
        self.closed = False
        #: Why the connection ended, where the peer was at fault.
        self.fault = ""
        self._accept = accept
        self._max_streams = max_streams
        self._max_message = max_message
        # A body that is sent back in pieces, with some room for their framing: wire's pieces are of 62 kB.
        self._max_queued = max_message + max_message // 16
        self._max_held = max(MAX_HELD, 4 * max_message)
        self._streams: dict[int, Stream] = {}
        self._remembered: OrderedDict[int, None] = OrderedDict()
        self._last_id = 0
        self._draining = False
        self._held = 0
        # From the peer
        self._decoder = RequestDecoder()
        self._greeted = False
        self._partial = bytearray()
        self._wanted = len(PREFACE) + HEAD_SIZE
        self._received = 0
        self._fragments: bytearray | None = None
        self._opening = (0, 0)
        # To the peer
        self._window = self._initial_window = frames.DEFAULT_WINDOW
        self._frame_size = frames.DEFAULT_FRAME_SIZE
        self._blocked: dict[int, Stream] = {}
        self._out = [
            frames.settings(
                {
                    frames.HEADER_TABLE_SIZE: 0,
                    frames.MAX_CONCURRENT_STREAMS: max_streams,
                    frames.INITIAL_WINDOW_SIZE: MAX_31_BITS,
                    frames.MAX_FRAME_SIZE: MAX_FRAME,
                    frames.MAX_HEADER_LIST_SIZE: MAX_HEADER_BLOCK,
                }
            ),
            frames.window_update(0, MAX_31_BITS - frames.DEFAULT_WINDOW),
        ]

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return len(self._streams)

    # The shell's side

    def receive(self, data: bytes) -> None:
        """Takes what came from the peer, in pieces of any size."""
        if self.closed:
            return
        if self._partial:
            self._partial += data
            if len(self._partial) < self._wanted and self._greeted:
                return
            data = bytes(self._partial)
            self._partial = bytearray()
        try:
            used = self._frames(data, 0) if self._greeted else self._greeting(data)
        except ConnectionFault as fault:
            self._fail(fault.code, str(fault))
        else:
            if used < len(data):
                self._partial += memoryview(data)[used:]

    def data_to_send(self) -> bytes:
        """What is to be sent now. Each byte is handed out once."""
        out = self._out
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def drain(self) -> None:
        """Takes no new streams; `closed` once the open ones have ended (section 6.8)."""
        if self.closed or self._draining:
            return
        self._draining = True
        self._out.append(frames.goaway(self._last_id, ErrorCode.NO_ERROR))
        self.closed = not self._streams

    def abort(self) -> None:
        """Ends all streams and the connection at once."""
        self.drain()
        for stream in list(self._streams.values()):
            self._reset(stream, ErrorCode.CANCEL)

    def lost(self) -> None:
        """The connection is gone."""
        self.closed = True
        self._out.clear()
        for stream in list(self._streams.values()):
            self._end(stream)

    # Frames

    def _greeting(self, data: bytes) -> int:
        """Section 3.4: the preface, and that SETTINGS come first."""
        if not data.startswith(PREFACE[: len(data)]):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "no HTTP/2 preface")
        if len(data) < len(PREFACE) + HEAD_SIZE:
            return 0
        _, _, kind, flags, _ = _HEAD.unpack_from(data, len(PREFACE))
        if kind != frames.SETTINGS or flags & ACK:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS do not come first")
        self._greeted = True
        return self._frames(data, len(PREFACE))

    def _frames(self, data: bytes, position: int) -> int:
        """Handles the whole frames in `data`, and tells how far they reach."""
        end = len(data)
        while end - position >= HEAD_SIZE:
            if self.closed:
                return end
            high, low, kind, flags, stream_id = _HEAD.unpack_from(data, position)
            size = high << 8 | low
            if size > MAX_FRAME:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "frame too large")  # section 4.2
            start = position + HEAD_SIZE
            stop = start + size
            if stop > end:
                break
            position = stop
            stream_id &= MAX_31_BITS
            if self._fragments is not None and kind != frames.CONTINUATION:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block was broken off")  # section 6.10
            if kind == frames.DATA:
                self._data(flags, stream_id, data, start, stop)
            elif (handler := _HANDLERS.get(kind)) is not None:
                handler(self, flags, stream_id, data[start:stop])
            # Section 4.1: unknown types are ignored.
        self._wanted = stop - position if end - position >= HEAD_SIZE else HEAD_SIZE
        return position

    def _data(self, flags: int, stream_id: int, data: bytes, start: int, stop: int) -> None:
        size = stop - start
        # Section 6.9.1: padding counts, and so do frames of streams that are no more.
        self._received += size
        if self._received >= TOP_UP:
            self._out.append(frames.window_update(0, self._received))
            self._received = 0
        stream = self._streams.get(stream_id)
        if flags & PADDED:
            start, stop = _unpadded(data, start, stop)
        if stream is None or stream._half_closed:
            self._astray(stream_id, stream)
            return
        stream._received += size
        if stream._received >= TOP_UP:
            self._out.append(frames.window_update(stream_id, stream._received))
            stream._received = 0
        if stream._buffer is None and not stream._paused:
            start = self._messages(stream, data, start, stop)
            if stream.closed:
                return
        if start < stop:
            self._keep(stream, memoryview(data)[start:stop])
            if stream.closed:
                return
        if flags & END_STREAM:
            stream._half_closed = True
        if stream._buffer is None or len(stream._buffer) >= stream._wanted or flags & END_STREAM:
            self._deliver(stream)

    def _messages(self, stream: Stream, data: bytes, start: int, stop: int) -> int:
        """Delivers the whole messages in `data`, and tells how far they reach."""
        while stop - start >= PREFIX_SIZE:
            compressed, size = _PREFIX.unpack_from(data, start)
            if compressed:
                # gRPC's compression document: a flag without an agreed encoding. None is offered here.
                stream.finish(Status.UNIMPLEMENTED, "compressed messages are not taken")
                return stop
            if size > self._max_message:
                stream.finish(Status.RESOURCE_EXHAUSTED, f"message larger than {self._max_message} bytes")
                return stop
            after = start + PREFIX_SIZE + size
            if after > stop:
                stream._wanted = PREFIX_SIZE + size
                return start
            stream.receiver.message(data[start + PREFIX_SIZE : after])
            start = after
            if stream._paused or stream.closed:
                break
        stream._wanted = PREFIX_SIZE
        return start

    def _keep(self, stream: Stream, rest: memoryview) -> None:
        if stream._finish is not None:
            return  # the call was answered, and only waits to be sent
        size = len(rest)
        buffer = stream._buffer
        if buffer is None:
            buffer = stream._buffer = bytearray()
        if not self._hold(size) or len(buffer) + size > self._max_message + PREFIX_SIZE + MAX_FRAME:
            stream.finish(Status.RESOURCE_EXHAUSTED, "too much is waiting")
            return
        buffer += rest
        self._held += size

    def _deliver(self, stream: Stream) -> None:
        """What waited: messages, then their end."""
        buffer = stream._buffer
        if buffer is not None and not stream._paused:
            size = len(buffer)
            used = self._messages(stream, bytes(buffer), 0, size)
            if stream.closed or stream._finish is not None:
                return
            self._held -= used
            del buffer[:used]
            if used == size:
                stream._buffer = None
        if not stream._half_closed or stream._paused:
            return
        if stream._buffer is None:
            stream.receiver.half_closed()
        else:
            stream.finish(Status.INTERNAL, "the last message is not complete")

    def _astray(self, stream_id: int, stream: Stream | None) -> None:
        """DATA on a stream that takes none."""
        if stream is not None:
            self._reset(stream, ErrorCode.STREAM_CLOSED)  # section 5.1: half-closed (remote)
        elif stream_id == 0 or stream_id > self._last_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "DATA on an idle stream")  # sections 5.1 and 6.1
        elif stream_id not in self._remembered:
            self._out.append(frames.rst_stream(stream_id, ErrorCode.STREAM_CLOSED))  # section 6.1

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        start, stop = 0, len(payload)
        if flags & PADDED:
            start, stop = _unpadded(payload, start, stop)
        if flags & PRIORITY_FLAG:
            start += 5  # section 5.3.2: deprecated
            if start > stop:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS too short")  # section 4.2
        # Sections 5.1.1 and 6.2
        if not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream that is not a client's")
        block = payload[start:stop]
        if flags & END_HEADERS:
            self._block(flags, stream_id, block)
        else:
            self._opening = (flags, stream_id)
            self._fragments = bytearray()
            self._fragment(block)

    def _continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._fragments is None or stream_id != self._opening[1]:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")  # section 6.10
        self._fragment(payload)
        if flags & END_HEADERS:
            block = bytes(self._fragments)
            self._fragments = None
            self._block(*self._opening, block)

    def _fragment(self, block: bytes) -> None:
        assert self._fragments is not None  # noqa: S101 - the callers have made sure
        self._fragments += block
        if len(self._fragments) > MAX_HEADER_BLOCK:
            # Section 4.3: to leave a block out would break the decoder's state.
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header block too large")

    def _block(self, flags: int, stream_id: int, block: bytes) -> None:
        """A whole header block."""
        try:
            if stream_id > self._last_id:
                self._open(flags, stream_id, block)
            else:
                self._more_headers(flags, stream_id, block)
        except CompressionError as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, str(error)) from error  # section 4.3
        except MalformedRequest:
            # Section 8.1.1: a stream error.
            if (stream := self._streams.get(stream_id)) is not None:
                self._reset(stream, ErrorCode.PROTOCOL_ERROR)
            else:
                self._refuse(stream_id, ErrorCode.PROTOCOL_ERROR)

    def _open(self, flags: int, stream_id: int, block: bytes) -> None:
        if self._draining or len(self._streams) >= self._max_streams:
            self._decoder.skip(block)
            self._refuse(stream_id, ErrorCode.REFUSED_STREAM)  # sections 5.1.2 and 6.8: may be tried again elsewhere
            return
        self._last_id = stream_id
        route = self._decoder.route(block)
        stream = Stream(self, stream_id, self._initial_window)
        if flags & END_STREAM:
            stream._half_closed = True
        if route is Route.PROCESS or route is Route.HEALTH_CHECK:
            self._streams[stream_id] = stream
            stream.receiver = self._accept(stream, route)
            if flags & END_STREAM:
                self._deliver(stream)
            return
        answer = NOT_GRPC
        if route is Route.UNKNOWN:
            answer = RESPONSE_HEADERS + trailers(Status.UNIMPLEMENTED, "no such method")
        self._out.append(frame(frames.HEADERS, END_HEADERS | END_STREAM, stream_id, answer))
        if not stream._half_closed:
            self._refuse(stream_id, ErrorCode.NO_ERROR)  # section 8.1: the rest of the request is not wanted

    def _more_headers(self, flags: int, stream_id: int, block: bytes) -> None:
        """Trailers, or headers of a stream that is no more."""
        stream = self._streams.get(stream_id)
        if stream is None:
            if stream_id not in self._remembered:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a stream's number was used again")  # section 5.1.1
            self._decoder.skip(block)
            return
        self._decoder.trailers(block)
        if stream._half_closed:
            self._reset(stream, ErrorCode.STREAM_CLOSED)  # section 5.1: half-closed (remote)
        elif not flags & END_STREAM:
            self._reset(stream, ErrorCode.PROTOCOL_ERROR)  # section 8.1
        else:
            stream._half_closed = True
            self._deliver(stream)

    def _priority(self, _flags: int, stream_id: int, payload: bytes) -> None:
        # Section 6.3: deprecated, so only its form is looked at.
        if stream_id == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY without a stream")
        if len(payload) != 5:
            if (stream := self._streams.get(stream_id)) is not None:
                self._reset(stream, ErrorCode.FRAME_SIZE_ERROR)
            else:
                self._out.append(frames.rst_stream(stream_id, ErrorCode.FRAME_SIZE_ERROR))

    def _rst_stream(self, _flags: int, stream_id: int, payload: bytes) -> None:
        # Section 6.4
        if stream_id == 0 or stream_id > self._last_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on an idle stream")
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM of a wrong size")
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._end(stream)

    def _settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        # Section 6.5
        if stream_id != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if len(payload) % 6 or (flags & ACK and payload):
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a wrong size")
        if flags & ACK:
            self._decoder.table_size_acknowledged()
            return
        # Section 6.5.2. What is not named here does not concern a server that pushes nothing and has no table.
        for name, value in _SETTING.iter_unpack(payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                self._set_initial_window(value)
            elif name == frames.MAX_FRAME_SIZE:
                if not frames.DEFAULT_FRAME_SIZE <= value <= frames.LARGEST_FRAME_SIZE:
                    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE out of range")
                self._frame_size = value
            elif name == frames.ENABLE_PUSH and value > 1:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH out of range")
        self._out.append(frame(frames.SETTINGS, ACK, 0))  # section 6.5.3
        self._send_all_queued()

    def _set_initial_window(self, value: int) -> None:
        if value > MAX_31_BITS:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE out of range")
        # Section 6.9.2: the change holds for open streams as well, whose windows may become negative by it.
        change = value - self._initial_window
        self._initial_window = value
        for stream in self._streams.values():
            stream._window += change
            if stream._window > MAX_31_BITS:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a window is too large")

    def _push_promise(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client")  # section 8.4

    def _ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        # Section 6.7
        if stream_id != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING of a wrong size")
        if not flags & ACK:
            self._out.append(frame(frames.PING, ACK, 0, payload))

    def _goaway(self, _flags: int, stream_id: int, payload: bytes) -> None:
        # Section 6.8
        if stream_id != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY of a wrong size")
        self.drain()

    def _window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        # Sections 6.9 and 6.9.1
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong size")
        increment = int.from_bytes(payload) & MAX_31_BITS
        if stream_id == 0:
            if increment == 0:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
            self._window += increment
            if self._window > MAX_31_BITS:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the window is too large")
            self._send_all_queued()
            return
        if stream_id > self._last_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")  # section 5.1
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream._window += increment
        if increment == 0:
            self._reset(stream, ErrorCode.PROTOCOL_ERROR)
        elif stream._window > MAX_31_BITS:
            self._reset(stream, ErrorCode.FLOW_CONTROL_ERROR)
        else:
            self._send_queued(stream)

    # To the peer

    def _hold(self, size: int) -> bool:
        """Whether there is room for so much more."""
        return self._held + size <= self._max_held

    def _send_all_queued(self) -> None:
        """Gives each stream that waits a frame in turn, while there is room."""
        progress = True
        while progress and self._window > 0:
            progress = False
            for stream in list(self._blocked.values()):
                progress |= self._send_piece(stream)

    def _send_queued(self, stream: Stream) -> None:
        while self._send_piece(stream):
            pass

    def _send_piece(self, stream: Stream) -> bool:
        """Sends one frame of what a stream has queued. False: nothing is queued, or there is no room."""
        queue = stream._queue
        room = min(self._window, stream._window, self._frame_size)
        if not queue or room <= 0:
            return False
        piece = queue[0][:room]
        size = len(piece)
        if size == len(queue[0]):
            queue.popleft()
        else:
            queue[0] = queue[0][size:]
        self._window -= size
        stream._window -= size
        stream._queued -= size
        self._held -= size
        self._out.append(frame(frames.DATA, 0, stream.id, bytes(piece)))
        if not queue:
            stream._queue = None
            del self._blocked[stream.id]
            if stream._finish is not None:
                self._send_trailers(stream, stream._finish)
        return True

    def _send_trailers(self, stream: Stream, block: bytes) -> None:
        self._out.append(frame(frames.HEADERS, END_HEADERS | END_STREAM, stream.id, block))
        if not stream._half_closed:
            self._refuse(stream.id, ErrorCode.NO_ERROR)  # section 8.1: the rest of the request is not wanted
        self._end(stream)

    def _reset(self, stream: Stream, code: ErrorCode) -> None:
        """Section 5.4.2: ends a stream."""
        self._refuse(stream.id, code)
        self._end(stream)

    def _refuse(self, stream_id: int, code: ErrorCode) -> None:
        self._out.append(frames.rst_stream(stream_id, code))
        self._remembered[stream_id] = None
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def _end(self, stream: Stream) -> None:
        del self._streams[stream.id]
        stream.closed = True
        if stream._buffer is not None:
            self._held -= len(stream._buffer)
            stream._buffer = None
        if stream._queue is not None:
            self._held -= stream._queued
            stream._queue = None
            del self._blocked[stream.id]
        if self._draining and not self._streams:
            self.closed = True
        stream.receiver.ended()

    def _fail(self, code: ErrorCode, reason: str) -> None:
        """Section 5.4.1: ends the connection."""
        self.closed = True
        self.fault = reason
        self._out.append(frames.goaway(self._last_id, code, reason))
        for stream in list(self._streams.values()):
            self._end(stream)


def _unpadded(data: bytes, start: int, stop: int) -> tuple[int, int]:
    """Section 6.1: the bounds of what is not padding."""
    if start == stop:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "no room for the length of the padding")
    padding = data[start]
    if padding >= stop - start:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "more padding than frame")
    return start + 1, stop - padding


_HANDLERS: Final[Mapping[int, Callable[[Http2Connection, int, int, bytes], None]]] = {
    frames.HEADERS: Http2Connection._headers,
    frames.PRIORITY: Http2Connection._priority,
    frames.RST_STREAM: Http2Connection._rst_stream,
    frames.SETTINGS: Http2Connection._settings,
    frames.PUSH_PROMISE: Http2Connection._push_promise,
    frames.PING: Http2Connection._ping,
    frames.GOAWAY: Http2Connection._goaway,
    frames.WINDOW_UPDATE: Http2Connection._window_update,
    frames.CONTINUATION: Http2Connection._continuation,
}
