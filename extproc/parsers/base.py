"""The words that all parsers share, and the frame of each.

Only what makes routing impossible is refused. A shape of prompt that is not known here may well be known to the engine,
so it gives less text to hash, never an error. JSON is read strictly first (RFC 8259), which is fast; what is refused so
is read as engines do it, by `lenient`. Of duplicate keys the last one counts, as in the JSON libraries of the engines.
"""

from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from operator import attrgetter
from typing import Any, Generic, TypeVar

import msgspec

from extproc.errors import Refusal, bad_request
from extproc.parsers import lenient
from extproc.parsers.controls import ALL_STEERING, IDS, may_be_address
from extproc.parsers.head import WINDOW, head, is_short, values_for
from extproc.parsers.text import write_salt
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
    """The contents of a request's body that matter here."""

    #: Empty: the request names none.
    model: str
    prompt: Prompt
    stream: bool
    api: Api
    #: Fields by which it would steer engines, by `controls`.
    steering: tuple[str, ...] = ()
    #: Adapters that it names beside its model.
    adapters: tuple[str, ...] = ()


#: Stands for a field that is not there.
_NULL = msgspec.Raw(b"null")


class _Steering(msgspec.Struct):
    """The fields of `controls`, none decoded: most bodies have none."""

    kv_transfer_params: msgspec.Raw = _NULL
    ec_transfer_params: msgspec.Raw = _NULL
    bootstrap_host: msgspec.Raw = _NULL
    bootstrap_port: msgspec.Raw = _NULL
    bootstrap_room: msgspec.Raw = _NULL
    bootstrap_pair_key: msgspec.Raw = _NULL
    data_parallel_rank: msgspec.Raw = _NULL
    routed_dp_rank: msgspec.Raw = _NULL
    disagg_prefill_dp_rank: msgspec.Raw = _NULL
    disaggregated_params: msgspec.Raw = _NULL
    lora_request: msgspec.Raw = _NULL
    id_slot: msgspec.Raw = _NULL
    lora_path: msgspec.Raw = _NULL
    request_id: msgspec.Raw = _NULL
    rid: msgspec.Raw = _NULL
    cache_salt: msgspec.Raw = _NULL
    extra_key: msgspec.Raw = _NULL


_FIELDS = _Steering.__struct_fields__
_steering_of = attrgetter(*_FIELDS)
_NO_STEERING = (_NULL,) * len(_FIELDS)


class Envelope(_Steering):
    """The fields that every API has. All are read untyped: this package words the error messages itself."""

    model: Any = None
    stream: Any = None


#: Characters of a model's name. Longer than any path that is in use as one; names are kept with decisions, in labels of
#: metrics and in logs, so none may be as long as a body.
MAX_MODEL = 1024

BodyT = TypeVar("BodyT", bound=Envelope)

#: Bytes of an object or array that is decoded out of a body whose prompt is not read.
MAX_BARE_VALUE = 1 << 10

#: Bytes. Of a smaller body the values need not be counted: there is no room for many.
UNCOUNTED_BODY = 4 << 10

#: Fields that may be lists of token ids.
_TOKEN_IDS = frozenset({"prompt", "input"})


class _Bare(_Steering):
    """The fields of an `Envelope`, none decoded."""

    model: msgspec.Raw = _NULL
    stream: msgspec.Raw = _NULL


