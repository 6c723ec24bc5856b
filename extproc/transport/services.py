"""The gRPC methods that this gateway serves, by the names of Envoy's API, and the size of their messages."""

from typing import Final

#: Room in a message beside the body: headers (Envoy takes up to 60 KiB of them), metadata, framing.
MESSAGE_OVERHEAD: Final = 256 * 1024

SERVICE: Final = "envoy.service.ext_proc.v3.ExternalProcessor"
METHOD: Final = "Process"
LOG_SERVICE: Final = "envoy.service.accesslog.v3.AccessLogService"
LOG_METHOD: Final = "StreamAccessLogs"
