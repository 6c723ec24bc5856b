# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""What a header block asks for.

Decoding the dozen header fields of a stream takes a hundred microseconds in Python. So the settings forbid the peer a
table (SETTINGS_HEADER_TABLE_SIZE = 0). From then on equal blocks mean equal headers, Envoy's are the same on every
stream, and one look-up gives what a known block asks for. A block that was not seen before is decoded and checked.
"""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from hpack import Decoder, HPACKError

from extproc.transport.services import LOG_METHOD, LOG_SERVICE, METHOD, SERVICE

#: Most bytes of a header block, encoded and decoded: what Envoy takes at most itself (`max_request_headers_kb: 60`).
MAX_HEADER_BLOCK: Final = 64 * 1024
#: Blocks that are kept, and the largest that is. A peer has one form, two with health checks. Where every stream has an
#: id among its headers (tracing), none comes again, and the few that are kept cost 16 KiB.
MAX_KNOWN: Final = 16
MAX_KNOWN_BLOCK: Final = 1024


class Route(Enum):
    """Where a request goes."""

    PROCESS = auto()
    ACCESS_LOG = auto()
    HEALTH_CHECK = auto()
    HEALTH_WATCH = auto()
    #: A gRPC call of a method that is not served here.
    UNKNOWN = auto()
    NOT_GRPC = auto()


class CompressionError(Exception):
    """RFC 9113 section 4.3: the header block cannot be decoded; nor can any later one."""


class MalformedRequest(Exception):
    """RFC 9113 section 8.1.1: the header block can be decoded, but makes no request."""


_ROUTES: Final = {
    f"/{SERVICE}/{METHOD}".encode(): Route.PROCESS,
    f"/{LOG_SERVICE}/{LOG_METHOD}".encode(): Route.ACCESS_LOG,
    b"/grpc.health.v1.Health/Check": Route.HEALTH_CHECK,
    b"/grpc.health.v1.Health/Watch": Route.HEALTH_WATCH,
}
_PSEUDO: Final = frozenset({b":method", b":scheme", b":authority", b":path"})
_REQUIRED: Final = frozenset({b":method", b":scheme", b":path"})
# RFC 9113 section 8.2.2.
_CONNECTION: Final = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"})
# RFC 9113 section 8.2.1: what a field's name and its value must not have.
_NOT_IN_NAMES: Final = bytes([*range(0x21), *b":", *range(0x41, 0x5B), *range(0x7F, 0x100)])
_NOT_IN_VALUES: Final = b"\0\r\n"

Field = tuple[bytes, bytes]


class RequestDecoder:
    """The header blocks of one connection, in the order in which they came. No block may be left out."""

    __slots__ = ("_decoder", "_known", "_stateless")

    def __init__(self) -> None:
        self._decoder = Decoder(max_header_list_size=MAX_HEADER_BLOCK)
        self._known: dict[bytes, Route] = {}
        self._stateless = False

    def table_size_acknowledged(self) -> None:
        """The peer knows that it may use no table. Its next block begins with that size (RFC 7541 section 4.2)."""
        self._decoder.max_allowed_table_size = 0

    def route(self, block: bytes) -> Route:
        """Where the request goes that has these headers.

        Raises:
            CompressionError: end the connection.
            MalformedRequest: end the stream.
        """
        known = self._known
        if (route := known.get(block)) is not None:
            return route
        route = _route(self._decode(block))
        if self._stateless and len(block) <= MAX_KNOWN_BLOCK:
            if len(known) >= MAX_KNOWN:
                known.clear()
            known[block] = route
        return route

    def trailers(self, block: bytes) -> None:
        """Takes a request's trailers, which say nothing here.

        Raises:
            CompressionError: end the connection.
            MalformedRequest: end the stream.
        """
        for name, value in self._decode(block):
            _check(name, value)

    def skip(self, block: bytes) -> None:
        """Takes the block of a stream that is not served.

        Raises:
            CompressionError: end the connection.
        """
        if not self._stateless:
            self._decode(block)

    def _decode(self, block: bytes) -> Sequence[Field]:
        decoder = self._decoder
        try:
            fields: Sequence[Field] = list(decoder.decode(block, raw=True))
        except HPACKError as error:
            raise CompressionError("a header block cannot be decoded") from error
        # With a table of size 0, the meaning of a block cannot depend on the blocks before it.
        self._stateless = decoder.max_allowed_table_size == 0
        return fields


def _route(fields: Sequence[Field]) -> Route:
    pseudo: dict[bytes, bytes] = {}
    content_type = b""
    regular = False
    for name, value in fields:
        if name.startswith(b":"):
            # RFC 9113 section 8.3: known ones, once each, before all others.
            if regular or name in pseudo or name not in _PSEUDO:
                raise MalformedRequest("pseudo-header field unknown, repeated or late")
            pseudo[name] = value
            continue
        regular = True
        _check(name, value)
        if name == b"content-type":
            content_type = value
    if not pseudo.keys() >= _REQUIRED or not pseudo[b":path"]:
        raise MalformedRequest("pseudo-header field missing")  # RFC 9113 section 8.3.1
    # gRPC over HTTP/2, "Requests".
    if pseudo[b":method"] != b"POST" or not _is_grpc(content_type):
        return Route.NOT_GRPC
    return _ROUTES.get(pseudo[b":path"], Route.UNKNOWN)


def _is_grpc(content_type: bytes) -> bool:
    rest = content_type.removeprefix(b"application/grpc")
    return rest != content_type and rest[:1] in (b"", b"+", b";")


def _check(name: bytes, value: bytes) -> None:
    if name in _CONNECTION or (name == b"te" and value != b"trailers"):
        raise MalformedRequest("a field of HTTP/1.1")  # RFC 9113 section 8.2.2
    if not name or len(name.translate(None, _NOT_IN_NAMES)) != len(name):
        # RFC 9113 section 8.2.1. The colon makes pseudo-header fields illegal in trailers (section 8.1).
        raise MalformedRequest("an illegal field name")
    if len(value.translate(None, _NOT_IN_VALUES)) != len(value):
        raise MalformedRequest("an illegal field value")  # RFC 9113 section 8.2.1
