"""Bodies with a content encoding: gzip, deflate, br, zstd. What comes out is bounded, whatever goes in."""

import sys
import zlib
from collections.abc import Callable
from typing import Protocol

import brotli

from extproc.errors import bad_request, body_too_large, unsupported_encoding

if sys.version_info >= (3, 14):
    from compression import zstd  # pragma: no cover - one Python has one of the two
else:
    from backports import zstd

__all__ = ["KNOWN", "decoded", "encoding_of", "zstd"]

#: Powers of two: RFC 9659 asks no more of a receiver than a window of 8 MiB.
_WINDOW = 23
#: gzip with its header, zlib with its own, and deflate without any, as zlib calls them.
_GZIP, _ZLIB, _RAW = 31, 15, -15

#: What is understood, as `Accept-Encoding` has it.
KNOWN = "gzip, deflate, br, zstd"


class _Decoder(Protocol):
    """As the standard library's decompressors."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Faulty(Exception):
    """The body is not valid in its encoding."""


def encoding_of(header: str) -> str:
    """The one encoding that a `Content-Encoding` names, in lower case; empty: none.

    Raises:
        Refusal: 415; several, or one that is not known.
    """
    names = [name for name in (part.strip().lower() for part in header.split(",")) if name not in {"", "identity"}]
    if not names:
        return ""
    if len(names) > 1 or names[0] not in _DECODERS:
        raise unsupported_encoding(KNOWN)
    return _CANONICAL.get(names[0], names[0])


def decoded(body: bytes, encoding: str, limit: int) -> bytes:
    """`body` without its encoding, at most `limit` bytes.

    `encoding` is as `encoding_of` gives it, not empty.

    Raises:
        Refusal: 400, the body is not of that encoding, or not whole; 413, it grows beyond the limit.
    """
    try:
        text = _DECODERS[encoding](body, limit + 1)
    except (_Faulty, zlib.error, zstd.ZstdError, brotli.error, EOFError) as error:
        message = f"The request body is not valid {encoding}, as its content-encoding says."
        raise bad_request(message, code="invalid_encoding", detail=str(error)) from None
    if len(text) > limit:
        raise body_too_large(limit)
    return text


def _zlib(body: bytes, most: int) -> bytes:
    """gzip, of several members too, and zlib."""
    return _all(_Zlib(_GZIP), body, most, lambda: _Zlib(_GZIP))


def _deflate(body: bytes, most: int) -> bytes:
    """Zlib's format, as RFC 9110 section 8.4.1.2 has it; without its header, as some clients send it."""
    try:
        return _all(_Zlib(_ZLIB), body, most, None)
    except zlib.error:
        return _all(_Zlib(_RAW), body, most, None)


def _zstandard(body: bytes, most: int) -> bytes:
    def frame() -> _Decoder:
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW})

    return _all(frame(), body, most, frame)


def _all(decoder: _Decoder, body: bytes, most: int, again: Callable[[], _Decoder] | None) -> bytes:
    """The first `most` bytes of what `body` gives; `again` makes a decoder for what follows the first one's end."""
    pieces = [decoder.decompress(body, most)]
    size = len(pieces[0])
    while size < most:
        if not decoder.eof:
            # Less than was asked for: the decoder holds nothing back, it waits for more input.
            raise _Faulty("cut short")
        rest = decoder.unused_data
        if not rest:
            break
        if again is None:
            raise _Faulty("something follows its end")
        decoder = again()
        pieces.append(decoder.decompress(rest, most - size))
        size += len(pieces[-1])
    return b"".join(pieces)


class _Zlib:
    """zlib's decompressor with the interface of the others."""

    def __init__(self, window: int) -> None:
        self._own = zlib.decompressobj(window)

    @property
    def eof(self) -> bool:
        return self._own.eof

    @property
    def unused_data(self) -> bytes:
        return self._own.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._own.decompress(self._own.unconsumed_tail + data, max_length)


def _brotli(body: bytes, most: int) -> bytes:
    decoder = brotli.Decompressor()
    text: bytes = decoder.process(body, output_buffer_limit=most)
    if len(text) < most and not decoder.is_finished():
        raise _Faulty("cut short")
    return text


#: RFC 9110 section 8.4.1.3: an older name.
_CANONICAL = {"x-gzip": "gzip"}
_DECODERS = {"gzip": _zlib, "x-gzip": _zlib, "deflate": _deflate, "br": _brotli, "zstd": _zstandard}
