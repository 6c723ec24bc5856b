# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""From serialized entries of Envoy's access log to events."""

from collections.abc import Iterable

from extproc._pb import (
    Any,
    DecodeError,
    HTTPAccessLogEntry,
    MetadataTypedFilterMetadataEntry,
    StreamAccessLogsMessage,
    Struct,
    TokenUsage,
)
from extproc.errors import RemoteProtocolError
from extproc.protocol import events
from extproc.protocol.headers import DESTINATION_NAMESPACE, KEY, OWN_NAMESPACE, SERVED
from extproc.wire.relaxed import text, text_of, value_of

#: Typed metadata in which Envoy's AI filters put the token counts of an answer, and the type in it.
USAGE_NAMESPACE = b"envoy.ai.token_usage"
USAGE_TYPE = "envoy.data.ai.v3.TokenUsage"
#: Where Envoy's stable filters put them (envoy/gateway.yaml).
COUNTS_NAMESPACE = b"infer-gateway.usage"

_DESTINATION, _OWN, _KEY, _SERVED = (
    name.encode() for name in (DESTINATION_NAMESPACE, OWN_NAMESPACE, KEY, SERVED)
)  # fmt: skip
_USAGE_TYPE = USAGE_TYPE.encode()


def decode_log(data: bytes) -> tuple[list[events.LogEntry], int]:
    """The requests in a serialized `StreamAccessLogsMessage`, and how many entries could not be read.

    Each entry is parsed by itself: clients and model servers have a say in what stands in it.

    Raises:
        RemoteProtocolError: the bytes are no such message.
    """
    try:
        message = StreamAccessLogsMessage.FromString(data)
    except DecodeError as error:
        raise RemoteProtocolError("not a StreamAccessLogsMessage") from error
    entries, unread = [], 0
    for raw in message.http_logs.log_entry:
        try:
            entries.append(_log_entry(HTTPAccessLogEntry.FromString(raw)))
        except DecodeError:
            unread += 1
    return entries, unread


def _log_entry(entry: HTTPAccessLogEntry) -> events.LogEntry:
    common, response = entry.common_properties, entry.response
    metadata = common.metadata
    key = served = ""
    counts = events.TokenUsage()
    for part in metadata.filter_metadata:  # one pass: each look at a field makes an object
        namespace = part.key
        if namespace == _OWN:
            key = text_of(value_of(part.value, _KEY))
        elif namespace == _DESTINATION:
            served = text_of(value_of(part.value, _SERVED))
        elif namespace == COUNTS_NAMESPACE:
            counts = _counts(part.value)
    return events.LogEntry(
        key=key,
        status=response.response_code.value if response.HasField("response_code") else None,
        served=served,
        attempts=common.upstream_request_attempt_count,
        details=text(response.response_code_details),
        usage=_usage(metadata.typed_filter_metadata) or counts,
        tags={text(tag.key): text(tag.value) for tag in common.custom_tags},
    )


def _usage(metadata: Iterable[MetadataTypedFilterMetadataEntry]) -> events.TokenUsage | None:
    for entry in metadata:
        if entry.key == USAGE_NAMESPACE:
            return _read_usage(entry.value)
    return None


def _read_usage(packed: Any) -> events.TokenUsage | None:
    if packed.type_url.rpartition(b"/")[2] != _USAGE_TYPE:
        return None
    try:
        usage = TokenUsage.FromString(packed.value)
    except DecodeError:
        return None  # the rest of the entry is as true as it was
    details = usage.input_token_details
    return events.TokenUsage(
        prompt=_believed(usage.input_tokens.value) if usage.HasField("input_tokens") else None,
        cached=_believed(details.cached_tokens.value) if details.HasField("cached_tokens") else None,
        completion=_believed(usage.output_tokens.value) if usage.HasField("output_tokens") else None,
    )


def _believed(count: float) -> int | None:
    return int(count) if 0 <= count <= events.MAX_COUNT else None  # not so for NaN


def _counts(struct: Struct) -> events.TokenUsage:
    """Counts under the names that the APIs give them: OpenAI's two, and Anthropic's, which leaves out cached tokens."""
    counts = {
        text(field.key): count for field in struct.fields if (count := _believed(field.value.number_value)) is not None
    }
    prompt, cached = counts.get("prompt_tokens"), counts.get("cached_tokens")
    if prompt is None and "input_tokens" in counts:
        prompt = counts["input_tokens"]
        read = counts.get("cache_read_input_tokens")
        if read is not None:
            prompt += read + counts.get("cache_creation_input_tokens", 0)
            cached = read
    return events.TokenUsage(prompt, cached, counts.get("completion_tokens", counts.get("output_tokens")))