class Parser(Generic[BodyT]):
    """Parser of one API: the fields of its body, and how they become text."""

    __slots__ = ("_decode", "_decode_bare", "_fields", "_names", "_write", "api")

    def __init__(
        self,
        api: Api,
        fields: type[BodyT],
        write: Callable[[BodyT, list[str]], None],
    ) -> None:
        self.api = api
        self._fields = fields
        self._decode = msgspec.json.Decoder(fields).decode
        #: What the prompt is made of, in the order of the API's fields.
        self._names = tuple([name for name in fields.__struct_fields__ if name not in _Bare.__struct_fields__])
        bare: Any = msgspec.defstruct("_BareBody", [(name, msgspec.Raw, _NULL) for name in self._names], bases=(_Bare,))
        self._decode_bare: Callable[[bytes], Any] = msgspec.json.Decoder(bare).decode
        self._write = write

    def __call__(self, body: bytes) -> ParsedRequest:
        """Parses `body`.

        Raises:
            Refusal: 400; the body is not a JSON object, or `model` is no text.
        """
        try:
            return self._parsed(body)
        except (UnicodeDecodeError, msgspec.DecodeError) as error:
            if type(error) is msgspec.ValidationError:
                raise _not_read(body, error) from error
        text = lenient.strict(body)
        try:
            return self._parsed(text)
        except (UnicodeDecodeError, msgspec.ValidationError) as error:
            raise _not_read(text, error) from error

    def _parsed(self, body: bytes) -> ParsedRequest:
        """Parses strict JSON. Raises Refusal, msgspec.DecodeError and UnicodeDecodeError."""
        parts: list[str] = []
        try:
            read, unread = self._read(body)
        except RecursionError as error:
            raise bad_request("The request body is nested too deeply.", code="invalid_json") from error

        model = read.model
        if model is None:
            model = ""
        elif type(model) is not str:
            raise _wrong_type("model", "a string", model)
        elif len(model) > MAX_MODEL:
            message = f"`model` must not be longer than {MAX_MODEL} characters."
            raise bad_request(message, code="invalid_value", param="model")
        elif model.isspace():
            model = ""

        for salt in (read.cache_salt, read.extra_key):
            if _is_said(salt):
                write_salt(_short_value(salt), parts)
        try:
            self._write(read, parts)
        except RecursionError:
            # Deeper than can be walked, though not than can be decoded: the engine may think otherwise.
            parts.clear()
        steering, adapters = _steering(read)
        return ParsedRequest(model, Prompt(parts, unread), _is_true(read.stream), self.api, steering, adapters)

    def _read(self, body: bytes) -> tuple[BodyT, int]:
        """The fields of the body, and the bytes of the prompt that were not read."""
        if len(body) <= UNCOUNTED_BODY or is_short(body):
            try:
                return self._decode(body), 0
            except msgspec.ValidationError:
                # JSON, but no object, or with a number (1e999) that only a reader of the field could refuse.
                pass
        bare = self._decode_bare(body)
        fields = self._fields(model=_bare_value(bare.model), stream=_bare_value(bare.stream))
        for name in _FIELDS:
            setattr(fields, name, getattr(bare, name))
        window, values, unread = WINDOW, values_for(len(body)), 0
        for name in self._names:
            raw = bytes(getattr(bare, name))
            text, count = head(raw, window, values, ids=name in _TOKEN_IDS)
            window, values, unread = max(window - len(text), 0), max(values - count, 0), unread + len(raw) - len(text)
            with suppress(msgspec.ValidationError):  # a number that is out of range
                setattr(fields, name, msgspec.json.decode(text) if text else None)
        return fields, max(unread, 0)


def _steering(read: _Steering) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The fields by which a body would steer engines, and the adapters that it names."""
    if _steering_of(read) == _NO_STEERING:  # the very same objects, nearly always
        return (), ()
    found = [name for name in ALL_STEERING if _is_said(getattr(read, name))]
    for name in IDS:
        raw = getattr(read, name)
        if _is_said(raw) and any(may_be_address(text) for text in _texts(raw)):
            found.append(name)
    return tuple(found), tuple(_texts(read.lora_path))


def _is_said(raw: msgspec.Raw) -> bool:
    return raw is not _NULL and bytes(raw) != b"null"


def _texts(raw: msgspec.Raw) -> list[str]:
    """A text, or those of a list: what else may be there engines refuse."""
    if raw is _NULL:
        return []
    try:
        value = msgspec.json.decode(raw)
    except msgspec.ValidationError:
        return []
    return [text for text in (value if type(value) is list else [value]) if type(text) is str]


def _short_value(raw: msgspec.Raw) -> object:
    """The value, or its bytes as text where it is longer than any that is meant."""
    text = bytes(raw)
    return msgspec.json.decode(text) if len(text) <= MAX_BARE_VALUE else text.decode("utf-8", "replace")


def _bare_value(raw: msgspec.Raw) -> object:
    text = bytes(raw)
    if len(text) > MAX_BARE_VALUE and text[:1] in (b"{", b"["):
        # Nothing that could be right: its type is all that is needed to say so.
        return {} if text[:1] == b"{" else []
    return msgspec.json.decode(text)


def _not_read(body: bytes, error: UnicodeDecodeError | msgspec.ValidationError) -> Refusal:
    if isinstance(error, UnicodeDecodeError):
        return bad_request("The request body is not valid UTF-8.", code="invalid_json", detail=str(error))
    if body.lstrip()[:1] != b"{":
        return bad_request("The request body must be a JSON object.", code="invalid_type", detail=str(error))
    return bad_request("The request body has a number that is out of range.", code="invalid_value", detail=str(error))


def _is_true(stream: object) -> bool:
    """As engines, which check with pydantic, read a boolean. Values that engines refuse are not refused here."""
    if type(stream) is bool or stream is None:
        return bool(stream)
    if isinstance(stream, str):
        return stream.strip().lower() in _TRUE
    return stream == 1


_TRUE = frozenset({"true", "1", "yes", "on", "t", "y"})


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
