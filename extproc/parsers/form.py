"""The model that a form names: `multipart/form-data`, as uploads of audio and files come, and URL-encoded.

Files are passed over by looking for the boundary, at the speed of `bytes.find`; the part may be behind them.
"""

import re
from typing import NamedTuple
from urllib.parse import parse_qsl

from extproc.errors import bad_request

MULTIPART = "multipart/form-data"
URL_ENCODED = "application/x-www-form-urlencoded"

#: Parts of a form that are looked at. OpenAI's have a dozen fields, and lists of 16 files.
MAX_PARTS = 1000
#: Bytes of a part's headers.
MAX_HEAD = 4096
#: Bytes of a field's value: a model's name has up to 1024 characters of up to 4.
MAX_VALUE = 4096
#: RFC 2046 section 5.1.1.
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_DISPOSITION = re.compile(rb"(?:^|\r\n)content-disposition:[ \t]*form-data((?:[^\r\n]|\r\n[ \t])*)", re.IGNORECASE)
_NAME = re.compile(rb';\s*name=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.IGNORECASE)
#: What makes a name or a value mean another thing to some servers.
_UNUSUAL = re.compile(rb";\s*name\*|(?:^|\r\n)content-transfer-encoding:[ \t]*(?!binary|8bit|7bit)", re.IGNORECASE)


class Field(NamedTuple):
    """A value, and where in the body it is."""

    value: bytes
    start: int
    end: int


class Form(NamedTuple):
    """The fields `model` of a form, in their order."""

    models: tuple[Field, ...] = ()
    #: Whether something in it may be read in several ways, so that what was found need not be all.
    unclear: bool = False

    def model(self) -> str:
        """The last of them, as most servers take it; empty: there is none that could be a name."""
        for field in reversed(self.models):
            try:
                return field.value.decode().strip()
            except UnicodeDecodeError:
                return ""
        return ""


def read_form(body: bytes, content_type: str) -> Form:
    """The fields of a form. Never raises: a server will say itself what it does not understand."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == URL_ENCODED:
        return _url_encoded(body)
    found = _BOUNDARY.search(content_type)
    if kind != MULTIPART or found is None:
        return Form(unclear=True)
    return _multipart(body, (found[1] or found[2]).encode("latin-1", "replace"))


def _url_encoded(body: bytes) -> Form:
    if len(body) > MAX_VALUE * 16:
        return Form(unclear=True)
    try:
        pairs = parse_qsl(body.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_PARTS)
    except ValueError:
        return Form(unclear=True)
    return Form(tuple(Field(value.encode("utf-8", "replace"), -1, -1) for name, value in pairs if name == "model"))


def _multipart(body: bytes, boundary: bytes) -> Form:
    delimiter = b"\r\n--" + boundary
    if body.startswith(delimiter[2:]):
        at = len(delimiter) - 2
    else:
        at = body.find(delimiter)
        if at < 0:
            return Form(unclear=True)
        at += len(delimiter)
    models: list[Field] = []
    unclear = False
    for _ in range(MAX_PARTS):
        if body.startswith(b"--", at):
            return Form(tuple(models), unclear)
        line = body.find(b"\r\n", at, at + MAX_HEAD)
        head_end = body.find(b"\r\n\r\n", at, at + MAX_HEAD)
        end = body.find(delimiter, at)
        if line < 0 or head_end < 0 or end < 0 or end < head_end or body[at:line].strip(b" \t"):
            break
        head = body[line:head_end]
        if _UNUSUAL.search(head):
            unclear = True
        disposition = _DISPOSITION.search(head)
        name = None if disposition is None else _NAME.search(disposition[1])
        if name is not None:
            text = name[2] if name[1] is None else re.sub(rb"\\(.)", rb"\1", name[1])
            if text == b"model":
                start = head_end + 4
                if end - start > MAX_VALUE:
                    unclear = True
                else:
                    models.append(Field(body[start:end], start, end))
        at = end + len(delimiter)
    return Form(tuple(models), unclear=True)


def replace_model(body: bytes, form: Form, model: str) -> bytes:
    """The body with another name of the model in each of its fields.

    Raises:
        Refusal: 400; the form is URL-encoded, or has no such field.
    """
    if not form.models or any(field.start < 0 for field in form.models):
        message = "This form names its model in a way in which it cannot be sent on under another name."
        raise bad_request(message, code="invalid_value", param="model")
    pieces: list[bytes] = []
    at = 0
    for field in form.models:
        pieces.append(body[at : field.start])
        at = field.end
    pieces.append(body[at:])
    return model.encode().join(pieces)
