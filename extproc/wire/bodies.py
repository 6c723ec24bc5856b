# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""Messages about bodies, without a protobuf object: there is one for each piece of a body that Envoy shows.

`HttpBody`, in which Envoy sends a piece, and `StreamedBodyResponse`, in which one goes back, have the same fields under
the same numbers. So a piece that goes back unchanged is copied as it was serialized, behind a head of its own.
"""

from typing import Final

from extproc._pb import (
    BodyMutation,
    BodyResponse,
    CommonResponse,
    HttpBody,
    Metadata,
    ProcessingRequest,
    ProcessingResponse,
    StreamedBodyResponse,
)

#: Sizes of pieces for which the bytes before them are kept: tokens have a few hundred sizes.
MAX_HEADS: Final = 4096

REQUEST_BODY: Final = ProcessingRequest(request_body=HttpBody()).SerializeToString()[0]
RESPONSE_BODY: Final = ProcessingRequest(response_body=HttpBody()).SerializeToString()[0]
_METADATA_CONTEXT: Final = ProcessingRequest(metadata_context=Metadata()).SerializeToString()[0]
#: Field 1 as bytes, and field 2 as a bool.
_BODY: Final = 0x0A
_END: Final = 0x10
_IS_END: Final = b"\x10\x01"
_SMALL: Final = 0x80


def read(data: bytes) -> tuple[int, int, bytes, bool, bool] | None:
    """A serialized `ProcessingRequest` that has a body and perhaps metadata: what Envoy sends after the first message.

    Returns:
        Where the `HttpBody` begins and ends, its body, whether that is the last piece, and whether there is metadata.
        None: it is anything else, which may well be right.
    """
    size = len(data)
    at, length = _length(data, 1, size)
    stop = at + length
    if at == 0 or stop > size:
        return None
    start = at
    body = b""
    if at < stop and data[at] == _BODY:
        at, length = _length(data, at + 1, stop)
        if at == 0 or at + length > stop:
            return None
        body = data[at : at + length]
        at += length
    end = False
    if at < stop:
        if at + 2 != stop or data[at] != _END or data[at + 1] > 1:
            return None
        end = data[at + 1] == 1
    if stop == size:
        return start, stop, body, end, False
    if data[stop] != _METADATA_CONTEXT:
        return None
    at, length = _length(data, stop + 1, size)
    if at == 0 or at + length != size:
        return None
    return start, stop, body, end, length > 0


def _length(data: bytes, at: int, size: int) -> tuple[int, int]:
    """A varint at `at`: where it ends, and its value, below 2^28. 0, 0: it is cut off or larger."""
    if at >= size:
        return 0, 0
    value = data[at]
    at += 1
    if value < _SMALL:
        return at, value
    value &= 0x7F
    shift = 7
    while at < size and shift < 28:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < _SMALL:
            return at, value
        shift += 7
    return 0, 0


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= _SMALL:
        out.append(value & 0x7F | _SMALL)
        value >>= 7
    out.append(value)
    return bytes(out)


class Heads:
    """The bytes before a `StreamedBodyResponse` in a reply, by its size.

    Args:
        reply: a serialized reply with an empty one: its tags, from the outermost on, each with a length of its own.
    """

    __slots__ = ("_heads", "_tags")

    def __init__(self, reply: bytes) -> None:
        self._tags: list[int] = list(reply[::2])
        self._heads: dict[int, bytes] = {}

    def before(self, size: int) -> bytes:
        head = self._heads.get(size)
        if head is None:
            head = b""
            for tag in reversed(self._tags):
                head = bytes((tag,)) + _varint(len(head) + size) + head
            if len(self._heads) >= MAX_HEADS:
                self._heads.clear()
            self._heads[size] = head
        return head

    def piece(self, body: bytes, *, last: bool) -> bytes:
        """The reply that sends `body` on."""
        end = _IS_END if last else b""
        if not body:
            return self.before(len(end)) + end
        size = _varint(len(body))
        return b"".join((self.before(1 + len(size) + len(body) + len(end)), b"\x0a", size, body, end))


_EMPTY: Final = BodyResponse(
    response=CommonResponse(body_mutation=BodyMutation(streamed_response=StreamedBodyResponse()))
)
REQUEST_PIECES: Final = Heads(ProcessingResponse(request_body=_EMPTY).SerializeToString())
RESPONSE_PIECES: Final = Heads(ProcessingResponse(response_body=_EMPTY).SerializeToString())
