"""Reads a request: its body and all else that may name a model; and rewrites the body for the pod."""

import re
from typing import NamedTuple

import msgspec

from extproc.errors import bad_request
from extproc.parsers import Api, ParsedRequest, form, is_model_api, lenient, parse
from extproc.parsers.encodings import decoded, encoding_of
from extproc.parsers.form import Form, read_form
from extproc.parsers.paths import named_in
from extproc.protocol.headers import CONTENT_ENCODING, CONTENT_TYPE, METHOD, PATH, Headers
from extproc.request.rewrite_body import names_models, put_model
from scheduler.types import Prompt

#: Methods whose body is read for a model's name.
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_JSON = re.compile(r"[/+]json\b")


class Reading(NamedTuple):
    """A request as it was read."""

    #: None: the request has no body to read, and names no model.
    parsed: ParsedRequest | None = None
    #: Without its content encoding; None where it has no body, or an empty one, or none was shown.
    body: bytes | None = None
    #: The encoding that it came with; empty: none.
    encoding: str = ""
    #: The model that the body itself names; empty: none, or there is none.
    in_body: str = ""
    #: Of a body that is a form.
    form: Form | None = None
    #: Whether several models are named, or may be: by path, query and body, or twice by one of them.
    unclear: bool = False

    @property
    def model(self) -> str:
        return "" if self.parsed is None else self.parsed.model


_NOTHING = Reading()


def read(headers: Headers, body: bytes | None, *, limit: int) -> Reading:
    """Reads a request.

    Args:
        headers: its own.
        body: None: it is not shown.
        limit: most bytes of the body without its encoding.

    Raises:
        Refusal: 400, 413 or 415.
    """
    target = headers.get(PATH)
    if not body or headers.get(METHOD) not in _WITH_BODY:
        return _by_path(_NOTHING, target)
    coded = headers.raw(CONTENT_ENCODING)
    encoding = "" if coded is None else encoding_of(coded.decode("latin-1"))
    if encoding:
        body = decoded(body, encoding, limit)
        if not body:
            return _by_path(Reading(body=body, encoding=encoding), target)
    kind = headers.get(CONTENT_TYPE)
    if kind.lower().startswith((form.MULTIPART, form.URL_ENCODED)):
        return _by_path(_of_form(read_form(body, kind), body, encoding), target)
    if not is_model_api(target) and kind and _JSON.search(kind) is None:
        # An upload: the engine's own business.
        return _by_path(Reading(body=body, encoding=encoding), target)
    parsed = parse(target, body)
    return _by_path(Reading(parsed, body, encoding, parsed.model), target)


def _of_form(found: Form, body: bytes, encoding: str) -> Reading:
    model = found.model()
    parsed = ParsedRequest(model, Prompt(), False, Api.GENERIC) if model else None
    unclear = found.unclear or len({field.value for field in found.models}) > 1
    return Reading(parsed, body, encoding, model, found, unclear)


def _by_path(reading: Reading, target: str) -> Reading:
    """With what the path and its query say. The body counts first, for that is what engines look at."""
    named = named_in(target)
    first = named.path or named.query
    if not first:
        return reading._replace(unclear=True) if named.unclear else reading
    names = {name for name in (named.path, named.query, reading.in_body) if name}
    parsed = reading.parsed
    if parsed is None:
        parsed = ParsedRequest(first, Prompt(), False, Api.GENERIC)
    elif not parsed.model:
        parsed = msgspec.structs.replace(parsed, model=first)
    return reading._replace(parsed=parsed, unclear=reading.unclear or named.unclear or len(names) > 1)


def one_model(reading: Reading) -> None:
    """Makes sure that everybody reads the same model out of a request: where a token or a route depends on that.

    Raises:
        Refusal: 400; several are named, or may be.
    """
    twice = reading.unclear
    if not twice and reading.body and reading.form is None and reading.parsed is not None and reading.in_body:
        twice = _twice(reading.body)
    if twice:
        message = "The request names its model more than once, or in a way that can be read differently."
        raise bad_request(message, code="invalid_value", param="model")


def _twice(body: bytes) -> bool:
    if body.find(b'"model"') == body.rfind(b'"model"') and b"\\u006" not in body and body[:1] in b"{ \t\r\n":
        return False
    text = lenient.as_utf8(body)
    try:
        return names_models(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return lenient.read(text)[1]


def with_model(reading: Reading, model: str) -> bytes:
    """The body, naming this model.

    Raises:
        Refusal: 400; it cannot be put there.
    """
    body = reading.body
    if reading.form is not None:
        return form.replace_model(body or b"", reading.form, model)
    if not body:
        message = "The model of this request is known under another name, and there is no body to put that into."
        raise bad_request(message, code="invalid_value", param="model")
    text = lenient.as_utf8(body)
    try:
        return put_model(text, model)
    except (msgspec.DecodeError, UnicodeDecodeError):
        members, _ = lenient.read(text)
        return lenient.write({**members, "model": model})
