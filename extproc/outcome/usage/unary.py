"""The usage object of an answer that is one JSON object, whatever its size, in bounded memory.

An answer that fits is decoded, and the `usage` of its top level counts. Of a larger one (a batch of embeddings has
megabytes) the beginning and the end are kept: engines put their usage behind the data, llama.cpp before it.
"""

import json
import re

import msgspec

#: Bytes kept of the beginning, and as many of the end. A usage object has some 200; chat answers fit whole.
KEPT = 64 << 10

#: An unescaped quote before the name and a colon behind it: in a text both quotes would be escaped.
_USAGE = re.compile(rb'(?<!\\)"usage"\s*:\s*(?=\{)')
#: Bytes. A usage object with every detail of today's APIs has 600.
_MAX_USAGE = 4 << 10


class _Answer(msgspec.Struct):
    usage: object = None


_decode = msgspec.json.Decoder(_Answer).decode
_raw_decode = json.JSONDecoder().raw_decode


class UnaryBody:
    """Feed it chunks; ask for the usage when they have ended."""

    __slots__ = ("_head", "_kept", "_tail", "_total")

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._head = bytearray()
        #: The bytes after the head: all of them, or at least the last `kept` bytes.
        self._tail = bytearray()
        self._total = 0

    def feed(self, chunk: bytes) -> None:
        self._total += len(chunk)
        room = self._kept - len(self._head)
        if room > 0:
            self._head += chunk[:room]
            chunk = chunk[room:]
        # Only the end of a large chunk can be kept.
        self._tail += chunk[-2 * self._kept :]
        if len(self._tail) > 2 * self._kept:
            del self._tail[: -self._kept]

    def usage(self) -> object:
        """The usage object, or None where there is none or the answer broke off before it."""
        if self._total <= 2 * self._kept:
            try:
                return _decode(self._head + self._tail).usage
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                return None
        return _last_usage(self._tail[-self._kept :]) or _last_usage(self._head)


def _last_usage(text: bytearray) -> object:
    last = None
    for match in _USAGE.finditer(text):
        piece = text[match.end() : match.end() + _MAX_USAGE].decode("utf-8", "replace")
        try:
            found, _ = _raw_decode(piece)
        except (ValueError, RecursionError):
            # Cut off here, or no JSON at all.
            continue
        if any(name.endswith("_tokens") for name in found):
            last = found
    return last
