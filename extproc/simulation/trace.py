"""Traces in Mooncake's format, read and written.

A line is a JSON object with `timestamp` (ms), `input_length` and `output_length` (tokens), and `hash_ids`, one for each
block of 512 tokens of the prompt: equal ids at the beginning are a common prefix. (`kvcache-ai/Mooncake`, FAST'25.)
`tenant` and `model` are ours and may be missing.
"""

import gzip
import zlib
from collections.abc import Iterable, Iterator
from math import inf
from pathlib import Path
from random import Random
from typing import Annotated, Any

import msgspec

from extproc.errors import GatewayError
from extproc.simulation.calls import Call
from modelsim.profile import BLOCK_SIZE

#: Tokens of a block in Mooncake's published traces, and in what `logging.trace` writes.
BLOCK_TOKENS = 512
#: A trace is held in memory: 2 KB a request of 100 blocks.
MAX_REQUESTS = 2_000_000
#: Bytes of a line: a million tokens are 2,000 blocks of 20 digits.
MAX_LINE = 1 << 20
#: Tokens of a prompt or an answer. No model reads or writes more; an engine's own limit is far below.
MAX_TOKENS = 100_000_000

_Length = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]


class TraceError(GatewayError):
    """A trace that cannot be read. `str()` gives the place and the reason."""


class Line(msgspec.Struct):
    """One request, as the file has it."""

    timestamp: Annotated[float, msgspec.Meta(ge=0)]
    input_length: _Length
    output_length: _Length
    hash_ids: list[int]
    tenant: str = ""
    model: str = ""


_decode = msgspec.json.Decoder(Line).decode
_encode = msgspec.json.Encoder().encode


class Trace:
    """Requests that come at fixed times, whatever becomes of those before them."""

    def __init__(self, calls: list[Call], block_tokens: int = BLOCK_TOKENS) -> None:
        self.calls = calls
        self.block_tokens = block_tokens

    @property
    def size(self) -> int:
        return len(self.calls)

    @property
    def seconds(self) -> float:
        """From the beginning to the last request."""
        return self.calls[-1].at if self.calls else 0.0

    def begin(self) -> Iterable[Call]:
        return self.calls

    def after(self, call: Call, now: float) -> None:
        """Nothing follows."""

    def faster(self, factor: float) -> "Trace":
        """The same requests in `1 / factor` of the time."""
        return self._with([(call, call.at / factor) for call in self.calls])

    def spread(self, tick: float, rng: Random) -> "Trace":
        """Requests of one moment spread evenly over `tick` seconds: traces of some loggers have a coarse clock."""
        return self._with([(call, call.at + rng.random() * tick) for call in self.calls])

    def halves(self) -> tuple["Trace", "Trace"]:
        """The first half of the time and the second, which begins at 0 too."""
        middle = self.seconds / 2
        first = [call for call in self.calls if call.at < middle]
        rest = [(call, call.at - middle) for call in self.calls if call.at >= middle]
        return Trace(first, self.block_tokens), self._with(rest)

    def _with(self, moved: Iterable[tuple[Call, float]]) -> "Trace":
        calls = [
            Call(at, one.prompt_tokens, one.output_tokens, one.blocks, tenant=one.tenant, model=one.model)
            for one, at in moved
        ]
        calls.sort(key=lambda call: call.at)
        return Trace(calls, self.block_tokens)


def read(path: Path, block_tokens: int = BLOCK_TOKENS) -> Trace:
    """The trace in a file, which may be compressed by gzip. Its first request comes at 0.

    Raises:
        TraceError: it is not there, empty, or a line of it is wrong.
    """
    if block_tokens % BLOCK_SIZE:
        raise TraceError(f"a block must be a multiple of {BLOCK_SIZE} tokens, not {block_tokens}")
    calls: list[Call] = []
    try:
        for number, text in enumerate(_lines(path), 1):
            if text.strip():
                calls.append(_call(path, number, text, block_tokens))
            if len(calls) > MAX_REQUESTS:
                raise TraceError(f"{path} has more than {MAX_REQUESTS:,} requests: cut it into parts")
    except (OSError, EOFError, zlib.error) as error:
        raise TraceError(f"{path} cannot be read: {error}") from error
    if not calls:
        raise TraceError(f"{path} has no request")
    start = min(call.at for call in calls)
    for call in calls:
        call.at = (call.at - start) / 1000
    calls.sort(key=lambda call: call.at)
    return Trace(calls, block_tokens)


def write(path: Path, trace: Trace) -> None:
    """Writes a trace to a file.

    Raises:
        TraceError: it cannot be written.
    """
    try:
        with path.open("wb") as file:
            for call in trace.calls:
                file.write(_encode(line(call)) + b"\n")
    except OSError as error:
        raise TraceError(f"{path} cannot be written: {error}") from error


def line(call: Call) -> dict[str, Any]:
    """A request as the format has it."""
    found: dict[str, Any] = {
        "timestamp": round(call.at * 1000),
        "input_length": call.prompt_tokens,
        "output_length": call.output_tokens,
        "hash_ids": list(call.blocks),
    }
    if call.tenant:
        found["tenant"] = call.tenant
    if call.model:
        found["model"] = call.model
    return found


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as file:
        number = 0
        while text := file.readline(MAX_LINE + 1):
            number += 1
            if len(text) > MAX_LINE:
                raise TraceError(f"{path}:{number}: a line has more than {MAX_LINE:,} bytes")
            yield text


def _call(path: Path, number: int, text: bytes, block_tokens: int) -> Call:
    """A line's request, at its milliseconds."""
    try:
        one = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TraceError(f"{path}:{number}: {error}") from None
    if not one.timestamp < inf:
        raise TraceError(f"{path}:{number}: timestamp is no number")
    tokens = max(one.input_length, 1)
    count = -(-tokens // block_tokens)
    ids = one.hash_ids
    if len(ids) < count - 1:
        raise TraceError(
            f"{path}:{number}: {len(ids)} hash_ids for {tokens:,} tokens: one is wanted for each {block_tokens}"
            " (--block-tokens)"
        )
    if len(ids) > count:
        raise TraceError(
            f"{path}:{number}: {len(ids)} hash_ids for {tokens:,} tokens: {count} are enough, if each stands for"
            f" {block_tokens} (--block-tokens)"
        )
    blocks = tuple(ids) if len(ids) == count else (*ids, _unnamed(number))
    return Call(one.timestamp, tokens, max(one.output_length, 1), blocks, tenant=one.tenant, model=one.model)


def _unnamed(number: int) -> int:
    """A name for the rest of a prompt that has none: loggers that name full blocks alone leave it out."""
    return -number
