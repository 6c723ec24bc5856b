"""Types of the messages. Written by proto/generate.py: edit the .proto files instead."""

from abc import ABCMeta
from collections.abc import Iterable, Sequence
from typing import Final, Generic, Literal, Self, TypeVar

_V = TypeVar("_V")
_M = TypeVar("_M", bound=Message)

class DecodeError(Exception): ...

class Message:
    @classmethod
    def FromString(cls, data: bytes, /) -> Self: ...
    def SerializeToString(self, *, deterministic: bool = ...) -> bytes: ...
    def ByteSize(self) -> int: ...
    def SetInParent(self) -> None: ...
    def Clear(self) -> None: ...
    def CopyFrom(self, other: Self, /) -> None: ...
    def MergeFrom(self, other: Self, /) -> None: ...

class _Values(Sequence[_V], Generic[_V], metaclass=ABCMeta):
    def append(self, value: _V, /) -> None: ...
    def extend(self, values: Iterable[_V], /) -> None: ...

class _Messages(Sequence[_M], Generic[_M], metaclass=ABCMeta):
    def add(self) -> _M: ...
    def append(self, message: _M, /) -> None: ...
    def extend(self, messages: Iterable[_M], /) -> None: ...

class Any(Message):
    """relaxed.protobuf.Any"""

    type_url: bytes
    value: bytes
    def __init__(
        self,
        *,
        type_url: bytes = ...,
        value: bytes = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["type_url", "value"], /) -> None: ...

class Struct(Message):
    """relaxed.protobuf.Struct"""

    @property
    def fields(self) -> _Messages[StructFieldsEntry]: ...
    def __init__(
        self,
        *,
        fields: Iterable[StructFieldsEntry] = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["fields"], /) -> None: ...

class StructFieldsEntry(Message):
    """relaxed.protobuf.Struct.FieldsEntry"""

    key: bytes
    @property
    def value(self) -> Value: ...
    def __init__(
        self,
        *,
        key: bytes = ...,
        value: Value | None = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["key", "value"], /) -> None: ...
    def HasField(self, name: Literal["value"], /) -> bool: ...

class Value(Message):
    """relaxed.protobuf.Value"""

    null_value: int
    number_value: float
    string_value: bytes
    bool_value: bool
    @property
    def struct_value(self) -> Struct: ...
    @property
    def list_value(self) -> ListValue: ...
    def __init__(
        self,
        *,
        null_value: int = ...,
        number_value: float = ...,
        string_value: bytes = ...,
        bool_value: bool = ...,
        struct_value: Struct | None = ...,
        list_value: ListValue | None = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["null_value", "number_value", "string_value", "bool_value", "struct_value", "list_value"], /) -> None: ...
    def HasField(self, name: Literal["null_value", "number_value", "string_value", "bool_value", "struct_value", "list_value"], /) -> bool: ...
    def WhichOneof(self, name: Literal["kind"], /) -> Literal["null_value", "number_value", "string_value", "bool_value", "struct_value", "list_value"] | None: ...

class ListValue(Message):
    """relaxed.protobuf.ListValue"""

    @property
    def values(self) -> _Messages[Value]: ...
    def __init__(
        self,
        *,
        values: Iterable[Value] = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["values"], /) -> None: ...

class UInt64Value(Message):
    """relaxed.protobuf.UInt64Value"""

    value: int
    def __init__(
        self,
        *,
        value: int = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["value"], /) -> None: ...

class UInt32Value(Message):
    """relaxed.protobuf.UInt32Value"""

    value: int
    def __init__(
        self,
        *,
        value: int = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["value"], /) -> None: ...

class BoolValue(Message):
    """relaxed.protobuf.BoolValue"""

    value: bool
    def __init__(
        self,
        *,
        value: bool = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["value"], /) -> None: ...

class Metadata(Message):
    """envoy.config.core.v3.Metadata"""

    @property
    def filter_metadata(self) -> _Messages[MetadataFilterMetadataEntry]: ...
    @property
    def typed_filter_metadata(self) -> _Messages[MetadataTypedFilterMetadataEntry]: ...
    def __init__(
        self,
        *,
        filter_metadata: Iterable[MetadataFilterMetadataEntry] = ...,
        typed_filter_metadata: Iterable[MetadataTypedFilterMetadataEntry] = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["filter_metadata", "typed_filter_metadata"], /) -> None: ...

