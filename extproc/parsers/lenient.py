"""JSON as Python's `json` reads it, where strict JSON ends: most engines are written in Python.

A byte order mark, UTF-16, UTF-32, NaN, lone surrogates: Python's reader takes them, so requests that have them are
served.
"""

import codecs
import json
import math
from typing import Any

import msgspec

from extproc.errors import bad_request

#: Bytes. Python's reader holds up all other requests meanwhile: 10 ms.
MAX_LENIENT = 1 << 20


def as_utf8(body: bytes) -> bytes:
    """The body in UTF-8 without a byte order mark, as far as it is text in an encoding that Python's reader takes."""
    if body.startswith(codecs.BOM_UTF8):
        return body[len(codecs.BOM_UTF8) :]
    encoding = json.detect_encoding(body)
    if encoding.startswith("utf-8"):
        return body
    try:
        return body.decode(encoding).encode()
    except UnicodeError:
        return body


def read(body: bytes) -> tuple[dict[str, Any], bool]:
    """The members of a JSON object, and whether it has several of the name `model`, of which the last is there.

    Raises:
        Refusal: 400; Python's reader does not take it either.
    """
    if len(body) > MAX_LENIENT:
        raise bad_request("The request body is not valid JSON.", code="invalid_json", detail="too large to be lenient")
    last: list[tuple[str, Any]] = []

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        # The outermost object is the last to end.
        nonlocal last
        last = pairs
        return dict(pairs)

    try:
        value = json.loads(body, object_pairs_hook=keep)
    except RecursionError as error:
        raise bad_request("The request body is nested too deeply.", code="invalid_json") from error
    except UnicodeDecodeError as error:
        raise bad_request("The request body is not valid UTF-8.", code="invalid_json", detail=str(error)) from error
    except ValueError as error:
        raise bad_request("The request body is not valid JSON.", code="invalid_json", detail=str(error)) from error
    if not isinstance(value, dict):
        raise bad_request("The request body must be a JSON object.", code="invalid_type")
    return value, sum(name == "model" for name, _ in last) > 1


def strict(body: bytes) -> bytes:
    """The same members in strict JSON, for read-only use: forms that it lacks become null, or a question mark.

    Raises:
        Refusal: as `read`.
    """
    text = as_utf8(body)
    if text is not body:
        try:
            msgspec.json.decode(text, type=msgspec.Raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        else:
            return text
    read(text)
    value = json.loads(text, parse_constant=lambda _: None, parse_float=_finite)
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def write(members: dict[str, Any]) -> bytes:
    """The members as Python's writer gives them: NaN as it came, lone surrogates escaped."""
    return json.dumps(members).encode()
