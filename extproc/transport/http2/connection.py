# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""HTTP/2, the server's side of one connection that carries gRPC calls, without I/O.

For a peer that may be anybody. `receive` takes bytes and calls the receivers of the streams; what they send, and what
the protocol requires, is collected in `data_to_send`. This module has no clock: the caller ends what takes too long
(`greeted`, `in_block`, `end_silent`), and asks whether the peer is still there (`ping`). Section numbers are those of
RFC 9113.
"""

from collections.abc import Callable, Mapping
from struct import Struct
from typing import Final

from extproc.transport.grpc_status import NOT_GRPC, RESPONSE_HEADERS, Status, trailers
from extproc.transport.http2 import frames
from extproc.transport.http2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    HEAD_SIZE,
    MAX_31_BITS,
    PADDED,
    PREFACE,
    PRIORITY_FLAG,
    ConnectionFault,
    ErrorCode,
    frame,
)
from extproc.transport.http2.requests import MAX_HEADER_BLOCK, CompressionError, MalformedRequest, RequestDecoder, Route
from extproc.transport.http2.stream import MAX_FRAME, WINDOW, Holdings, Link, Receiver, Stream

#: The PING whose answer shows that the peer knows of the end, and the PING whose answer shows that the peer is there.
LEAVING: Final = b"leaving."
STILL_THERE: Final = b"there ?."

_HEAD: Final = Struct(">HBBBL")  # length (16 and 8 bits), type, flags, stream


class Http2Connection:
    """The machine of one connection.

    Args:
        accept: called with each new stream that can be served and its route; gives the stream's receiver.
        max_streams: most streams at a time; more get REFUSED_STREAM, which means that nothing was done.
        max_message: most bytes of a message from the peer.
        holdings: of all connections; None: this is the only one.
    """

    __slots__ = (
        "_accept", "_decoder", "_fragments", "_last_id", "_last_served", "_leaving", "_link",
        "_max_streams", "_opening", "_partial", "_received", "_wanted", "fault", "greeted",
    )  # fmt: skip

    def __init__(
        self,
        accept: Callable[[Stream, Route], Receiver],
        *,
        max_streams: int,
        max_message: int,
        holdings: Holdings | None = None,
    ) -> None:
        #: What the peer did wrong, where that has ended the connection.
        self.fault = ""
        self._accept = accept
        self._max_streams = max_streams
        self._link = Link(max_message, Holdings(max_message) if holdings is None else holdings)
        self._decoder = RequestDecoder()
        # The highest number that was used, and the highest that was served: the same until the connection drains.
        self._last_id = 0
        self._last_served = 0
        self._leaving = False
        #: Whether the peer has begun as the protocol has it.
        self.greeted = False
        # Bytes of an incomplete frame, and how many make it complete.
        self._partial = bytearray()
        self._wanted = 0
        # An incomplete header block, and the flags and stream that it came with.
        self._fragments: bytearray | None = None
        self._opening = (0, 0)
        self._received = 0
        ours = {
            frames.HEADER_TABLE_SIZE: 0,  # see `requests`
            frames.MAX_CONCURRENT_STREAMS: max_streams,
            frames.INITIAL_WINDOW_SIZE: WINDOW,
            frames.MAX_FRAME_SIZE: MAX_FRAME,
            frames.MAX_HEADER_LIST_SIZE: MAX_HEADER_BLOCK,
        }
        self._link.out += (frames.settings(ours), frames.window_update(0, MAX_31_BITS - frames.DEFAULT_WINDOW))

    @property
    def closed(self) -> bool:
        """True: send what is to be sent, and close. Nothing more is taken."""
        return self._link.closed

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return len(self._link.streams)

    @property
    def held(self) -> int:
        """Bytes of messages that are not complete or wait, in both directions."""
        return self._link.held

    @property
    def in_block(self) -> bool:
        """The peer has begun a header block, and nothing else may come before it ends."""
        return self._fragments is not None

    @property
    def last_id(self) -> int:
        """The highest number of a stream that the peer has used."""
        return self._last_id

    # The shell's side

    def receive(self, data: bytes) -> None:
        """Takes what came from the peer, in pieces of any size."""
        if self._link.closed:
            return
        if self._partial:
            data = self._completed(data)
            if not data:
                return
        try:
            used = self._frames(data, 0) if self.greeted else self._greeting(data)
        except ConnectionFault as fault:
            self._fail(fault.code, str(fault))
            return
        if used < len(data):
            self._keep(memoryview(data)[used:])

    def _completed(self, data: bytes) -> bytes:
        """What was kept and `data`, once that is a frame; else nothing, and `data` is kept as well."""
        if len(self._partial) + len(data) < self._wanted:
            self._keep(memoryview(data))
            return b""
        self._partial += data
        whole = bytes(self._partial)
        self._link.hold(len(data) - len(whole))
        self._partial = bytearray()
        return whole

    def _keep(self, data: memoryview) -> None:
        link = self._link
        if link.closed:
            return
        if link.has_room(len(data)):
            self._partial += data
            link.hold(len(data))
        else:
            self._fail(ErrorCode.ENHANCE_YOUR_CALM, "too much waits to be handled")

    def data_to_send(self) -> bytes:
        """What is to be sent now. Each byte is handed out once."""
        return self._link.data_to_send()

    def drain(self) -> None:
        """Asks the peer for no more streams; `closed` once it knows, and the open ones have ended.

        Section 6.8: requests that are on their way are still served. The answer to a PING shows that none is left.
        """
        link = self._link
        if not link.closed and not self._leaving:
            self._leaving = True
            link.out += (frames.goaway(MAX_31_BITS, ErrorCode.NO_ERROR), frame(frames.PING, 0, 0, LEAVING))

    def ping(self) -> None:
        """Has the peer answer."""
        self._link.out.append(frame(frames.PING, 0, 0, STILL_THERE))

    def end_silent(self, last_id: int) -> None:
        """Ends the streams up to number `last_id` on which no message came."""
        late: list[Stream] = []
        for stream in self._link.streams.values():  # in the order of their numbers
            if stream.id > last_id:
                break
            if not stream.heard:
                late.append(stream)
        for stream in late:
            stream.finish(Status.DEADLINE_EXCEEDED, "no message came")

    def abort(self) -> None:
        """Ends all streams, and so the connection."""
        self._no_more_streams()
        for stream in list(self._link.streams.values()):
            stream.reset(ErrorCode.CANCEL)

    def lost(self) -> None:
        """The connection is gone."""
        self._link.closed = True
        self._end_all()

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
        self.greeted = True
        return self._frames(data, len(PREFACE))

    def _frames(self, data: bytes, position: int) -> int:
        """Handles the whole frames in `data`, and returns where they end."""
        end = len(data)
        link = self._link
        while end - position >= HEAD_SIZE:
            if link.closed:
                return end
            high, low, kind, flags, stream_id = _HEAD.unpack_from(data, position)
            size = high << 8 | low
            if size > MAX_FRAME:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "frame too large")  # section 4.2
            start = position + HEAD_SIZE
            stop = start + size
            if stop > end:
                self._wanted = HEAD_SIZE + size
                return position
            position = stop
            stream_id &= MAX_31_BITS  # section 4.1: one bit is reserved
            if self._fragments is not None and kind != frames.CONTINUATION:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block was broken off")  # section 6.10
            if kind == frames.DATA:
                self._data(flags, stream_id, data, start, stop)
            elif (handler := _HANDLERS.get(kind)) is not None:
                handler(self, flags, stream_id, data[start:stop])
            # Section 4.1: other types are ignored.
        self._wanted = HEAD_SIZE
        return position

    def _data(self, flags: int, stream_id: int, data: bytes, start: int, stop: int) -> None:
        size = stop - start
        # Section 6.9.1: padding counts, and so do frames of streams that are no more.
        self._received += size
        if self._received >= self._link.top_up:
            self._link.out.append(frames.window_update(0, self._received))
            self._received = 0
        if flags & PADDED:
            start, stop = frames.unpadded(data, start, stop)
        stream = self._link.streams.get(stream_id)
        if stream is None or stream.half_closed:
            self._astray(stream_id, stream)
            return
        stream.received += size
        if stream.received > WINDOW:
            stream.reset(ErrorCode.FLOW_CONTROL_ERROR)  # section 6.9.1
            return
        stream.take(data, start, stop)
        if flags & END_STREAM:
            if not stream.closed:
                stream.end_of_messages()
        elif stream.received >= self._link.read_on and not stream.closed:
            stream.read_on()

    def _astray(self, stream_id: int, stream: Stream | None) -> None:
        """DATA on a stream that takes none."""
        if stream is not None:
            stream.reset(ErrorCode.STREAM_CLOSED)  # section 5.1: half-closed (remote)
        elif self._is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "DATA on an idle stream")  # sections 5.1 and 6.1
        elif stream_id not in self._link.remembered:
            self._link.out.append(frames.rst_stream(stream_id, ErrorCode.STREAM_CLOSED))  # section 6.1

    def _is_idle(self, stream_id: int) -> bool:
        """No client has opened this stream; 0 is none."""
        return stream_id > self._last_id or not stream_id & 1

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        start, stop = 0, len(payload)
        if flags & PADDED:
            start, stop = frames.unpadded(payload, start, stop)
        if flags & PRIORITY_FLAG:
            start += 5  # section 5.3.2: deprecated
            if start > stop:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS too short")  # section 4.2
        if not stream_id & 1:
            # Sections 5.1.1 and 6.2
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream that no client opens")
        if flags & END_HEADERS:
            self._block(flags, stream_id, payload[start:stop])
        else:
            self._opening = (flags, stream_id)
            self._fragments = bytearray(payload[start:stop])

    def _continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        fragments = self._fragments
        if fragments is None or stream_id != self._opening[1]:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")  # section 6.10
        fragments += payload
        if flags & END_HEADERS:
            self._fragments = None
            self._block(*self._opening, bytes(fragments))
        elif len(fragments) > MAX_HEADER_BLOCK:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, _BLOCK_TOO_LARGE)

    def _block(self, flags: int, stream_id: int, block: bytes) -> None:
        """A whole header block."""
        if len(block) > MAX_HEADER_BLOCK:
            # Section 4.3: to leave a block out would break the decoder's state.
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, _BLOCK_TOO_LARGE)
        stream = self._link.streams.get(stream_id)
        try:
            if stream is not None:
                self._trailers(flags, stream, block)
            elif stream_id > self._last_id:
                self._open(flags, stream_id, block)
            elif stream_id in self._link.remembered:
                self._decoder.skip(block)
            else:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a stream's number was used again")  # section 5.1.1
        except CompressionError as error:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, str(error)) from error  # section 4.3
        except MalformedRequest:
            # Section 8.1.1: a stream error.
            if stream is not None:
                stream.reset(ErrorCode.PROTOCOL_ERROR)
            else:
                self._link.refuse(stream_id, ErrorCode.PROTOCOL_ERROR)

    def _open(self, flags: int, stream_id: int, block: bytes) -> None:
        link = self._link
        self._last_id = stream_id
        if link.draining or len(link.streams) >= self._max_streams:
            self._decoder.skip(block)
            link.refuse(stream_id, ErrorCode.REFUSED_STREAM)  # sections 5.1.2 and 6.8: may be tried elsewhere
            return
        self._last_served = stream_id
        route = self._decoder.route(block)
        half_closed = bool(flags & END_STREAM)
        if route is Route.UNKNOWN or route is Route.NOT_GRPC:
            link.headers(stream_id, END_STREAM, _NO_SUCH_METHOD if route is Route.UNKNOWN else NOT_GRPC)
            if not half_closed:
                link.refuse(stream_id, ErrorCode.NO_ERROR)  # section 8.1: the rest of the request is not wanted
            return
        stream = Stream(link, stream_id, link.initial_window, half_closed=half_closed)
        link.streams[stream_id] = stream
        stream.receiver = self._accept(stream, route)
        if half_closed:
            stream.end_of_messages()

    def _trailers(self, flags: int, stream: Stream, block: bytes) -> None:
        self._decoder.trailers(block)
        if stream.half_closed:
            stream.reset(ErrorCode.STREAM_CLOSED)  # section 5.1: half-closed (remote)
        elif not flags & END_STREAM:
            stream.reset(ErrorCode.PROTOCOL_ERROR)  # section 8.1
        else:
            stream.end_of_messages()

    def _priority(self, _flags: int, stream_id: int, payload: bytes) -> None:
        # Section 6.3: deprecated, so only its form is looked at.
        if stream_id == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY without a stream")
        if len(payload) != 5:
            self._stream_error(stream_id, ErrorCode.FRAME_SIZE_ERROR)

    def _stream_error(self, stream_id: int, code: ErrorCode) -> None:
        """Section 5.4.2, for a stream in any state."""
        stream = self._link.streams.get(stream_id)
        if stream is not None:
            stream.reset(code)
        else:
            self._link.out.append(frames.rst_stream(stream_id, code))

    def _rst_stream(self, _flags: int, stream_id: int, payload: bytes) -> None:
        # Section 6.4
        if self._is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on an idle stream")
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM of a wrong size")
        stream = self._link.streams.get(stream_id)
        if stream is not None:
            stream.end()
        else:
            # Envoy half-closes a call and resets it at once.
            self._link.unwanted(stream_id)

    def _settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        # Section 6.5
        if stream_id != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if len(payload) % 6 or (flags & ACK and payload):
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a wrong size")
        if flags & ACK:
            self._decoder.table_size_acknowledged()
            return
        for at in range(0, len(payload), 6):
            self._link.set(int.from_bytes(payload[at : at + 2]), int.from_bytes(payload[at + 2 : at + 6]))
        self._link.out.append(frame(frames.SETTINGS, ACK, 0))  # section 6.5.3
        self._link.send_queued()

    def _push_promise(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client")  # section 8.4

    def _ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        # Section 6.7
        if stream_id != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING of a wrong size")
        if not flags & ACK:
            self._link.out.append(frame(frames.PING, ACK, 0, payload))
        elif self._leaving and payload == LEAVING:
            self._no_more_streams()

    def _goaway(self, _flags: int, stream_id: int, payload: bytes) -> None:
        # Section 6.8
        if stream_id != 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY of a wrong size")
        self._no_more_streams()

    def _window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        # Sections 6.9 and 6.9.1
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong size")
        increment = int.from_bytes(payload) & MAX_31_BITS
        link = self._link
        if stream_id == 0:
            if increment == 0:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
            link.window += increment
            if link.window > MAX_31_BITS:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is too large")
            link.send_queued()
            return
        if self._is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")  # section 5.1
        stream = link.streams.get(stream_id)
        if stream is None:
            return
        stream.window += increment
        if increment == 0:
            stream.reset(ErrorCode.PROTOCOL_ERROR)
        elif stream.window > MAX_31_BITS:
            stream.reset(ErrorCode.FLOW_CONTROL_ERROR)
        else:
            while stream.send_piece():
                pass

    # The end

    def _no_more_streams(self) -> None:
        link = self._link
        if not link.closed and not link.draining:
            link.draining = True
            link.out.append(frames.goaway(self._last_served, ErrorCode.NO_ERROR))
            link.closed = not link.streams

    def _fail(self, code: ErrorCode, reason: str) -> None:
        """Section 5.4.1: ends the connection."""
        self.fault = reason
        self._link.closed = True
        self._link.out.append(frames.goaway(self._last_served, code, reason))
        self._end_all()

    def _end_all(self) -> None:
        self._link.hold(-len(self._partial))
        self._partial = bytearray()
        for stream in list(self._link.streams.values()):
            stream.end()


_BLOCK_TOO_LARGE: Final = "header block too large"
_NO_SUCH_METHOD: Final = RESPONSE_HEADERS + trailers(Status.UNIMPLEMENTED, "no such method")


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