class MetadataFilterMetadataEntry(Message):
    """envoy.config.core.v3.Metadata.FilterMetadataEntry"""

    key: bytes
    @property
    def value(self) -> Struct: ...
    def __init__(
        self,
        *,
        key: bytes = ...,
        value: Struct | None = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["key", "value"], /) -> None: ...
    def HasField(self, name: Literal["value"], /) -> bool: ...

class MetadataTypedFilterMetadataEntry(Message):
    """envoy.config.core.v3.Metadata.TypedFilterMetadataEntry"""

    key: bytes
    @property
    def value(self) -> Any: ...
    def __init__(
        self,
        *,
        key: bytes = ...,
        value: Any | None = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["key", "value"], /) -> None: ...
    def HasField(self, name: Literal["value"], /) -> bool: ...

class HeaderValue(Message):
    """envoy.config.core.v3.HeaderValue"""

    key: bytes
    value: bytes
    raw_value: bytes
    def __init__(
        self,
        *,
        key: bytes = ...,
        value: bytes = ...,
        raw_value: bytes = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["key", "value", "raw_value"], /) -> None: ...

class HeaderValueOption(Message):
    """envoy.config.core.v3.HeaderValueOption"""

    @property
    def header(self) -> HeaderValue: ...
    @property
    def append(self) -> BoolValue: ...
    append_action: int
    keep_empty_value: bool
    def __init__(
        self,
        *,
        header: HeaderValue | None = ...,
        append: BoolValue | None = ...,
        append_action: int = ...,
        keep_empty_value: bool = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["header", "append", "append_action", "keep_empty_value"], /) -> None: ...
    def HasField(self, name: Literal["header", "append"], /) -> bool: ...

class HeaderMap(Message):
    """envoy.config.core.v3.HeaderMap"""

    @property
    def headers(self) -> _Messages[HeaderValue]: ...
    def __init__(
        self,
        *,
        headers: Iterable[HeaderValue] = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["headers"], /) -> None: ...

class Duration(Message):
    """relaxed.protobuf.Duration"""

    seconds: int
    nanos: int
    def __init__(
        self,
        *,
        seconds: int = ...,
        nanos: int = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["seconds", "nanos"], /) -> None: ...

class HTTPAccessLogEntry(Message):
    """envoy.data.accesslog.v3.HTTPAccessLogEntry"""

    @property
    def common_properties(self) -> AccessLogCommon: ...
    @property
    def response(self) -> HTTPResponseProperties: ...
    def __init__(
        self,
        *,
        common_properties: AccessLogCommon | None = ...,
        response: HTTPResponseProperties | None = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["common_properties", "response"], /) -> None: ...
    def HasField(self, name: Literal["common_properties", "response"], /) -> bool: ...

class AccessLogCommon(Message):
    """envoy.data.accesslog.v3.AccessLogCommon"""

    @property
    def metadata(self) -> Metadata: ...
    @property
    def custom_tags(self) -> _Messages[AccessLogCommonCustomTagsEntry]: ...
    @property
    def duration(self) -> Duration: ...
    upstream_request_attempt_count: int
    def __init__(
        self,
        *,
        metadata: Metadata | None = ...,
        custom_tags: Iterable[AccessLogCommonCustomTagsEntry] = ...,
        duration: Duration | None = ...,
        upstream_request_attempt_count: int = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["metadata", "custom_tags", "duration", "upstream_request_attempt_count"], /) -> None: ...
    def HasField(self, name: Literal["metadata", "duration"], /) -> bool: ...

class AccessLogCommonCustomTagsEntry(Message):
    """envoy.data.accesslog.v3.AccessLogCommon.CustomTagsEntry"""

    key: bytes
    value: bytes
    def __init__(
        self,
        *,
        key: bytes = ...,
        value: bytes = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["key", "value"], /) -> None: ...

