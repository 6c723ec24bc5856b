"""The messages that Envoy and this gateway exchange, as `proto/` defines them.

Written by proto/generate.py: edit the .proto files instead. The descriptors live in a pool of their own, so that no
other copy of Envoy's API in the process can clash with them.
"""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

__all__ = [
    "DecodeError",
    "AccessLogCommon",
    "AccessLogCommonCustomTagsEntry",
    "Any",
    "BodyMutation",
    "BodyResponse",
    "BodySendMode",
    "BoolValue",
    "ClientWindowUpdate",
    "CommonResponse",
    "Duration",
    "ExtractionStatus",
    "FlowControlInit",
    "GrpcStatus",
    "HTTPAccessLogEntries",
    "HTTPAccessLogEntry",
    "HTTPResponseProperties",
    "HeaderAppendAction",
    "HeaderMap",
    "HeaderMutation",
    "HeaderSendMode",
    "HeaderValue",
    "HeaderValueOption",
    "HeadersResponse",
    "HttpBody",
    "HttpHeaders",
    "HttpHeadersAttributesEntry",
    "HttpStatus",
    "HttpTrailers",
    "ImmediateResponse",
    "InputTokenDetails",
    "LLMProtocol",
    "ListValue",
    "Metadata",
    "MetadataFilterMetadataEntry",
    "MetadataTypedFilterMetadataEntry",
    "NullValue",
    "OutputTokenDetails",
    "ProcessingMode",
    "ProcessingRequest",
    "ProcessingRequestAttributesEntry",
    "ProcessingResponse",
    "ProcessingResponseTypedDynamicMetadataEntry",
    "ProtocolConfiguration",
    "ResponseStatus",
    "ServerWindowUpdate",
    "StatusCode",
    "StreamAccessLogsMessage",
    "StreamAccessLogsResponse",
    "StreamedBodyResponse",
    "StreamedImmediateResponse",
    "Struct",
    "StructFieldsEntry",
    "TokenUsage",
    "TrailersResponse",
    "UInt32Value",
    "UInt64Value",
    "Value",
]


def _files(data: bytes) -> Iterator[bytes]:
    """The files of a serialized FileDescriptorSet, whose own class takes longer to import than all of this."""
    position = 0
    while position < len(data):
        position += 1  # the tag: field 1, length-delimited
        size = shift = 0
        while data[position] & 0x80:
            size |= (data[position] & 0x7F) << shift
            shift += 7
            position += 1
        size |= data[position] << shift
        position += 1
        yield data[position : position + size]
        position += size


_pool = DescriptorPool()
for _file in _files((Path(__file__).parent / "descriptors.binpb").read_bytes()):
    _pool.AddSerializedFile(_file)


def _message(name):
    return GetMessageClass(_pool.FindMessageTypeByName(name))


def _enum(name):
    """The enum's numbers by name. Fields hold plain integers: a sender may be newer than these lists."""
    return SimpleNamespace(**{value.name: value.number for value in _pool.FindEnumTypeByName(name).values})


