"""The words that all parsers share, and the frame of each.

`model` and `stream` are checked; the prompt is a best effort.

Only what makes routing impossible is refused. A shape of prompt that is not known here may well be known to the engine,
so it gives less text to hash, never an error. JSON itself is read strictly (RFC 8259): NaN, a byte order mark and lone
surrogates are refused, of duplicate keys the last one counts, as in the JSON libraries of the engines.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any, Generic, TypeVar

import msgspec

from extproc.errors import Refusal, bad_request
from scheduler.types import Prompt


class Api(Enum):
    """The API of a request, which is the format of its answer too."""

    #: Enum's own is written in Python, and each request is looked up by its API.
    __hash__ = object.__hash__

    OPENAI_CHAT = "openai-chat"
    OPENAI_COMPLETIONS = "openai-completions"
    OPENAI_EMBEDDINGS = "openai-embeddings"
    OPENAI_RESPONSES = "openai-responses"
    ANTHROPIC_MESSAGES = "anthropic-messages"
    #: Any other API whose requests are JSON objects.
    GENERIC = "generic"


class ParsedRequest(msgspec.Struct, frozen=True):
    """What a request's body says."""

    #: Not empty, but for an API that is not known here (`Api.GENERIC`), where a request need not name a model.
    model: str
    prompt: Prompt
    stream: bool
    api: Api


class Envelope(msgspec.Struct):
    """The fields that every API has. All are read untyped: what is wrong is said in this package's own words."""

    model: Any = None
    stream: Any = None


#: Characters of a model's name. Longer than any path that is in use as one; names are kept with decisions, in labels of
#: metrics and in logs, so none may be as long as a body.
MAX_MODEL = 1024

BodyT = TypeVar("BodyT", bound=Envelope)

#: Bytes. A body is decoded into objects whole: at worst (`{"a":0},` again and again) they take 30 times its size in
#: memory and 0.3 s per MiB. Larger bodies are looked at first, which costs about as much as to decode them.
UNCOUNTED_BODY = 1 << 20
#: Objects and arrays in a larger body, each of 60-230 bytes in memory. It takes 16 MiB of code to have as many, for
#: brackets inside of texts are counted too.
MAX_CONTAINERS = 250_000
#: Commas in a larger body, about one a value, of up to 60 bytes in memory. Two million token ids fit.
MAX_VALUES = 2_000_000
#: Bytes of an object or array that is decoded out of a body whose prompt is not read.
MAX_BARE_VALUE = 1 << 10

_NULL = msgspec.Raw(b"null")


class _Bare(msgspec.Struct):
    """The fields of an `Envelope`, none decoded."""

    model: msgspec.Raw = _NULL
    stream: msgspec.Raw = _NULL


_decode_bare = msgspec.json.Decoder(_Bare).decode


class Parser(Generic[BodyT]):
    """Parser of one API: the fields of its body, and how they become text."""

    __slots__ = ("_decode", "_model_required", "_write", "api")

    def __init__(
        self,
        api: Api,
        fields: type[BodyT],
        write: Callable[[BodyT, list[str]], None],
        *,
        model_required: bool = True,
    ) -> None:
        self.api = api
        self._decode = msgspec.json.Decoder(fields).decode
        self._write = write
        self._model_required = model_required

    def __call__(self, body: bytes) -> ParsedRequest:
        """What `body` says.

        Raises:
            Refusal: 400; the body is not a JSON object, or `model` or `stream` is wrong.
        """
        parts: list[str] = []
        try:
            fields = self._fields(body)
            read: Envelope = _bare_fields(body) if fields is None else fields
        except RecursionError as error:
            raise bad_request("The request body is nested too deeply.", code="invalid_json") from error
        except UnicodeDecodeError as error:
            raise bad_request("The request body is not valid UTF-8.", code="invalid_json", detail=str(error)) from error
        except msgspec.ValidationError as error:
            raise _not_read(body, error) from error
        except msgspec.DecodeError as error:
            raise bad_request("The request body is not valid JSON.", code="invalid_json", detail=str(error)) from error

        model = read.model
        if type(model) is not str or not model or len(model) > MAX_MODEL or model.isspace():
            if model is not None or self._model_required:
                raise _wrong_model(model)
            model = ""
        stream = read.stream
        if stream is None:
            stream = False
        elif type(stream) is not bool:
            raise _wrong_type("stream", "a boolean", stream)

        if fields is not None:
            try:
                self._write(fields, parts)
            except RecursionError:
                # Deeper than can be walked, though not than can be decoded: the engine may think otherwise.
                parts.clear()
        return ParsedRequest(model, Prompt(parts), stream, self.api)

    def _fields(self, body: bytes) -> BodyT | None:
        """All fields of the body, or None where its prompt cannot be held in memory or as Python's numbers."""
        if len(body) > UNCOUNTED_BODY and (
            body.count(b"{") + body.count(b"[") > MAX_CONTAINERS or body.count(b",") > MAX_VALUES
        ):
            return None
        try:
            return self._decode(body)
        except msgspec.ValidationError:
            # JSON, but no object, or with a number (1e999) that only a reader of the field could refuse.
            return None


def _bare_fields(body: bytes) -> Envelope:
    bare = _decode_bare(body)
    return Envelope(_bare_value(bare.model), _bare_value(bare.stream))


def _bare_value(raw: msgspec.Raw) -> object:
    text = bytes(raw)
    if len(text) > MAX_BARE_VALUE and text[:1] in (b"{", b"["):
        # Nothing that could be right: its type is all that is needed to say so.
        return {} if text[:1] == b"{" else []
    return msgspec.json.decode(text)


def _not_read(body: bytes, error: msgspec.ValidationError) -> Refusal:
    if body.lstrip()[:1] != b"{":
        return bad_request("The request body must be a JSON object.", code="invalid_type", detail=str(error))
    return bad_request("The request body has a number that is out of range.", code="invalid_value", detail=str(error))


def _wrong_model(model: object) -> Refusal:
    if model is None:
        message = "The request names no model: `model` is required."
        return bad_request(message, code="missing_required_parameter", param="model")
    if type(model) is str:
        if len(model) > MAX_MODEL:
            message = f"`model` must not be longer than {MAX_MODEL} characters."
            return bad_request(message, code="invalid_value", param="model")
        return bad_request("`model` must not be empty.", code="invalid_value", param="model")
    return _wrong_type("model", "a string", model)


def _wrong_type(param: str, expected: str, value: object) -> Refusal:
    got = _JSON_TYPES[type(value)]
    return bad_request(f"`{param}` must be {expected}, not {got}.", code="invalid_type", param=param)


#: The names of JSON's types, by what they are decoded to.
_JSON_TYPES: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    list: "an array",
    dict: "an object",
}