class HTTPResponseProperties(Message):
    """envoy.data.accesslog.v3.HTTPResponseProperties"""

    @property
    def response_code(self) -> UInt32Value: ...
    response_code_details: bytes
    def __init__(
        self,
        *,
        response_code: UInt32Value | None = ...,
        response_code_details: bytes = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["response_code", "response_code_details"], /) -> None: ...
    def HasField(self, name: Literal["response_code"], /) -> bool: ...

class TokenUsage(Message):
    """envoy.data.ai.v3.TokenUsage"""

    llm_protocol: int
    model: bytes
    @property
    def input_tokens(self) -> UInt64Value: ...
    @property
    def output_tokens(self) -> UInt64Value: ...
    @property
    def total_tokens(self) -> UInt64Value: ...
    @property
    def input_token_details(self) -> InputTokenDetails: ...
    @property
    def output_token_details(self) -> OutputTokenDetails: ...
    @property
    def provider_total_tokens(self) -> UInt64Value: ...
    extraction_status: int
    def __init__(
        self,
        *,
        llm_protocol: int = ...,
        model: bytes = ...,
        input_tokens: UInt64Value | None = ...,
        output_tokens: UInt64Value | None = ...,
        total_tokens: UInt64Value | None = ...,
        input_token_details: InputTokenDetails | None = ...,
        output_token_details: OutputTokenDetails | None = ...,
        provider_total_tokens: UInt64Value | None = ...,
        extraction_status: int = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["llm_protocol", "model", "input_tokens", "output_tokens", "total_tokens", "input_token_details", "output_token_details", "provider_total_tokens", "extraction_status"], /) -> None: ...
    def HasField(self, name: Literal["input_tokens", "output_tokens", "total_tokens", "input_token_details", "output_token_details", "provider_total_tokens"], /) -> bool: ...

class InputTokenDetails(Message):
    """envoy.data.ai.v3.InputTokenDetails"""

    @property
    def cached_tokens(self) -> UInt64Value: ...
    @property
    def cache_creation_tokens(self) -> UInt64Value: ...
    @property
    def tool_use_tokens(self) -> UInt64Value: ...
    def __init__(
        self,
        *,
        cached_tokens: UInt64Value | None = ...,
        cache_creation_tokens: UInt64Value | None = ...,
        tool_use_tokens: UInt64Value | None = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["cached_tokens", "cache_creation_tokens", "tool_use_tokens"], /) -> None: ...
    def HasField(self, name: Literal["cached_tokens", "cache_creation_tokens", "tool_use_tokens"], /) -> bool: ...

class OutputTokenDetails(Message):
    """envoy.data.ai.v3.OutputTokenDetails"""

    @property
    def reasoning_tokens(self) -> UInt64Value: ...
    def __init__(
        self,
        *,
        reasoning_tokens: UInt64Value | None = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["reasoning_tokens"], /) -> None: ...
    def HasField(self, name: Literal["reasoning_tokens"], /) -> bool: ...

class ProcessingMode(Message):
    """envoy.extensions.filters.http.ext_proc.v3.ProcessingMode"""

    request_header_mode: int
    response_header_mode: int
    request_body_mode: int
    response_body_mode: int
    request_trailer_mode: int
    response_trailer_mode: int
    def __init__(
        self,
        *,
        request_header_mode: int = ...,
        response_header_mode: int = ...,
        request_body_mode: int = ...,
        response_body_mode: int = ...,
        request_trailer_mode: int = ...,
        response_trailer_mode: int = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["request_header_mode", "response_header_mode", "request_body_mode", "response_body_mode", "request_trailer_mode", "response_trailer_mode"], /) -> None: ...

class StreamAccessLogsResponse(Message):
    """envoy.service.accesslog.v3.StreamAccessLogsResponse"""

    def __init__(self) -> None: ...

class StreamAccessLogsMessage(Message):
    """envoy.service.accesslog.v3.StreamAccessLogsMessage"""

    @property
    def http_logs(self) -> HTTPAccessLogEntries: ...
    def __init__(
        self,
        *,
        http_logs: HTTPAccessLogEntries | None = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["http_logs"], /) -> None: ...
    def HasField(self, name: Literal["http_logs"], /) -> bool: ...
    def WhichOneof(self, name: Literal["log_entries"], /) -> Literal["http_logs"] | None: ...

