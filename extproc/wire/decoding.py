# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""From serialized ext_proc messages to events: field by field, no dictionaries, no reflection."""

from collections.abc import Callable, Mapping
from functools import lru_cache

from extproc._pb import (
    DecodeError,
    HeaderMap,
    ProcessingRequest,
    Struct,
    Value,
)
from extproc.errors import RemoteProtocolError
from extproc.protocol import events
from extproc.protocol.events import NO_ATTRIBUTES, BodyMode, Event, ProtocolConfig
from extproc.protocol.headers import (
    DESTINATION_NAMESPACE,
    SERVED,
    SUBSET,
    SUBSET_NAMESPACE,
    Headers,
)
from extproc.wire import bodies
from extproc.wire.relaxed import struct_of, text, text_of, value_of

_DESTINATION, _SERVED, _SUBSET, _SUBSET_NAMESPACE = (
    name.encode() for name in (DESTINATION_NAMESPACE, SERVED, SUBSET, SUBSET_NAMESPACE)
)

#: The one key of `ProcessingRequest.attributes`: the filter that was asked for them.
ATTRIBUTES = b"envoy.filters.http.ext_proc"

#: Two modes of six values and a flag.
MAX_CACHED_CONFIGS = 6 * 6 * 2


def decode(data: bytes) -> Event:
    """The event in a serialized `ProcessingRequest`.

    Raises:
        RemoteProtocolError: the bytes are no such message, or hold no event or a body mode that is known here.
    """
    tag = data[0] if data else 0
    if tag == bodies.RESPONSE_BODY:
        piece = bodies.read(data)
        if piece is not None:
            return events.ResponseBody(piece[2], piece[3], None, data[piece[0] : piece[1]])
    elif tag == bodies.REQUEST_BODY:
        piece = bodies.read(data)
        if piece is not None and not piece[4]:
            return events.RequestBody(piece[2], piece[3])
    try:
        message = ProcessingRequest.FromString(data)
    except DecodeError as error:
        raise RemoteProtocolError("not a ProcessingRequest") from error
    kind = message.WhichOneof("request")
    if kind is None:
        raise RemoteProtocolError("a ProcessingRequest without a request or response part")
    return _DECODERS[kind](message)


def _request_headers(message: ProcessingRequest) -> Event:
    part = message.request_headers
    return events.RequestHeaders(
        _headers(part.headers),
        part.end_of_stream,
        _subset(message) if message.HasField("metadata_context") else None,
        _config(message) if message.HasField("protocol_config") else None,
    )


def _request_body(message: ProcessingRequest) -> Event:
    part = message.request_body
    subset = _subset(message) if message.HasField("metadata_context") else None
    return events.RequestBody(part.body, part.end_of_stream, subset)


def _request_trailers(message: ProcessingRequest) -> Event:
    return events.RequestTrailers(_headers(message.request_trailers.trailers))


def _response_headers(message: ProcessingRequest) -> Event:
    part = message.response_headers
    config = _config(message) if message.HasField("protocol_config") else None
    headers = _headers(part.headers)
    return events.ResponseHeaders(headers, part.end_of_stream, _served(message), _attributes(message), config)


def _response_body(message: ProcessingRequest) -> Event:
    part = message.response_body
    config = _config(message) if message.HasField("protocol_config") else None
    return events.ResponseBody(part.body, part.end_of_stream, config)


def _response_trailers(message: ProcessingRequest) -> Event:
    headers = _headers(message.response_trailers.trailers)
    config = _config(message) if message.HasField("protocol_config") else None
    return events.ResponseTrailers(headers, _served(message), _attributes(message), config)


_DECODERS: Mapping[str, Callable[[ProcessingRequest], Event]] = {
    "request_headers": _request_headers,
    "request_body": _request_body,
    "request_trailers": _request_trailers,
    "response_headers": _response_headers,
    "response_body": _response_body,
    "response_trailers": _response_trailers,
}


def _headers(part: HeaderMap) -> Headers:
    # base.proto: a header has `value` or `raw_value`. Envoy fills the latter since 1.27, unless configured otherwise.
    return Headers([(header.key.decode("latin-1"), header.raw_value or header.value) for header in part.headers])


def _config(message: ProcessingRequest) -> ProtocolConfig:
    config = message.protocol_config
    return _protocol_config(
        config.request_body_mode, config.response_body_mode, config.send_body_without_waiting_for_header_response
    )


@lru_cache(maxsize=MAX_CACHED_CONFIGS)
def _protocol_config(request_body_mode: int, response_body_mode: int, without_waiting: bool) -> ProtocolConfig:
    try:
        return ProtocolConfig(BodyMode(request_body_mode), BodyMode(response_body_mode), without_waiting)
    except ValueError as error:
        raise RemoteProtocolError(f"unknown body mode {request_body_mode} or {response_body_mode}") from error


def _metadata(message: ProcessingRequest, namespace: bytes, key: bytes) -> Value | None:
    return value_of(struct_of(message.metadata_context.filter_metadata, namespace), key)


def _subset(message: ProcessingRequest) -> tuple[str, ...] | None:
    """The allowed endpoints. A subset that is given but names no endpoint allows none (protocol 004: 503)."""
    value = _metadata(message, _SUBSET_NAMESPACE, _SUBSET)
    if value is None:
        return None
    if value.WhichOneof("kind") == "list_value":
        entries = [text_of(entry) for entry in value.list_value.values]
    else:
        entries = text_of(value).split(",")
    return tuple([address for entry in entries if (address := entry.strip())])


def _served(message: ProcessingRequest) -> str:
    if not message.HasField("metadata_context"):
        return ""
    return text_of(_metadata(message, _DESTINATION, _SERVED))


def _attributes(message: ProcessingRequest) -> Mapping[str, object]:
    struct = struct_of(message.attributes, ATTRIBUTES)
    return NO_ATTRIBUTES if struct is None else _struct(struct)


def _struct(struct: Struct) -> dict[str, object]:
    return {text(field.key): _python(field.value) for field in struct.fields}


def _python(value: Value) -> object:
    # The depth is bounded: the parser has refused messages that are nested more than 100 deep.
    match value.WhichOneof("kind"):
        case "string_value":
            return text_of(value)
        case "number_value":
            return value.number_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return _struct(value.struct_value)
        case "list_value":
            return [_python(entry) for entry in value.list_value.values]
        case _:
            return None
