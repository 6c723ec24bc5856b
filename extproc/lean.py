"""The two messages that every request comes in, read byte by byte: protobuf's objects take half as long again.

Only what Envoy 1.40 writes is known here, in the order in which it writes it, and answered with None is whatever is not
quite like that: `extproc/wire` has protobuf read it then. So this never judges a message, and what it reads must be
what protobuf reads (a property test holds it to that).
"""

from collections.abc import Callable
from typing import NamedTuple

from extproc.events import ProtocolConfig, RequestBody, RequestHeaders
from extproc.headers import AUTHORIZATION, COOKIE, REQUEST_ID, TRACEPARENT, Headers

#: Rests of messages that are kept with what they say, and the longest that is, in bytes: 2 MiB of them at most, and
#: their values.
MAX_KEPT = 4096
MAX_KEPT_SIZE = 512
#: Header fields that are kept, and the longest, in bytes.
MAX_KEPT_FIELDS = 1024
MAX_KEPT_FIELD = 64
#: Secret, or other with every request: not kept.
_NEVER_KEPT = frozenset({AUTHORIZATION, COOKIE, "content-length", REQUEST_ID, TRACEPARENT, "tracestate"})

# Tags: the field's number and its type, length-delimited (2) or varint (0), in one byte.
_REQUEST_HEADERS, _REQUEST_BODY = 2 << 3 | 2, 4 << 3 | 2
_FIRST, _THIRD = 1 << 3 | 2, 3 << 3 | 2
_MORE = 0x80
#: `end_of_stream: true` behind the headers, and behind the body.
_HEADERS_END, _BODY_END = b"\x18\x01", b"\x10\x01"


class Rest(NamedTuple):
    """What comes behind the headers or the body."""

    subset: tuple[str, ...] | None
    config: ProtocolConfig | None


class _Rests(dict[bytes, Rest | None]):
    """`rests[part]` is `read(part)`."""

    def __init__(self, read: Callable[[bytes], Rest | None]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, part: bytes) -> Rest | None:
        value = self._read(part)
        if len(part) <= MAX_KEPT_SIZE:
            if len(self) >= MAX_KEPT:
                self.clear()
            self[part] = value
        return value


class Reader:
    """Reads messages.

    Args:
        rest: reads a `ProcessingRequest` of which the headers or the body were taken out. Answers None for one that is
            to be left to protobuf.
    """

    def __init__(self, rest: Callable[[bytes], Rest | None]) -> None:
        self._rests = _Rests(rest)
        self._fields: dict[bytes, tuple[str, bytes]] = {}

    def read(self, data: bytes) -> RequestHeaders | RequestBody | None:
        """What a serialized `ProcessingRequest` says, or None: have protobuf read it."""
        try:
            tag = data[0]
            if tag == _REQUEST_HEADERS:
                return self._request_headers(data)
            if tag == _REQUEST_BODY:
                return self._request_body(data)
        except (IndexError, UnicodeDecodeError):
            pass  # cut off, or no text
        return None

    def _request_headers(self, data: bytes) -> RequestHeaders | None:
        start, end = _span(data, 1)
        if data[start] != _FIRST:
            return None
        first, last = _span(data, start + 1)
        items = self._items(data, first, last)
        if items is None or not last <= end <= len(data):
            return None
        ended = data[last:end]
        rest = self._rests[data[end:]]
        if rest is None or (ended and ended != _HEADERS_END):
            return None
        return RequestHeaders(Headers(items), ended == _HEADERS_END, *rest)

    def _request_body(self, data: bytes) -> RequestBody | None:
        start, end = _span(data, 1)
        if data[start] != _FIRST:
            return None
        first, last = _span(data, start + 1)
        if not last <= end <= len(data):
            return None
        ended = data[last:end]
        rest = self._rests[data[end:]]
        if rest is None or (ended and ended != _BODY_END):
            return None
        return RequestBody(data[first:last], ended == _BODY_END, rest.subset)

    def _items(self, data: bytes, at: int, end: int) -> list[tuple[str, bytes]] | None:
        items = []
        known = self._fields.get
        while at < end:
            if data[at] != _FIRST:
                return None
            size = data[at + 1]
            at += 2
            if size >= _MORE:
                size += (data[at] << 7) - _MORE
                if data[at] >= _MORE:
                    return None
                at += 1
            field = data[at : at + size]
            at += size
            item = known(field) or self._item(field)
            if item is None:
                return None
            items.append(item)
        return items if at == end else None

    def _item(self, field: bytes) -> tuple[str, bytes] | None:
        """Name and raw value."""
        size = field[1]
        middle = size + 2
        if field[0] != _FIRST or size >= _MORE or field[middle] != _THIRD:
            return None
        start, end = _span(field, middle + 1)
        if end != len(field):
            return None
        item = (field[2:middle].decode(), field[start:])
        if end <= MAX_KEPT_FIELD and item[0] not in _NEVER_KEPT:
            if len(self._fields) >= MAX_KEPT_FIELDS:
                self._fields.clear()
            self._fields[field] = item
        return item


def _span(data: bytes, at: int) -> tuple[int, int]:
    """Where what is announced by the length at `at` starts and ends."""
    size = data[at]
    at += 1
    if size >= _MORE:
        size -= _MORE
        for shift in (7, 14, 21, 28):
            more = data[at]
            at += 1
            size += (more & 0x7F) << shift
            if more < _MORE:
                return at, at + size
        raise IndexError("a length of more than five bytes")
    return at, at + size