class HTTPAccessLogEntries(Message):
    """envoy.service.accesslog.v3.StreamAccessLogsMessage.HTTPAccessLogEntries"""

    @property
    def log_entry(self) -> _Values[bytes]: ...
    def __init__(
        self,
        *,
        log_entry: Iterable[bytes] = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["log_entry"], /) -> None: ...

class HttpStatus(Message):
    """envoy.type.v3.HttpStatus"""

    code: int
    def __init__(
        self,
        *,
        code: int = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["code"], /) -> None: ...

class ProcessingRequest(Message):
    """envoy.service.ext_proc.v3.ProcessingRequest"""

    @property
    def request_headers(self) -> HttpHeaders: ...
    @property
    def response_headers(self) -> HttpHeaders: ...
    @property
    def request_body(self) -> HttpBody: ...
    @property
    def response_body(self) -> HttpBody: ...
    @property
    def request_trailers(self) -> HttpTrailers: ...
    @property
    def response_trailers(self) -> HttpTrailers: ...
    @property
    def metadata_context(self) -> Metadata: ...
    @property
    def attributes(self) -> _Messages[ProcessingRequestAttributesEntry]: ...
    observability_mode: bool
    @property
    def protocol_config(self) -> ProtocolConfiguration: ...
    @property
    def flow_control_init(self) -> FlowControlInit: ...
    @property
    def client_window_update(self) -> ClientWindowUpdate: ...
    def __init__(
        self,
        *,
        request_headers: HttpHeaders | None = ...,
        response_headers: HttpHeaders | None = ...,
        request_body: HttpBody | None = ...,
        response_body: HttpBody | None = ...,
        request_trailers: HttpTrailers | None = ...,
        response_trailers: HttpTrailers | None = ...,
        metadata_context: Metadata | None = ...,
        attributes: Iterable[ProcessingRequestAttributesEntry] = ...,
        observability_mode: bool = ...,
        protocol_config: ProtocolConfiguration | None = ...,
        flow_control_init: FlowControlInit | None = ...,
        client_window_update: ClientWindowUpdate | None = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["request_headers", "response_headers", "request_body", "response_body", "request_trailers", "response_trailers", "metadata_context", "attributes", "observability_mode", "protocol_config", "flow_control_init", "client_window_update"], /) -> None: ...
    def HasField(self, name: Literal["request_headers", "response_headers", "request_body", "response_body", "request_trailers", "response_trailers", "metadata_context", "protocol_config", "flow_control_init", "client_window_update"], /) -> bool: ...
    def WhichOneof(self, name: Literal["request"], /) -> Literal["request_headers", "response_headers", "request_body", "response_body", "request_trailers", "response_trailers"] | None: ...

class FlowControlInit(Message):
    """envoy.service.ext_proc.v3.ProcessingRequest.FlowControlInit"""

    initial_window_downstream_to_sidestream: int
    initial_window_sidestream_to_upstream: int
    initial_window_upstream_to_sidestream: int
    initial_window_sidestream_to_downstream: int
    def __init__(
        self,
        *,
        initial_window_downstream_to_sidestream: int = ...,
        initial_window_sidestream_to_upstream: int = ...,
        initial_window_upstream_to_sidestream: int = ...,
        initial_window_sidestream_to_downstream: int = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["initial_window_downstream_to_sidestream", "initial_window_sidestream_to_upstream", "initial_window_upstream_to_sidestream", "initial_window_sidestream_to_downstream"], /) -> None: ...

class ClientWindowUpdate(Message):
    """envoy.service.ext_proc.v3.ProcessingRequest.ClientWindowUpdate"""

    window_increment_sidestream_to_upstream: int
    window_increment_sidestream_to_downstream: int
    def __init__(
        self,
        *,
        window_increment_sidestream_to_upstream: int = ...,
        window_increment_sidestream_to_downstream: int = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["window_increment_sidestream_to_upstream", "window_increment_sidestream_to_downstream"], /) -> None: ...

