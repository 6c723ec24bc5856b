"""One spelling for each JSON value, and a short name for what is no text: images, audio, files."""

import msgspec
from xxhash import xxh3_128, xxh3_128_hexdigest

#: Where a client wants its provider's cache to end. It wanders to the last block of each turn and the model never sees
#: it, so two turns must not differ by it.
CACHE_CONTROL = "cache_control"

#: Characters. Longer strings inside of a digested value are digested themselves first: base64 of an image would
#: otherwise be copied into its JSON.
LONG_STRING = 256

#: Levels that are gone through for the two above. Parts of messages have four.
MAX_DEPTH = 16

#: Characters that are encoded at a time to be hashed. One copy of 256 KiB costs more in page faults than all of its
#: hashing: 180 µs for the whole body against 91.
PIECE = 16 << 10

_encode = msgspec.json.Encoder(order="sorted").encode


def canonical(value: object) -> str:
    """JSON text of `value`, the same for every order of keys, spacing and escaping. It holds no control character."""
    return _encode(value).decode()


def digest(value: object) -> str:
    """128 bits of `value` as 32 hexadecimal digits, the same for every spelling of its JSON."""
    return xxh3_128_hexdigest(_encode(_short(value)))


def _short(value: object, depth: int = 0) -> object:
    if type(value) is str:
        return value if len(value) <= LONG_STRING else _digest_text(value)
    if depth == MAX_DEPTH:
        return value
    if type(value) is dict:
        return {key: _short(item, depth + 1) for key, item in value.items() if key != CACHE_CONTROL}
    if type(value) is list:
        return [_short(item, depth + 1) for item in value]
    return value


def _digest_text(text: str) -> str:
    hashed = xxh3_128()
    for start in range(0, len(text), PIECE):
        # No lone surrogates can be in it: the decoder refuses them.
        hashed.update(text[start : start + PIECE].encode())
    return "xxh3:" + hashed.hexdigest()
