"""Between serialized ext_proc messages and this package's events and replies. The only user of message types.

Every request passes here thrice, so messages are read and written field by field: no dictionaries, no reflection. The
usual ones are read without protobuf's objects (`extproc/lean.py`), all others with them. An
answer that says "go on" is a constant, and one that sends a request to a pod is kept, since the same few lists of pods
come again and again.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from extproc import events, lean, replies
from extproc._pb import (
    BodyResponse,
    DecodeError,
    HeaderAppendAction,
    HeaderMap,
    HeaderMutation,
    HeaderSendMode,
    HeadersResponse,
    HTTPAccessLogEntry,
    Metadata,
    ProcessingRequest,
    ProcessingResponse,
    StreamAccessLogsMessage,
    Struct,
    TokenUsage,
    Value,
)
from extproc.errors import LocalProtocolError, RemoteProtocolError
from extproc.events import NO_ATTRIBUTES, BodyMode, Event, ProtocolConfig
from extproc.headers import (
    ADMITTED,
    DESTINATION,
    DESTINATION_NAMESPACE,
    EXPLANATION,
    KEY,
    OWN_NAMESPACE,
    POOL,
    SERVED,
    SUBSET,
    SUBSET_NAMESPACE,
    TOLD,
    Headers,
)
from extproc.headers import USAGE_NAMESPACE as COUNTS_NAMESPACE
from extproc.replies import Mutation, Reply, Tag

#: The one key of `ProcessingRequest.attributes`: the filter that was asked for them.
ATTRIBUTES = "envoy.filters.http.ext_proc"
#: Typed metadata that Envoy's AI filters write, and the type in it.
USAGE_NAMESPACE = "envoy.ai.token_usage"
USAGE_TYPE = "envoy.data.ai.v3.TokenUsage"

#: Replies that are kept for each phase, and the largest that is, in bytes: 4 MiB of them at most, besides their keys. A
#: list of five pods with a few headers takes about 300 bytes.
MAX_CACHED_REPLIES = 4096
MAX_CACHED_REPLY = 1024
#: Sets of trailers to take out that are kept. There is one, unless a model server uses the gateway's prefix itself.
MAX_CACHED_TRAILERS = 16
#: Two modes of six values and a flag.
MAX_CACHED_CONFIGS = 6 * 6 * 2


#: Characters of a request's key in the access log.
KEY_LENGTH = 16


def decode(data: bytes) -> Event:
    """The event in a serialized `ProcessingRequest`.

    Raises:
        RemoteProtocolError: the bytes are no such message, or hold no event or a body mode that is known here.
    """
    usual = _lean.read(data)
    return _decode_any(data) if usual is None else usual


def _decode_any(data: bytes) -> Event:
    try:
        message = ProcessingRequest.FromString(data)
    except DecodeError as error:
        raise RemoteProtocolError("not a ProcessingRequest") from error
    kind = message.WhichOneof("request")
    if kind is None:
        raise RemoteProtocolError("a ProcessingRequest without a request or response part")
    return _DECODERS[kind](message)


def encode(reply: Reply) -> bytes:
    """The reply as a serialized `ProcessingResponse`. Header values are sent as UTF-8.

    Raises:
        LocalProtocolError: the reply holds what no message can: a lone surrogate, or a status outside of 32 bits.
    """
    try:
        return _ENCODERS[type(reply)](reply)
    except ValueError as error:
        raise LocalProtocolError(f"{type(reply).__name__} cannot be sent: {error}") from error


# From Envoy


def _request_headers(message: ProcessingRequest) -> Event:
    part = message.request_headers
    return events.RequestHeaders(
        _headers(part.headers),
        part.end_of_stream,
        _subset(message) if message.HasField("metadata_context") else None,
        _config(message) if message.HasField("protocol_config") else None,
        _attributes(message),
    )


def _request_body(message: ProcessingRequest) -> Event:
    part = message.request_body
    subset = _subset(message) if message.HasField("metadata_context") else None
    return events.RequestBody(part.body, part.end_of_stream, subset)


def _request_trailers(message: ProcessingRequest) -> Event:
    return events.RequestTrailers(_headers(message.request_trailers.trailers))


def _response_headers(message: ProcessingRequest) -> Event:
    part = message.response_headers
    return events.ResponseHeaders(_headers(part.headers), part.end_of_stream, _served(message), _attributes(message))


def _response_body(message: ProcessingRequest) -> Event:
    part = message.response_body
    return events.ResponseBody(part.body, part.end_of_stream)


def _response_trailers(message: ProcessingRequest) -> Event:
    headers = _headers(message.response_trailers.trailers)
    return events.ResponseTrailers(headers, _served(message), _usage(message), _attributes(message))


_DECODERS: Mapping[str, Callable[[ProcessingRequest], Event]] = {
    "request_headers": _request_headers,
    "request_body": _request_body,
    "request_trailers": _request_trailers,
    "response_headers": _response_headers,
    "response_body": _response_body,
    "response_trailers": _response_trailers,
}


def _headers(part: HeaderMap) -> Headers:
    # base.proto: a header has `value` or `raw_value`. Envoy fills the latter since 1.27, unless told not to.
    return Headers([(header.key, header.raw_value or header.value.encode()) for header in part.headers])


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


def _metadata(message: ProcessingRequest, namespace: str, key: str) -> Value | None:
    struct = message.metadata_context.filter_metadata.get(namespace)
    return None if struct is None else struct.fields.get(key)


def _subset(message: ProcessingRequest) -> tuple[str, ...] | None:
    """The endpoints that are allowed. What is given but names none allows none (protocol 004: 503)."""
    value = _metadata(message, SUBSET_NAMESPACE, SUBSET)
    if value is None:
        return None
    if value.WhichOneof("kind") == "list_value":
        entries = [entry.string_value for entry in value.list_value.values]
    else:
        entries = value.string_value.split(",")
    return tuple([address for entry in entries if (address := entry.strip())])


def _served(message: ProcessingRequest) -> str:
    if not message.HasField("metadata_context"):
        return ""
    value = _metadata(message, DESTINATION_NAMESPACE, SERVED)
    return "" if value is None else value.string_value


def _usage(message: ProcessingRequest) -> events.TokenUsage | None:
    return _counts(message.metadata_context) if message.HasField("metadata_context") else None


def _counts(metadata: Metadata) -> events.TokenUsage | None:
    packed = metadata.typed_filter_metadata.get(USAGE_NAMESPACE)
    if packed is None or packed.type_url.rpartition("/")[2] != USAGE_TYPE:
        return None
    try:
        usage = TokenUsage.FromString(packed.value)
    except DecodeError as error:
        raise RemoteProtocolError(f"not a {USAGE_TYPE}") from error
    details = usage.input_token_details
    return events.TokenUsage(
        prompt=usage.input_tokens.value if usage.HasField("input_tokens") else None,
        cached=details.cached_tokens.value if details.HasField("cached_tokens") else None,
        completion=usage.output_tokens.value if usage.HasField("output_tokens") else None,
    )


def _attributes(message: ProcessingRequest) -> Mapping[str, object]:
    struct = message.attributes.get(ATTRIBUTES)
    return NO_ATTRIBUTES if struct is None else _struct(struct)


def _struct(struct: Struct) -> dict[str, object]:
    return {name: _python(value) for name, value in struct.fields.items()}


def _python(value: Value) -> object:
    # The depth is bounded: the parser has refused messages that are nested more than 100 deep.
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
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


# The parts that the lean reader keeps


def _parsed(data: bytes) -> ProcessingRequest | None:
    try:
        return ProcessingRequest.FromString(data)
    except DecodeError:
        return None


def _rest(data: bytes) -> lean.Rest | None:
    message = _parsed(data)
    if message is None or message.WhichOneof("request") is not None:
        return None
    try:
        config = _config(message) if message.HasField("protocol_config") else None
    except RemoteProtocolError:
        # Which messages are refused for it is not for here to say.
        return None
    return lean.Rest(_subset(message) if message.HasField("metadata_context") else None, config, _attributes(message))


def _attributes_alone(data: bytes) -> Mapping[str, object] | None:
    message = _parsed(data)
    return None if message is None else _attributes(message)


def _usage_alone(data: bytes) -> events.TokenUsage | None:
    try:
        return _counts(Metadata.FromString(data))
    except DecodeError as error:
        raise RemoteProtocolError("not a ProcessingRequest") from error


_lean = lean.Reader(rest=_rest, attributes=_attributes_alone, usage=_usage_alone)


def decode_log(data: bytes) -> list[events.LogEntry]:
    """The requests in a serialized `StreamAccessLogsMessage`.

    Raises:
        RemoteProtocolError: the bytes are no such message.
    """
    try:
        message = StreamAccessLogsMessage.FromString(data)
    except DecodeError as error:
        raise RemoteProtocolError("not a StreamAccessLogsMessage") from error
    return [_log_entry(entry) for entry in message.http_logs.log_entry]


def _log_entry(entry: HTTPAccessLogEntry) -> events.LogEntry:
    common, response = entry.common_properties, entry.response
    own = common.metadata.filter_metadata.get(OWN_NAMESPACE)
    key = None if own is None else own.fields.get(KEY)
    lb = common.metadata.filter_metadata.get(DESTINATION_NAMESPACE)
    served = None if lb is None else lb.fields.get(SERVED)
    return events.LogEntry(
        key="" if key is None else key.string_value,
        status=response.response_code.value if response.HasField("response_code") else None,
        served="" if served is None else served.string_value,
        attempts=common.upstream_request_attempt_count,
        details=response.response_code_details,
        usage=_logged_usage(common.metadata.filter_metadata.get(COUNTS_NAMESPACE)),
        tags=dict(common.custom_tags),
    )


def _logged_usage(struct: Struct | None) -> events.TokenUsage:
    """Counts under the names that the APIs give them: OpenAI's two, and Anthropic's, which leaves out cached tokens."""
    if struct is None:
        return events.TokenUsage()
    counts = {name: int(value.number_value) for name, value in struct.fields.items()}
    prompt, cached = counts.get("prompt_tokens"), counts.get("cached_tokens")
    if prompt is None and "input_tokens" in counts:
        prompt = counts["input_tokens"]
        read = counts.get("cache_read_input_tokens")
        if read is not None:
            prompt += read + counts.get("cache_creation_input_tokens", 0)
            cached = read
    return events.TokenUsage(prompt, cached, counts.get("completion_tokens", counts.get("output_tokens")))


# To Envoy

_OVERWRITE = HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD


def _change_headers(
    target: HeaderMutation, set_headers: tuple[tuple[str, str], ...], remove_headers: tuple[str, ...]
) -> None:
    for name, value in set_headers:
        option = target.set_headers.add()
        option.append_action = _OVERWRITE
        header = option.header
        header.key = name
        header.raw_value = value.encode()
    target.remove_headers.extend(remove_headers)


def _set_destination(message: ProcessingResponse, destination: str, pool: str = "") -> None:
    fields = message.dynamic_metadata.fields[DESTINATION_NAMESPACE].struct_value.fields
    fields[DESTINATION].string_value = destination
    if pool:
        fields[POOL].string_value = pool


def _mutate(message: ProcessingResponse, part: HeadersResponse | BodyResponse, mutation: Mutation) -> None:
    part.SetInParent()
    if mutation.set_headers or mutation.remove_headers:
        _change_headers(part.response.header_mutation, mutation.set_headers, mutation.remove_headers)
    if mutation.clear_route_cache:
        part.response.clear_route_cache = True
    if mutation.destination:
        _set_destination(message, mutation.destination, mutation.pool)
    if mutation.admitted:
        message.dynamic_metadata.fields[OWN_NAMESPACE].struct_value.fields[ADMITTED].bool_value = True


class _Replies(dict[Mutation, bytes]):
    """The serialized replies of one phase that only change headers and metadata: `replies[mutation]`."""

    def __init__(self, part: Callable[[ProcessingResponse], HeadersResponse | BodyResponse]) -> None:
        super().__init__()
        self._part = part

    def __missing__(self, mutation: Mutation) -> bytes:
        message = ProcessingResponse()
        _mutate(message, self._part(message), mutation)
        reply = message.SerializeToString()
        if len(reply) <= MAX_CACHED_REPLY:
            if len(self) >= MAX_CACHED_REPLIES:
                # Built again in microseconds: keeping them in order of use would cost more at every hit.
                self.clear()
            self[mutation] = reply
        return reply


_request_headers_replies = _Replies(lambda message: message.request_headers)
_request_body_replies = _Replies(lambda message: message.request_body)
_response_headers_replies = _Replies(lambda message: message.response_headers)


def _tagged(reply: bytes, tag: Tag | None) -> bytes:
    """A serialized reply with what belongs to this one request in its dynamic metadata.

    Protobuf merges a message field that comes twice, so the part that differs for each request is put behind the one
    that is kept.
    """
    if tag is None:
        return reply
    if not tag.explanation:
        return reply + _KEY_BEFORE + tag.key.encode()
    message = ProcessingResponse()
    own = message.dynamic_metadata.fields[OWN_NAMESPACE].struct_value.fields
    own[KEY].string_value = tag.key
    own[EXPLANATION].string_value = tag.explanation
    return reply + message.SerializeToString()


def _request_headers_reply(reply: replies.RequestHeadersReply) -> bytes:
    return _tagged(_request_headers_replies[reply.mutation], reply.tag)


def _request_body_reply(reply: replies.RequestBodyReply) -> bytes:
    if reply.body is None:
        return _tagged(_request_body_replies[reply.mutation], reply.tag)
    message = ProcessingResponse()
    part = message.request_body
    _mutate(message, part, reply.mutation)
    _replace_body(part, reply.body)
    return _tagged(message.SerializeToString(), reply.tag)


def _replace_body(part: BodyResponse, body: bytes) -> None:
    if body:
        part.response.body_mutation.body = body
    else:
        part.response.body_mutation.clear_body = True


def _request_body_chunk(reply: replies.RequestBodyChunk) -> bytes:
    message = ProcessingResponse()
    _stream(message.request_body, bytes(reply.body), reply.end_of_stream)
    return message.SerializeToString()


def _response_body_chunk(reply: replies.ResponseBodyChunk) -> bytes:
    message = ProcessingResponse()
    _stream(message.response_body, reply.body, reply.end_of_stream)
    return message.SerializeToString()


def _stream(part: BodyResponse, body: bytes, end_of_stream: bool) -> None:
    chunk = part.response.body_mutation.streamed_response
    # An assignment makes the chunk present, also where it is empty and not the last.
    chunk.body = body
    chunk.end_of_stream = end_of_stream


def _request_trailers_reply(reply: replies.RequestTrailersReply) -> bytes:
    message = ProcessingResponse()
    message.request_trailers.SetInParent()
    if reply.destination:
        _set_destination(message, reply.destination)
    return _tagged(message.SerializeToString(), reply.tag)


def _response_headers_reply(reply: replies.ResponseHeadersReply) -> bytes:
    kept = _response_headers_replies[reply.mutation]
    return kept if reply.mode is None else kept + _mode_override(reply.mode)


@lru_cache(maxsize=MAX_CACHED_CONFIGS)
def _mode_override(mode: replies.ModeOverride) -> bytes:
    message = ProcessingResponse()
    part = message.mode_override
    part.request_header_mode = part.response_header_mode = part.response_trailer_mode = HeaderSendMode.SEND
    part.request_body_mode = mode.request_body_mode.value
    part.response_body_mode = mode.response_body_mode.value
    # Full duplex is not to be had without.
    duplex = mode.request_body_mode is BodyMode.FULL_DUPLEX_STREAMED
    part.request_trailer_mode = HeaderSendMode.SEND if duplex else HeaderSendMode.SKIP
    return message.SerializeToString()


def _response_body_reply(reply: replies.ResponseBodyReply) -> bytes:
    if reply.body is None:
        return _RESPONSE_BODY_GOES_ON
    message = ProcessingResponse()
    _replace_body(message.response_body, reply.body)
    return message.SerializeToString()


def _response_trailers_reply(reply: replies.ResponseTrailersReply) -> bytes:
    return _without_trailers(reply.remove_headers)


@lru_cache(maxsize=MAX_CACHED_TRAILERS)
def _without_trailers(names: tuple[str, ...]) -> bytes:
    message = ProcessingResponse()
    message.response_trailers.SetInParent()
    message.dynamic_metadata.fields[OWN_NAMESPACE].struct_value.fields[TOLD].bool_value = True
    if names:
        message.response_trailers.header_mutation.remove_headers.extend(names)
    return message.SerializeToString()


def _immediate_reply(reply: replies.ImmediateReply) -> bytes:
    message = ProcessingResponse()
    answer = message.immediate_response
    answer.status.code = reply.status
    _change_headers(answer.headers, reply.headers, ())
    answer.body = reply.body
    answer.details = reply.details
    return message.SerializeToString()


def _key_before() -> bytes:
    message = ProcessingResponse()
    message.dynamic_metadata.fields[OWN_NAMESPACE].struct_value.fields[KEY].string_value = "0" * KEY_LENGTH
    return message.SerializeToString()[:-KEY_LENGTH]


#: What comes before a key: its length is part of it, so all keys have one length.
_KEY_BEFORE = _key_before()

_RESPONSE_BODY_GOES_ON = ProcessingResponse(response_body=BodyResponse()).SerializeToString()

_ENCODERS: Mapping[type, Callable[[Any], bytes]] = {
    replies.RequestHeadersReply: _request_headers_reply,
    replies.RequestBodyReply: _request_body_reply,
    replies.RequestBodyChunk: _request_body_chunk,
    replies.RequestTrailersReply: _request_trailers_reply,
    replies.ResponseHeadersReply: _response_headers_reply,
    replies.ResponseBodyReply: _response_body_reply,
    replies.ResponseBodyChunk: _response_body_chunk,
    replies.ResponseTrailersReply: _response_trailers_reply,
    replies.ImmediateReply: _immediate_reply,
}