class ProcessingRequestAttributesEntry(Message):
    """envoy.service.ext_proc.v3.ProcessingRequest.AttributesEntry"""

    key: bytes
    @property
    def value(self) -> Struct: ...
    def __init__(
        self,
        *,
        key: bytes = ...,
        value: Struct | None = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["key", "value"], /) -> None: ...
    def HasField(self, name: Literal["value"], /) -> bool: ...

class ProtocolConfiguration(Message):
    """envoy.service.ext_proc.v3.ProtocolConfiguration"""

    request_body_mode: int
    response_body_mode: int
    send_body_without_waiting_for_header_response: bool
    def __init__(
        self,
        *,
        request_body_mode: int = ...,
        response_body_mode: int = ...,
        send_body_without_waiting_for_header_response: bool = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["request_body_mode", "response_body_mode", "send_body_without_waiting_for_header_response"], /) -> None: ...

class HttpHeaders(Message):
    """envoy.service.ext_proc.v3.HttpHeaders"""

    @property
    def headers(self) -> HeaderMap: ...
    @property
    def attributes(self) -> _Messages[HttpHeadersAttributesEntry]: ...
    end_of_stream: bool
    def __init__(
        self,
        *,
        headers: HeaderMap | None = ...,
        attributes: Iterable[HttpHeadersAttributesEntry] = ...,
        end_of_stream: bool = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["headers", "attributes", "end_of_stream"], /) -> None: ...
    def HasField(self, name: Literal["headers"], /) -> bool: ...

class HttpHeadersAttributesEntry(Message):
    """envoy.service.ext_proc.v3.HttpHeaders.AttributesEntry"""

    key: bytes
    @property
    def value(self) -> Struct: ...
    def __init__(
        self,
        *,
        key: bytes = ...,
        value: Struct | None = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["key", "value"], /) -> None: ...
    def HasField(self, name: Literal["value"], /) -> bool: ...

class HttpBody(Message):
    """envoy.service.ext_proc.v3.HttpBody"""

    body: bytes
    end_of_stream: bool
    end_of_stream_without_message: bool
    grpc_message_compressed: bool
    drain_complete: bool
    def __init__(
        self,
        *,
        body: bytes = ...,
        end_of_stream: bool = ...,
        end_of_stream_without_message: bool = ...,
        grpc_message_compressed: bool = ...,
        drain_complete: bool = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["body", "end_of_stream", "end_of_stream_without_message", "grpc_message_compressed", "drain_complete"], /) -> None: ...

class HttpTrailers(Message):
    """envoy.service.ext_proc.v3.HttpTrailers"""

    @property
    def trailers(self) -> HeaderMap: ...
    def __init__(
        self,
        *,
        trailers: HeaderMap | None = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["trailers"], /) -> None: ...
    def HasField(self, name: Literal["trailers"], /) -> bool: ...

