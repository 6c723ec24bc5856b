"""The beginning of a JSON value: what is read of a large one, so that its reading costs what it is worth.

Routing looks at how prompts begin. Of a body of many megabytes, or of a million values, the rest is only measured.
"""

import codecs
import re

#: Bytes that are read of a body: the text of 250,000 tokens.
WINDOW = 1 << 20
#: Values that are read of a body of any length, and for how many bytes of it one more. Each becomes an object, and at
#: worst a field of the prompt's text, about 1 µs. Chats have one in a hundred bytes; in text a comma counts as one.
VALUES = 1000
BYTES_A_VALUE = 48
#: Values that are read of any body: chats of thousands of messages have as many, of a megabyte and more.
MAX_VALUES = 10_000

#: What JSON consists of, but for numbers and names. The last string may be cut off by the end.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+("|\\?\Z)|[\[\]{},:]', re.DOTALL)
#: A string up to where an escape is cut off.
_WHOLE_ESCAPES = re.compile(
    rb'"(?:[^"\\]++|\\[^u]|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4}|\\u(?![dD][89abAB])[0-9a-fA-F]{4})*+',
    re.DOTALL,
)
#: A prompt of token ids, or its beginning: many values, each of a hundredth of another's cost.
_TOKEN_IDS = re.compile(rb"\[[0-9 \n,]*+\]?")
_ENDS = {0x5B: b"]", 0x7B: b"}"}
_QUOTE, _COMMA, _COLON = b'",:'


def values_for(size: int) -> int:
    """How many values are read of a body of `size` bytes."""
    return min(VALUES + size // BYTES_A_VALUE, MAX_VALUES)


def is_short(body: bytes) -> bool:
    """Whether all of `body` is read: it has surely no more values than that, however it is made."""
    size = len(body)
    return size <= WINDOW and body.count(b",") + body.count(b"{") + body.count(b"[") <= values_for(size)


def head(value: bytes, window: int, values: int, *, ids: bool = False) -> tuple[bytes, int]:
    """JSON of the beginning of a valid JSON value, and how many values it has.

    It is all of it where that has at most so many bytes and values. Else it ends within them: the last text is cut off,
    and what is open there is closed. Empty where nothing is left. `ids`: a list of numbers counts as one value.
    """
    cut = value[:window]
    if ids and _TOKEN_IDS.fullmatch(cut):
        return (value if len(cut) == len(value) else cut[: max(cut.rfind(b","), 1)] + b"]"), 1
    ends: list[bytes] = []  # of what is open
    good = 0  # up to where it can be closed
    count = 0
    key = False  # whether the next string is the name of a member
    for token in _TOKEN.finditer(cut):
        start, end = token.span()
        first = cut[start]
        if first == _QUOTE:
            if not key:
                if token[1] != b'"':
                    return cut[:start] + _whole_part(cut[start:]) + b'"' + b"".join(reversed(ends)), count
                good = end
        elif first == _COLON:
            key = False
        elif first == _COMMA:
            good, key = start, ends[-1] == b"}"
            count += 1
        elif first in _ENDS:
            ends.append(_ENDS[first])
            good, key = end, ends[-1] == b"}"
            count += 1
        else:
            ends.pop()
            good, key = end, False
        if count > values:
            break
    else:
        if len(cut) == len(value):
            return value, count
    return (cut[:good] + b"".join(reversed(ends)) if good else b""), count


def _whole_part(text: bytes) -> bytes:
    """A string that is cut off, without its closing quote, up to the last whole character.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    match = _WHOLE_ESCAPES.match(text)
    assert match is not None  # noqa: S101 - it begins with a quote
    whole = match[0]
    return whole[: codecs.utf_8_decode(whole, "strict", False)[1]]
