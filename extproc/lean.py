"""The three messages that every request comes in, read byte by byte: protobuf's objects take half as long again.

Only what Envoy 1.40 writes is known here, in the order in which it writes it, and answered with None is whatever is not
quite like that: `extproc/wire` has protobuf read it then. So this never judges a message, and what it reads must be
what protobuf reads (a property test holds it to that).
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from extproc.events import ProtocolConfig, RequestBody, RequestHeaders, ResponseTrailers, TokenUsage
from extproc.headers import (
    AUTHORIZATION,
    DESTINATION,
    DESTINATION_NAMESPACE,
    REQUEST_ID,
    SERVED,
    TRACEPARENT,
    Headers,
)

#: Parts of messages that are kept with what they say, for each kind of part, and the longest that is, in bytes: 2 MiB
#: of each kind at most, and their values.
MAX_KEPT = 4096
MAX_KEPT_SIZE = 512
#: Header fields that are kept, and the longest, in bytes.
MAX_KEPT_FIELDS = 1024
MAX_KEPT_FIELD = 64
#: Secret, or other with every request: not kept.
_NEVER_KEPT = frozenset({AUTHORIZATION, "cookie", "content-length", REQUEST_ID, TRACEPARENT, "tracestate"})
_NEVER_KEPT_PREFIX = "x-gateway-timing-"

# Tags: the field's number and its type, length-delimited (2) or varint (0), in one byte.
_REQUEST_HEADERS, _REQUEST_BODY, _RESPONSE_TRAILERS = 2 << 3 | 2, 4 << 3 | 2, 7 << 3 | 2
_METADATA, _ATTRIBUTES = 8 << 3 | 2, 9 << 3 | 2
_FIRST, _SECOND, _THIRD = 1 << 3 | 2, 2 << 3 | 2, 3 << 3 | 2
_MORE = 0x80
# An entry of a map up to its value's length.
_LB, _DESTINATION, _SERVED = (
    bytes((_FIRST, len(name))) + name.encode() + bytes((_SECOND,))
    for name in (DESTINATION_NAMESPACE, DESTINATION, SERVED)
)
#: `end_of_stream: true` behind the headers, and behind the body.
_HEADERS_END, _BODY_END = b"\x18\x01", b"\x10\x01"

_T = TypeVar("_T")


class Rest(NamedTuple):
    """What comes behind the headers or the body."""

    subset: tuple[str, ...] | None
    config: ProtocolConfig | None
    attributes: Mapping[str, object]


class _Kept(dict[bytes, _T]):
    """`kept[part]` is `read(part)`."""

    def __init__(self, read: Callable[[bytes], _T]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, part: bytes) -> _T:
        value = self._read(part)
        if len(part) <= MAX_KEPT_SIZE:
            if len(self) >= MAX_KEPT:
                self.clear()
            self[part] = value
        return value


class Reader:
    """Reads messages. Each of the functions answers None for a part that is to be left to protobuf.

    Args:
        rest: reads a `ProcessingRequest` of which the headers or the body were taken out.
        attributes: reads one of which only the attributes are left.
        usage: reads `Metadata` of one typed namespace.
    """

    def __init__(
        self,
        *,
        rest: Callable[[bytes], Rest | None],
        attributes: Callable[[bytes], Mapping[str, object] | None],
        usage: Callable[[bytes], TokenUsage | None],
    ) -> None:
        self._rests = _Kept(rest)
        self._attributes = _Kept(attributes)
        self._usage = usage
        self._fields: dict[bytes, tuple[str, bytes]] = {}

    def read(self, data: bytes) -> RequestHeaders | RequestBody | ResponseTrailers | None:
        """What a serialized `ProcessingRequest` says, or None: have protobuf read it."""
        try:
            tag = data[0]
            if tag == _REQUEST_HEADERS:
                return self._request_headers(data)
            if tag == _REQUEST_BODY:
                return self._request_body(data)
            if tag == _RESPONSE_TRAILERS:
                return self._response_trailers(data)
        except (IndexError, UnicodeDecodeError):
            pass  # cut off, or no text
        return None

    def _request_headers(self, data: bytes) -> RequestHeaders | None:
        start, end = _span(data, 1)
        if data[start] != _FIRST:
            return None
        first, last = _span(data, start + 1)
        items = self._items(data, first, last)
        ended = data[last:end]
        rest = self._rests[data[end:]]
        if items is None or rest is None or last > end or end > len(data) or (ended and ended != _HEADERS_END):
            return None
        return RequestHeaders(Headers(items), ended == _HEADERS_END, *rest)

    def _request_body(self, data: bytes) -> RequestBody | None:
        start, end = _span(data, 1)
        if data[start] != _FIRST:
            return None
        first, last = _span(data, start + 1)
        ended = data[last:end]
        rest = self._rests[data[end:]]
        if rest is None or last > end or end > len(data) or (ended and ended != _BODY_END):
            return None
        return RequestBody(data[first:last], ended == _BODY_END, rest.subset)

    def _response_trailers(self, data: bytes) -> ResponseTrailers | None:
        start, at = _span(data, 1)
        if data[start] != _FIRST:
            return None
        first, last = _span(data, start + 1)
        items = self._items(data, first, last)
        if items is None or last != at or data[at] != _METADATA:
            return None
        served, counted = "", b""
        part, at = _span(data, at + 1)
        while part < at:
            tag, begin = data[part], part
            _, part = _span(data, part + 1)
            if tag == _FIRST:
                found = _served(data, begin + 1)
                if found is None:
                    return None
                served = found
            elif tag == _SECOND and not counted:
                counted = data[begin:part]
            else:
                return None
        if part != at or data[at] != _ATTRIBUTES or _span(data, at + 1)[1] != len(data):
            return None
        attributes = self._attributes[data[at:]]
        if attributes is None:
            return None
        return ResponseTrailers(Headers(items), served, self._usage(counted) if counted else None, attributes)

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
        if end <= MAX_KEPT_FIELD and item[0] not in _NEVER_KEPT and not item[0].startswith(_NEVER_KEPT_PREFIX):
            if len(self._fields) >= MAX_KEPT_FIELDS:
                self._fields.clear()
            self._fields[field] = item
        return item


def _served(data: bytes, at: int) -> str | None:
    """Who served, by the metadata of the load balancer's namespace, which starts with its length at `at`."""
    start, end = _span(data, at)
    if not data.startswith(_LB, start):
        return None
    at, last = _span(data, start + len(_LB))
    served = ""
    while at < last:
        start, after = _span(data, at + 1)
        told = data.startswith(_SERVED, start)
        if data[at] != _FIRST or not (told or data.startswith(_DESTINATION, start)):
            return None
        start, ended = _span(data, start + len(_SERVED if told else _DESTINATION))
        if data[start] != _THIRD or ended != after:
            return None
        start, ended = _span(data, start + 1)
        if ended != after:
            return None
        text = data[start:after].decode()
        if told:
            served = text
        at = after
    return served if at == last == end else None


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