class ProcessingResponse(Message):
    """envoy.service.ext_proc.v3.ProcessingResponse"""

    @property
    def request_headers(self) -> HeadersResponse: ...
    @property
    def response_headers(self) -> HeadersResponse: ...
    @property
    def request_body(self) -> BodyResponse: ...
    @property
    def response_body(self) -> BodyResponse: ...
    @property
    def request_trailers(self) -> TrailersResponse: ...
    @property
    def response_trailers(self) -> TrailersResponse: ...
    @property
    def immediate_response(self) -> ImmediateResponse: ...
    @property
    def streamed_immediate_response(self) -> StreamedImmediateResponse: ...
    @property
    def dynamic_metadata(self) -> Struct: ...
    @property
    def mode_override(self) -> ProcessingMode: ...
    @property
    def override_message_timeout(self) -> Duration: ...
    request_drain: bool
    @property
    def typed_dynamic_metadata(self) -> _Messages[ProcessingResponseTypedDynamicMetadataEntry]: ...
    @property
    def server_window_update(self) -> ServerWindowUpdate: ...
    request_drain_requests: bool
    request_drain_responses: bool
    def __init__(
        self,
        *,
        request_headers: HeadersResponse | None = ...,
        response_headers: HeadersResponse | None = ...,
        request_body: BodyResponse | None = ...,
        response_body: BodyResponse | None = ...,
        request_trailers: TrailersResponse | None = ...,
        response_trailers: TrailersResponse | None = ...,
        immediate_response: ImmediateResponse | None = ...,
        streamed_immediate_response: StreamedImmediateResponse | None = ...,
        dynamic_metadata: Struct | None = ...,
        mode_override: ProcessingMode | None = ...,
        override_message_timeout: Duration | None = ...,
        request_drain: bool = ...,
        typed_dynamic_metadata: Iterable[ProcessingResponseTypedDynamicMetadataEntry] = ...,
        server_window_update: ServerWindowUpdate | None = ...,
        request_drain_requests: bool = ...,
        request_drain_responses: bool = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["request_headers", "response_headers", "request_body", "response_body", "request_trailers", "response_trailers", "immediate_response", "streamed_immediate_response", "dynamic_metadata", "mode_override", "override_message_timeout", "request_drain", "typed_dynamic_metadata", "server_window_update", "request_drain_requests", "request_drain_responses"], /) -> None: ...
    def HasField(self, name: Literal["request_headers", "response_headers", "request_body", "response_body", "request_trailers", "response_trailers", "immediate_response", "streamed_immediate_response", "dynamic_metadata", "mode_override", "override_message_timeout", "server_window_update"], /) -> bool: ...
    def WhichOneof(self, name: Literal["response"], /) -> Literal["request_headers", "response_headers", "request_body", "response_body", "request_trailers", "response_trailers", "immediate_response", "streamed_immediate_response"] | None: ...

class ServerWindowUpdate(Message):
    """envoy.service.ext_proc.v3.ProcessingResponse.ServerWindowUpdate"""

    window_increment_downstream_to_sidestream: int
    window_increment_upstream_to_sidestream: int
    def __init__(
        self,
        *,
        window_increment_downstream_to_sidestream: int = ...,
        window_increment_upstream_to_sidestream: int = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["window_increment_downstream_to_sidestream", "window_increment_upstream_to_sidestream"], /) -> None: ...

class ProcessingResponseTypedDynamicMetadataEntry(Message):
    """envoy.service.ext_proc.v3.ProcessingResponse.TypedDynamicMetadataEntry"""

    key: bytes
    @property
    def value(self) -> Any: ...
    def __init__(
        self,
        *,
        key: bytes = ...,
        value: Any | None = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["key", "value"], /) -> None: ...
    def HasField(self, name: Literal["value"], /) -> bool: ...

class HeadersResponse(Message):
    """envoy.service.ext_proc.v3.HeadersResponse"""

    @property
    def response(self) -> CommonResponse: ...
    def __init__(
        self,
        *,
        response: CommonResponse | None = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["response"], /) -> None: ...
    def HasField(self, name: Literal["response"], /) -> bool: ...

class BodyResponse(Message):
    """envoy.service.ext_proc.v3.BodyResponse"""

    @property
    def response(self) -> CommonResponse: ...
    def __init__(
        self,
        *,
        response: CommonResponse | None = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["response"], /) -> None: ...
    def HasField(self, name: Literal["response"], /) -> bool: ...

class TrailersResponse(Message):
    """envoy.service.ext_proc.v3.TrailersResponse"""

    @property
    def header_mutation(self) -> HeaderMutation: ...
    def __init__(
        self,
        *,
        header_mutation: HeaderMutation | None = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["header_mutation"], /) -> None: ...
    def HasField(self, name: Literal["header_mutation"], /) -> bool: ...

class CommonResponse(Message):
    """envoy.service.ext_proc.v3.CommonResponse"""

    status: int
    @property
    def header_mutation(self) -> HeaderMutation: ...
    @property
    def body_mutation(self) -> BodyMutation: ...
    @property
    def trailers(self) -> HeaderMap: ...
    clear_route_cache: bool
    def __init__(
        self,
        *,
        status: int = ...,
        header_mutation: HeaderMutation | None = ...,
        body_mutation: BodyMutation | None = ...,
        trailers: HeaderMap | None = ...,
        clear_route_cache: bool = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["status", "header_mutation", "body_mutation", "trailers", "clear_route_cache"], /) -> None: ...
    def HasField(self, name: Literal["header_mutation", "body_mutation", "trailers"], /) -> bool: ...

