"""Requests as a trace that can be replayed: when, how long, and which beginnings were equal. No word of a prompt.

The format is Mooncake's (`kvcache-ai/Mooncake`, FAST'25), which `infer-gateway simulate` and the field's load
generators read: one JSON object a line with `timestamp` (ms), `input_length`, `output_length` and `hash_ids`, one id
for each `BLOCK_TOKENS` tokens of the prompt. Ours are milliseconds since the epoch, so that the files of several
gateways can be put together; lines come in the order in which requests ended. `model` is the client's, `tenant` a
keyed hash.

An id is the keyed BLAKE2b of its block's text and of the id before it, so that an id names all up to there. Without the
key, no reader can find out whether a prompt began with a known text.
"""

import os
from collections.abc import Callable
from hashlib import blake2b

import msgspec

from extproc.telemetry.finished import Ended, Refused
from scheduler.types import Prompt

#: Tokens that an id stands for, as in Mooncake's published traces.
BLOCK_TOKENS = 512
#: Ids of one prompt: four million tokens. More would hold up the loop that decides for more than 20 ms.
MAX_BLOCKS = 8192
#: Bytes of a key: fewer could be guessed, and BLAKE2b takes no more.
MIN_KEY, MAX_KEY = 16, 64

#: Bits of an id: every JSON reader keeps so many exactly, and of a million different blocks none are taken for equal.
_ID_BITS = 52
_ID_BYTES = 7
_ID_SHIFT = 8 * _ID_BYTES - _ID_BITS
_CHAIN = 8
_PERSON_BLOCK, _PERSON_TENANT = b"trace block", b"trace tenant"
_encode = msgspec.json.Encoder().encode


class TraceLog:
    """A `Witness` that writes a line for each request that had a prompt and that a pod computed, or should have.

    Args:
        key: secret of 16 to 64 bytes; equal keys give equal ids.
        write: takes whole lines. What it writes to must not block for long.
        characters_per_token: of the prompts; determines how much text is a block.
    """

    def __init__(self, key: bytes, write: Callable[[bytes], object], characters_per_token: float) -> None:
        self._key = key
        self._write = write
        self._characters = max(round(BLOCK_TOKENS * characters_per_token), 1)

    def blocks(self, model: str, prompt: Prompt) -> tuple[int, ...]:
        """The ids of a prompt's blocks, the last of which may be partly filled. To be asked for before text is dropped.

        1 µs for each 2 KB of text, and 2 µs for each block.
        """
        if not prompt.length:
            return ()
        text, size, key = str(prompt), self._characters, self._key
        before = model.encode("utf-8", "surrogatepass")
        ids: list[int] = []
        for start in range(0, min(len(text), size * MAX_BLOCKS), size):
            digest = blake2b(before, digest_size=_ID_BYTES, key=key, person=_PERSON_BLOCK)
            digest.update(text[start : start + size].encode("utf-8", "surrogatepass"))
            ids.append(int.from_bytes(digest.digest()) >> _ID_SHIFT)
            before = ids[-1].to_bytes(_CHAIN)
        return tuple(ids)

    def ended(self, ended: Ended) -> None:
        status, usage = ended.outcome.status, ended.outcome.usage
        if not ended.blocks or (status is not None and 400 <= status < 500 and status != 429):
            return
        tokens = ended.request.prompt.tokens if usage.prompt is None else max(usage.prompt, 1)
        line = {
            "timestamp": round((ended.at - ended.seconds) * 1000),
            "input_length": tokens,
            "output_length": usage.completion or 0,
            "hash_ids": self._fitted(ended.blocks, tokens),
            "model": ended.model,
            "tenant": self._tenant(ended.subject),
        }
        self._write(_encode(line) + b"\n")

    def refused(self, refused: Refused) -> None:
        """No engine would have seen it: nothing to replay."""

    def _fitted(self, blocks: tuple[int, ...], tokens: int) -> tuple[int, ...]:
        """As many ids as the prompt has blocks of tokens: readers refuse other numbers, and text measures tokens badly.

        Ids too many are left out at the end, where the fewest prompts agree. Those too few follow from the last, so
        that equal prompts stay equal.
        """
        count = -(-tokens // BLOCK_TOKENS)
        if len(blocks) >= count:
            return blocks[:count]
        more = list(blocks)
        while len(more) < min(count, MAX_BLOCKS):
            digest = blake2b(more[-1].to_bytes(_CHAIN), digest_size=_ID_BYTES, key=self._key, person=_PERSON_BLOCK)
            more.append(int.from_bytes(digest.digest()) >> _ID_SHIFT)
        return tuple(more)

    def _tenant(self, subject: str) -> str:
        if not subject:
            return ""
        raw = subject.encode("utf-8", "surrogatepass")
        return blake2b(raw, digest_size=6, key=self._key, person=_PERSON_TENANT).hexdigest()


class TraceFile:
    """A file that grows line by line up to `limit` bytes. Several processes may write to one.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str, limit: int, full: Callable[[], None]) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._limit = limit
        #: Called once when nothing more is written.
        self._full = full
        self._closed = False
        self._cut = False

    def write(self, line: bytes) -> None:
        """Appends a line.

        Raises:
            OSError: the disk is full, or gone.
        """
        if self._closed:
            return
        if os.fstat(self._file).st_size + len(line) > self._limit:
            self._closed = True
            self._full()
            return
        # After a line that was cut off, a reader is to find the next.
        whole = b"\n" + line if self._cut else line
        self._cut = os.write(self._file, whole) < len(whole)
        if self._cut:
            raise OSError("a line of the trace was cut off")

    def close(self) -> None:
        self._closed = True
        os.close(self._file)


def read_key(path: str) -> bytes:
    """The key in a file, without line ends behind it.

    Raises:
        OSError: it cannot be read.
        ValueError: it is too short or too long.
    """
    with open(path, "rb") as file:  # noqa: PTH123 - bounded read
        key = file.read(MAX_KEY + 3).rstrip(b"\r\n")
    if not MIN_KEY <= len(key) <= MAX_KEY:
        raise ValueError(f"a key has {MIN_KEY} to {MAX_KEY} bytes: `openssl rand -hex 32` makes one")
    return key
