"""Another name for the model in a JSON body, and every other byte as it was."""

import re

import msgspec
import numpy as np

from extproc.errors import bad_request

#: Members `model` that one body may have. Of several, some JSON libraries take the first and others the last, so each
#: is replaced; each costs a pass over the body, and no client means to send more than one.
MAX_MEMBERS = 4

#: Bytes of the key: its quotes, and five letters that may each be written in six.
_LONGEST_KEY = 2 + 5 * 6
_KEY = re.compile(rb'"(?:m|\\u006[dD])(?:o|\\u006[fF])(?:d|\\u0064)(?:e|\\u0065)(?:l|\\u006[cC])"\Z')
_SPACE = b" \t\r\n"
#: Bytes that a body has if it names a model: the key itself, or the start of an escaped letter.
_MODEL, _ESCAPED = b'"model"', b"\\u00"


_NONE = msgspec.Raw(b"")


class _Body(msgspec.Struct):
    model: msgspec.Raw = _NONE


_decode = msgspec.json.Decoder(_Body).decode


def replace_model(body: bytes, model: str) -> bytes:
    """`body` with `model` as the value of its top-level member of that name; as it is where it has none.

    Raises:
        Refusal: 400, where there are more than `MAX_MEMBERS` of them.
        msgspec.DecodeError: `body` is not a JSON object. Never for what `parsers.parse` has read.
    """
    value = msgspec.json.encode(model)
    pieces: list[bytes] = []
    rest = end = len(body)
    text = body
    while (raw := _decode(text).model) is not _NONE:
        if len(pieces) == MAX_MEMBERS:
            message = f"The request body names `model` more than {MAX_MEMBERS} times."
            raise bad_request(message, code="invalid_value", param="model")
        start, after = position(text, raw)
        pieces.append(body[after:rest])
        rest = start
        end = _key_before(body, start)
        before = _before(body, end)
        if before is None:
            break
        text = before
    pieces.append(body[:rest])
    return value.join(reversed(pieces))


def put_model(body: bytes, model: str) -> bytes:
    """`body` with `model` as its top-level member of that name, whether it has one or not.

    Raises:
        Refusal, msgspec.DecodeError: as `replace_model`.
    """
    if _decode(body).model is not _NONE:
        return replace_model(body, model)
    start = body.index(b"{") + 1
    rest = body[start:]
    comma = b"" if rest.lstrip(_SPACE).startswith(b"}") else b","
    return b'%s"model":%s%s%s' % (body[:start], msgspec.json.encode(model), comma, rest)


def names_models(body: bytes) -> bool:
    """Whether `body` has several top-level members `model`: what one JSON library takes for it, another may not.

    Raises:
        msgspec.DecodeError: as `replace_model`, where there may be several.
    """
    if body.count(_MODEL) < 2 and body.find(_ESCAPED) < 0:
        return False  # nearly always: no more than one place where it could be named
    raw = _decode(body).model
    if raw is _NONE:
        return False
    before = _before(body, _key_before(body, position(body, raw)[0]))
    return before is not None and _decode(before).model is not _NONE


def _before(body: bytes, end: int) -> bytes | None:
    """The object without the member whose key begins at `end`, and what follows it. None: it has no `model`.

    Of several members the decoder finds the last: without it, the one before it is the last.
    """
    if body.find(_MODEL, 0, end) < 0 and body.find(_ESCAPED, 0, end) < 0:
        return None
    return body[:end].rstrip(_SPACE).removesuffix(b",") + b"}"


def position(text: bytes, value: msgspec.Raw) -> tuple[int, int]:
    """Where `value`, which was decoded out of `text`, begins and ends there; (0, 0) for an empty one: it is nowhere.

    Raises:
        RuntimeError: `value` is no view of `text`.
    """
    length = len(memoryview(value))
    if not length:
        return 0, 0
    # msgspec gives a view of the text (`Raw`): the distance in memory is the place in the text. A copy would lie
    # anywhere, and bytes that were not meant would be replaced: so the bytes found are compared.
    start = _address(value) - _address(text)
    if not 0 <= start <= len(text) - length or memoryview(text)[start : start + length] != memoryview(value):
        raise RuntimeError("the JSON decoder gave a copy of the model's name, not a view")
    return start, start + length


def _address(view: bytes | msgspec.Raw) -> int:
    address: int = np.frombuffer(view, np.uint8).__array_interface__["data"][0]
    return address


def _key_before(body: bytes, value: int) -> int:
    """Where the key begins whose value begins at `value`."""
    colon = body[:value].rstrip(_SPACE)[:-1].rstrip(_SPACE)
    key = _KEY.search(colon, max(len(colon) - _LONGEST_KEY, 0))
    assert key is not None  # noqa: S101 - the decoder found it
    return key.start()