class ImmediateResponse(Message):
    """envoy.service.ext_proc.v3.ImmediateResponse"""

    @property
    def status(self) -> HttpStatus: ...
    @property
    def headers(self) -> HeaderMutation: ...
    body: bytes
    @property
    def grpc_status(self) -> GrpcStatus: ...
    details: bytes
    def __init__(
        self,
        *,
        status: HttpStatus | None = ...,
        headers: HeaderMutation | None = ...,
        body: bytes = ...,
        grpc_status: GrpcStatus | None = ...,
        details: bytes = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["status", "headers", "body", "grpc_status", "details"], /) -> None: ...
    def HasField(self, name: Literal["status", "headers", "grpc_status"], /) -> bool: ...

class GrpcStatus(Message):
    """envoy.service.ext_proc.v3.GrpcStatus"""

    status: int
    def __init__(
        self,
        *,
        status: int = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["status"], /) -> None: ...

class StreamedImmediateResponse(Message):
    """envoy.service.ext_proc.v3.StreamedImmediateResponse"""

    @property
    def headers_response(self) -> HttpHeaders: ...
    @property
    def body_response(self) -> StreamedBodyResponse: ...
    @property
    def trailers_response(self) -> HeaderMap: ...
    def __init__(
        self,
        *,
        headers_response: HttpHeaders | None = ...,
        body_response: StreamedBodyResponse | None = ...,
        trailers_response: HeaderMap | None = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["headers_response", "body_response", "trailers_response"], /) -> None: ...
    def HasField(self, name: Literal["headers_response", "body_response", "trailers_response"], /) -> bool: ...
    def WhichOneof(self, name: Literal["response"], /) -> Literal["headers_response", "body_response", "trailers_response"] | None: ...

class HeaderMutation(Message):
    """envoy.service.ext_proc.v3.HeaderMutation"""

    @property
    def set_headers(self) -> _Messages[HeaderValueOption]: ...
    @property
    def remove_headers(self) -> _Values[bytes]: ...
    def __init__(
        self,
        *,
        set_headers: Iterable[HeaderValueOption] = ...,
        remove_headers: Iterable[bytes] = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["set_headers", "remove_headers"], /) -> None: ...

class BodyMutation(Message):
    """envoy.service.ext_proc.v3.BodyMutation"""

    body: bytes
    clear_body: bool
    @property
    def streamed_response(self) -> StreamedBodyResponse: ...
    def __init__(
        self,
        *,
        body: bytes = ...,
        clear_body: bool = ...,
        streamed_response: StreamedBodyResponse | None = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["body", "clear_body", "streamed_response"], /) -> None: ...
    def HasField(self, name: Literal["body", "clear_body", "streamed_response"], /) -> bool: ...
    def WhichOneof(self, name: Literal["mutation"], /) -> Literal["body", "clear_body", "streamed_response"] | None: ...

class StreamedBodyResponse(Message):
    """envoy.service.ext_proc.v3.StreamedBodyResponse"""

    body: bytes
    end_of_stream: bool
    end_of_stream_without_message: bool
    grpc_message_compressed: bool
    drain_complete: bool
    def __init__(
        self,
        *,
        body: bytes = ...,
        end_of_stream: bool = ...,
        end_of_stream_without_message: bool = ...,
        grpc_message_compressed: bool = ...,
        drain_complete: bool = ...,
    ) -> None: ...
    def ClearField(self, name: Literal["body", "end_of_stream", "end_of_stream_without_message", "grpc_message_compressed", "drain_complete"], /) -> None: ...

class NullValue:
    """relaxed.protobuf.NullValue: its numbers."""

    NULL_VALUE: Final = 0

