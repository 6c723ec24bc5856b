# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""HTTP/2 frames: the numbers of RFC 9113, and how to write a frame."""

from enum import IntEnum
from struct import Struct
from typing import Final

#: RFC 9113 section 3.4: the bytes that a client sends first.
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: Bytes of a frame's head (section 4.1).
HEAD_SIZE: Final = 9

# Section 6: types of frames.
DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

# Section 6: flags. ACK and END_STREAM share a bit.
ACK: Final = 0x01
END_STREAM: Final = 0x01
END_HEADERS: Final = 0x04
PADDED: Final = 0x08
PRIORITY_FLAG: Final = 0x20

# Section 6.5.2: settings.
HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6

#: Largest flow-control window (section 6.9.1), and the bits of a stream's number (section 4.1).
MAX_31_BITS: Final = 2**31 - 1
#: Windows and frame size before SETTINGS say otherwise (section 6.5.2).
DEFAULT_WINDOW: Final = 65_535
DEFAULT_FRAME_SIZE: Final = 16_384
LARGEST_FRAME_SIZE: Final = 2**24 - 1


class ErrorCode(IntEnum):
    """Section 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ConnectionFault(Exception):
    """Section 5.4.1: the peer broke the protocol in a way that ends the connection."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


# The length has 24 bits: 16 and 8 here.
_HEAD = Struct(">HBBBL")


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """A whole frame. `payload`: at most 2^24 - 1 bytes."""
    size = len(payload)
    return _HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream_id) + payload


def settings(values: dict[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join([name.to_bytes(2) + value.to_bytes(4) for name, value in values.items()]))


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4))


def rst_stream(stream_id: int, code: ErrorCode) -> bytes:
    return frame(RST_STREAM, 0, stream_id, code.to_bytes(4))


def goaway(last_stream_id: int, code: ErrorCode, reason: str = "") -> bytes:
    return frame(GOAWAY, 0, 0, last_stream_id.to_bytes(4) + code.to_bytes(4) + reason.encode())


def unpadded(data: bytes, start: int, stop: int) -> tuple[int, int]:
    """Section 6.1: the bounds of what is not padding, in the payload of a frame with the flag PADDED.

    Raises:
        ConnectionFault: there is more padding than frame.
    """
    if start == stop:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "no room for the length of the padding")
    padding = data[start]
    if padding >= stop - start:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "more padding than frame")
    return start + 1, stop - padding
