"""gRPC's status codes, and the header blocks that a gRPC server answers with.

The blocks are literals that enter no table (RFC 7541 section 6.2.2), so that no encoder has a state.
"""

from enum import IntEnum
from typing import Final
from urllib.parse import quote_from_bytes

#: A status message names the error, no more; with its three-fold encoding a trailer stays far below one frame.
MAX_MESSAGE: Final = 1024


class Status(IntEnum):
    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


#: Begins a block: the table has no room (RFC 7541 section 6.3).
TABLE_SIZE_0: Final = b"\x20"
#: `:status: 200` (static table: 8) and `content-type: application/grpc` (name: 31, which is 15 + 16).
RESPONSE_HEADERS: Final = b"\x88\x0f\x10\x10application/grpc"
#: `:status: 415` (name: 8): gRPC over HTTP/2, "Requests": what is not a gRPC call must not be taken for one.
NOT_GRPC: Final = b"\x08\x03415"

# gRPC over HTTP/2, "Responses": space to tilde but for the percent sign go as they are.
_UNRESERVED: Final = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


def trailers(status: Status, message: str = "") -> bytes:
    """The header block that ends a call. `message` is for humans; it is cut at `MAX_MESSAGE` bytes of UTF-8."""
    block = _field(b"grpc-status", b"%d" % status)
    if message:
        block += _field(b"grpc-message", quote_from_bytes(message.encode()[:MAX_MESSAGE], _UNRESERVED).encode())
    return block


def _field(name: bytes, value: bytes) -> bytes:
    return b"\x00" + _string(name) + _string(value)


def _string(value: bytes) -> bytes:
    """A string literal, not Huffman-coded (RFC 7541 section 5.2)."""
    size = len(value)
    if size < 0x7F:
        return bytes((size,)) + value
    # RFC 7541 section 5.1: the rest in groups of seven bits, the lowest first.
    head = bytearray((0x7F,))
    rest = size - 0x7F
    while rest >= 0x80:
        head.append(rest & 0x7F | 0x80)
        rest >>= 7
    head.append(rest)
    return bytes(head) + value


OK_TRAILERS: Final = trailers(Status.OK)