class HeaderAppendAction:
    """envoy.config.core.v3.HeaderValueOption.HeaderAppendAction: its numbers."""

    APPEND_IF_EXISTS_OR_ADD: Final = 0
    ADD_IF_ABSENT: Final = 1
    OVERWRITE_IF_EXISTS_OR_ADD: Final = 2
    OVERWRITE_IF_EXISTS: Final = 3

class LLMProtocol:
    """envoy.type.ai.v3.LLMProtocol: its numbers."""

    LLM_PROTOCOL_UNSPECIFIED: Final = 0
    OPENAI_CHAT_COMPLETIONS: Final = 1
    OPENAI_RESPONSES: Final = 2
    ANTHROPIC_MESSAGES: Final = 3
    GEMINI_GENERATE_CONTENT: Final = 4

class ExtractionStatus:
    """envoy.data.ai.v3.TokenUsage.ExtractionStatus: its numbers."""

    EXTRACTION_STATUS_UNSPECIFIED: Final = 0
    COMPLETE: Final = 1
    PARTIAL: Final = 2
    FAILED: Final = 3

class HeaderSendMode:
    """envoy.extensions.filters.http.ext_proc.v3.ProcessingMode.HeaderSendMode: its numbers."""

    DEFAULT: Final = 0
    SEND: Final = 1
    SKIP: Final = 2

class BodySendMode:
    """envoy.extensions.filters.http.ext_proc.v3.ProcessingMode.BodySendMode: its numbers."""

    NONE: Final = 0
    STREAMED: Final = 1
    BUFFERED: Final = 2
    BUFFERED_PARTIAL: Final = 3
    FULL_DUPLEX_STREAMED: Final = 4
    GRPC: Final = 5

class StatusCode:
    """envoy.type.v3.StatusCode: its numbers."""

    Empty: Final = 0
    Continue: Final = 100
    OK: Final = 200
    Created: Final = 201
    Accepted: Final = 202
    NonAuthoritativeInformation: Final = 203
    NoContent: Final = 204
    ResetContent: Final = 205
    PartialContent: Final = 206
    MultiStatus: Final = 207
    AlreadyReported: Final = 208
    IMUsed: Final = 226
    MultipleChoices: Final = 300
    MovedPermanently: Final = 301
    Found: Final = 302
    SeeOther: Final = 303
    NotModified: Final = 304
    UseProxy: Final = 305
    TemporaryRedirect: Final = 307
    PermanentRedirect: Final = 308
    BadRequest: Final = 400
    Unauthorized: Final = 401
    PaymentRequired: Final = 402
    Forbidden: Final = 403
    NotFound: Final = 404
    MethodNotAllowed: Final = 405
    NotAcceptable: Final = 406
    ProxyAuthenticationRequired: Final = 407
    RequestTimeout: Final = 408
    Conflict: Final = 409
    Gone: Final = 410
    LengthRequired: Final = 411
    PreconditionFailed: Final = 412
    PayloadTooLarge: Final = 413
    URITooLong: Final = 414
    UnsupportedMediaType: Final = 415
    RangeNotSatisfiable: Final = 416
    ExpectationFailed: Final = 417
    MisdirectedRequest: Final = 421
    UnprocessableEntity: Final = 422
    Locked: Final = 423
    FailedDependency: Final = 424
    UpgradeRequired: Final = 426
    PreconditionRequired: Final = 428
    TooManyRequests: Final = 429
    RequestHeaderFieldsTooLarge: Final = 431
    InternalServerError: Final = 500
    NotImplemented: Final = 501
    BadGateway: Final = 502
    ServiceUnavailable: Final = 503
    GatewayTimeout: Final = 504
    HTTPVersionNotSupported: Final = 505
    VariantAlsoNegotiates: Final = 506
    InsufficientStorage: Final = 507
    LoopDetected: Final = 508
    NotExtended: Final = 510
    NetworkAuthenticationRequired: Final = 511

class ResponseStatus:
    """envoy.service.ext_proc.v3.CommonResponse.ResponseStatus: its numbers."""

    CONTINUE: Final = 0
    CONTINUE_AND_REPLACE: Final = 1