Any = _message("relaxed.protobuf.Any")
Struct = _message("relaxed.protobuf.Struct")
StructFieldsEntry = _message("relaxed.protobuf.Struct.FieldsEntry")
Value = _message("relaxed.protobuf.Value")
ListValue = _message("relaxed.protobuf.ListValue")
UInt64Value = _message("relaxed.protobuf.UInt64Value")
UInt32Value = _message("relaxed.protobuf.UInt32Value")
BoolValue = _message("relaxed.protobuf.BoolValue")
Metadata = _message("envoy.config.core.v3.Metadata")
MetadataFilterMetadataEntry = _message("envoy.config.core.v3.Metadata.FilterMetadataEntry")
MetadataTypedFilterMetadataEntry = _message("envoy.config.core.v3.Metadata.TypedFilterMetadataEntry")
HeaderValue = _message("envoy.config.core.v3.HeaderValue")
HeaderValueOption = _message("envoy.config.core.v3.HeaderValueOption")
HeaderMap = _message("envoy.config.core.v3.HeaderMap")
Duration = _message("relaxed.protobuf.Duration")
HTTPAccessLogEntry = _message("envoy.data.accesslog.v3.HTTPAccessLogEntry")
AccessLogCommon = _message("envoy.data.accesslog.v3.AccessLogCommon")
AccessLogCommonCustomTagsEntry = _message("envoy.data.accesslog.v3.AccessLogCommon.CustomTagsEntry")
HTTPResponseProperties = _message("envoy.data.accesslog.v3.HTTPResponseProperties")
TokenUsage = _message("envoy.data.ai.v3.TokenUsage")
InputTokenDetails = _message("envoy.data.ai.v3.InputTokenDetails")
OutputTokenDetails = _message("envoy.data.ai.v3.OutputTokenDetails")
ProcessingMode = _message("envoy.extensions.filters.http.ext_proc.v3.ProcessingMode")
StreamAccessLogsResponse = _message("envoy.service.accesslog.v3.StreamAccessLogsResponse")
StreamAccessLogsMessage = _message("envoy.service.accesslog.v3.StreamAccessLogsMessage")
HTTPAccessLogEntries = _message("envoy.service.accesslog.v3.StreamAccessLogsMessage.HTTPAccessLogEntries")
HttpStatus = _message("envoy.type.v3.HttpStatus")
ProcessingRequest = _message("envoy.service.ext_proc.v3.ProcessingRequest")
FlowControlInit = _message("envoy.service.ext_proc.v3.ProcessingRequest.FlowControlInit")
ClientWindowUpdate = _message("envoy.service.ext_proc.v3.ProcessingRequest.ClientWindowUpdate")
ProcessingRequestAttributesEntry = _message("envoy.service.ext_proc.v3.ProcessingRequest.AttributesEntry")
ProtocolConfiguration = _message("envoy.service.ext_proc.v3.ProtocolConfiguration")
HttpHeaders = _message("envoy.service.ext_proc.v3.HttpHeaders")
HttpHeadersAttributesEntry = _message("envoy.service.ext_proc.v3.HttpHeaders.AttributesEntry")
HttpBody = _message("envoy.service.ext_proc.v3.HttpBody")
HttpTrailers = _message("envoy.service.ext_proc.v3.HttpTrailers")
ProcessingResponse = _message("envoy.service.ext_proc.v3.ProcessingResponse")
ServerWindowUpdate = _message("envoy.service.ext_proc.v3.ProcessingResponse.ServerWindowUpdate")
ProcessingResponseTypedDynamicMetadataEntry = _message("envoy.service.ext_proc.v3.ProcessingResponse.TypedDynamicMetadataEntry")
HeadersResponse = _message("envoy.service.ext_proc.v3.HeadersResponse")
BodyResponse = _message("envoy.service.ext_proc.v3.BodyResponse")
TrailersResponse = _message("envoy.service.ext_proc.v3.TrailersResponse")
CommonResponse = _message("envoy.service.ext_proc.v3.CommonResponse")
ImmediateResponse = _message("envoy.service.ext_proc.v3.ImmediateResponse")
GrpcStatus = _message("envoy.service.ext_proc.v3.GrpcStatus")
StreamedImmediateResponse = _message("envoy.service.ext_proc.v3.StreamedImmediateResponse")
HeaderMutation = _message("envoy.service.ext_proc.v3.HeaderMutation")
BodyMutation = _message("envoy.service.ext_proc.v3.BodyMutation")
StreamedBodyResponse = _message("envoy.service.ext_proc.v3.StreamedBodyResponse")
NullValue = _enum("relaxed.protobuf.NullValue")
HeaderAppendAction = _enum("envoy.config.core.v3.HeaderValueOption.HeaderAppendAction")
LLMProtocol = _enum("envoy.type.ai.v3.LLMProtocol")
ExtractionStatus = _enum("envoy.data.ai.v3.TokenUsage.ExtractionStatus")
HeaderSendMode = _enum("envoy.extensions.filters.http.ext_proc.v3.ProcessingMode.HeaderSendMode")
BodySendMode = _enum("envoy.extensions.filters.http.ext_proc.v3.ProcessingMode.BodySendMode")
StatusCode = _enum("envoy.type.v3.StatusCode")
ResponseStatus = _enum("envoy.service.ext_proc.v3.CommonResponse.ResponseStatus")
