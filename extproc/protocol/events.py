"""The events that Envoy sends on an ext_proc stream."""

from collections.abc import Mapping
from enum import IntEnum
from typing import ClassVar

import msgspec

from extproc.protocol.headers import Headers


class BodyMode(IntEnum):
    """`envoy.extensions.filters.http.ext_proc.v3.ProcessingMode.BodySendMode`."""

    NONE = 0
    STREAMED = 1
    BUFFERED = 2
    BUFFERED_PARTIAL = 3
    FULL_DUPLEX_STREAMED = 4
    GRPC = 5


class ProtocolConfig(msgspec.Struct, frozen=True):
    """Configuration of this Envoy's ext_proc filter, in the first message of a stream since Envoy 1.33."""

    request_body_mode: BodyMode = BodyMode.NONE
    response_body_mode: BodyMode = BodyMode.NONE
    send_body_without_waiting_for_header_response: bool = False


NO_ATTRIBUTES: Mapping[str, object] = {}


class RequestHeaders(msgspec.Struct, frozen=True):
    headers: Headers
    #: True: there is no body and there are no trailers.
    end_of_stream: bool = False
    #: `ip:port` that the data plane allows; None where it does not say. May come again with the body.
    subset: tuple[str, ...] | None = None
    #: None from an Envoy that does not send it.
    config: ProtocolConfig | None = None


class RequestBody(msgspec.Struct, frozen=True):
    body: bytes
    end_of_stream: bool = False
    subset: tuple[str, ...] | None = None


class RequestTrailers(msgspec.Struct, frozen=True):
    end_of_stream: ClassVar[bool] = True
    headers: Headers


class ResponseHeaders(msgspec.Struct, frozen=True):
    headers: Headers
    end_of_stream: bool = False
    #: `ip:port` that served the request, after retries; empty where unknown.
    served: str = ""
    attributes: Mapping[str, object] = NO_ATTRIBUTES
    #: With the first message of a stream, as in `RequestHeaders`; so for the other events of answers.
    config: ProtocolConfig | None = None


class ResponseBody(msgspec.Struct, frozen=True):
    body: bytes
    end_of_stream: bool = False
    config: ProtocolConfig | None = None
    #: Body and end as they were serialized; empty where that is not known.
    serialized: bytes = b""


#: Counts above it are not believed: no model reads or writes as much in one request, and metrics must not be spoilt.
MAX_COUNT = 1_000_000_000


class TokenUsage(msgspec.Struct, frozen=True):
    """Tokens of a request as the model server counted them: 0 to `MAX_COUNT`. None: not reported, which is not zero."""

    prompt: int | None = None
    cached: int | None = None
    completion: int | None = None


class ResponseTrailers(msgspec.Struct, frozen=True):
    end_of_stream: ClassVar[bool] = True
    headers: Headers
    served: str = ""
    attributes: Mapping[str, object] = NO_ATTRIBUTES
    config: ProtocolConfig | None = None


class LogEntry(msgspec.Struct, frozen=True):
    """A request in Envoy's access log."""

    #: The key that its pick was sent with; empty where it had none.
    key: str
    #: None: there was no answer.
    status: int | None = None
    served: str = ""
    attempts: int = 0
    #: `%RESPONSE_CODE_DETAILS%`.
    details: str = ""
    usage: TokenUsage = TokenUsage()
    #: The timings of envoy/gateway.yaml.
    tags: Mapping[str, str] = msgspec.field(default_factory=dict)


Event = RequestHeaders | RequestBody | RequestTrailers | ResponseHeaders | ResponseBody | ResponseTrailers
