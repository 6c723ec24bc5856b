"""From serialized entries of Envoy's access log to events."""

from extproc._pb import (
    DecodeError,
    HTTPAccessLogEntry,
    Metadata,
    StreamAccessLogsMessage,
    Struct,
    TokenUsage,
)
from extproc.errors import RemoteProtocolError
from extproc.protocol import events
from extproc.protocol.headers import DESTINATION_NAMESPACE, KEY, OWN_NAMESPACE, SERVED

#: Typed metadata in which Envoy's AI filters tell the counts of an answer, and the type in it.
USAGE_NAMESPACE = "envoy.ai.token_usage"
USAGE_TYPE = "envoy.data.ai.v3.TokenUsage"
#: Where Envoy's stable filters put them (envoy/gateway.yaml).
COUNTS_NAMESPACE = "infer-gateway.usage"


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
    metadata = common.metadata
    untyped = metadata.filter_metadata
    own = untyped.get(OWN_NAMESPACE)
    key = None if own is None else own.fields.get(KEY)
    lb = untyped.get(DESTINATION_NAMESPACE)
    served = None if lb is None else lb.fields.get(SERVED)
    return events.LogEntry(
        key="" if key is None else key.string_value,
        status=response.response_code.value if response.HasField("response_code") else None,
        served="" if served is None else served.string_value,
        attempts=common.upstream_request_attempt_count,
        details=response.response_code_details,
        usage=_usage(metadata) or _counts(untyped.get(COUNTS_NAMESPACE)),
        tags=dict(common.custom_tags),
    )


def _usage(metadata: Metadata) -> events.TokenUsage | None:
    packed = metadata.typed_filter_metadata.get(USAGE_NAMESPACE)
    if packed is None or packed.type_url.rpartition("/")[2] != USAGE_TYPE:
        return None
    try:
        usage = TokenUsage.FromString(packed.value)
    except DecodeError as error:
        raise RemoteProtocolError(f"not a {USAGE_TYPE}") from error
    details = usage.input_token_details
    return events.TokenUsage(
        prompt=_believed(usage.input_tokens.value) if usage.HasField("input_tokens") else None,
        cached=_believed(details.cached_tokens.value) if details.HasField("cached_tokens") else None,
        completion=_believed(usage.output_tokens.value) if usage.HasField("output_tokens") else None,
    )


def _believed(count: float) -> int | None:
    return int(count) if 0 <= count <= events.MAX_COUNT else None  # not so for NaN


def _counts(struct: Struct | None) -> events.TokenUsage:
    """Counts under the names that the APIs give them: OpenAI's two, and Anthropic's, which leaves out cached tokens."""
    if struct is None:
        return events.TokenUsage()
    counts = {
        name: count for name, value in struct.fields.items() if (count := _believed(value.number_value)) is not None
    }
    prompt, cached = counts.get("prompt_tokens"), counts.get("cached_tokens")
    if prompt is None and "input_tokens" in counts:
        prompt = counts["input_tokens"]
        read = counts.get("cache_read_input_tokens")
        if read is not None:
            prompt += read + counts.get("cache_creation_input_tokens", 0)
            cached = read
    return events.TokenUsage(prompt, cached, counts.get("completion_tokens", counts.get("output_tokens")))
