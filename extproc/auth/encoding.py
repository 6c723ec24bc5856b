"""base64url and JSON, strictly: one text for one value, so that no other parser can read a different value."""

import binascii
import json
import math
import re
from typing import NoReturn

#: Levels of nesting. Claims have 3 or 4 (Keycloak's `resource_access`). The limit is ours because that of the
#: interpreter's recursion differs between versions by more than ten times.
MAX_DEPTH = 32

#: RFC 4648 section 5.
ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
#: The last character of a group of 2 carries 2 bits of data and 4 that must be zero; in a group of 3 it is 4 and 2.
_CANONICAL_ENDS = {2: frozenset(b"AQgw"), 3: frozenset(b"AEIMQUYcgkosw048")}
_PADDING = {0: b"", 2: b"==", 3: b"="}


def base64url(text: bytes) -> bytes:
    """Decode text that is known to consist of `ALPHABET` alone. Raises ValueError where it is not canonical."""
    rest = len(text) % 4
    if rest and (rest == 1 or text[-1] not in _CANONICAL_ENDS[rest]):
        raise ValueError("not canonical base64url")
    return binascii.a2b_base64(text.translate(_TO_STANDARD) + _PADDING[rest])


def json_object(data: bytes) -> dict[str, object]:
    """Decode a JSON object. Raises ValueError.

    Refused besides what is no JSON: encodings other than UTF-8, a name that comes twice in an object, NaN, infinities
    and numbers beyond the range of a float, strings that are no text (lone surrogates), nesting beyond `MAX_DEPTH`.
    """
    text = data.decode()
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH:
        _check_depth(data)
    value = _DECODER.decode(text)
    if "\\u" in text:
        # Only an escape can bring in a lone surrogate; encoding it raises UnicodeEncodeError, a ValueError.
        json.dumps(value, ensure_ascii=False).encode()
    if type(value) is not dict:
        raise ValueError("not an object")
    return value


#: A string, in which brackets do not count. It need not end: what can fail would be tried again at each of its quotes,
#: in square time.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?')
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def _check_depth(data: bytes) -> None:
    """Raises ValueError. Nothing recurses or loops over bytes here: each round takes the innermost level away."""
    brackets = _STRING.sub(b"", data).translate(_ONE_KIND, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        raise ValueError("nested too deeply, or not closed")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is out of range")
    return number


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_constant)
