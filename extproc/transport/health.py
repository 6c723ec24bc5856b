"""What is told of this gateway's health by gRPC's health protocol, as serialized messages."""

from typing import Final

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from extproc.transport.requests import SERVICE

#: Names that a gateway may ask the health of (Endpoint Picker Protocol; "" is the whole server).
LIVENESS: Final = "liveness"
READINESS: Final = ("", "readiness", SERVICE)

_SERVING: Final[bytes] = health_pb2.HealthCheckResponse(status="SERVING").SerializeToString()
_NOT_SERVING: Final[bytes] = health_pb2.HealthCheckResponse(status="NOT_SERVING").SerializeToString()


class Health:
    """Alive from the first moment, ready when told."""

    def __init__(self) -> None:
        self.ready = False

    def check(self, request: bytes) -> bytes | None:
        """The answer to a serialized `HealthCheckRequest`; None: there is no such service.

        Raises:
            ValueError: the bytes are no such message.
        """
        try:
            service = health_pb2.HealthCheckRequest.FromString(request).service
        except DecodeError as error:
            raise ValueError("not a HealthCheckRequest") from error
        if service == LIVENESS:
            return _SERVING
        if service in READINESS:
            return _SERVING if self.ready else _NOT_SERVING
        return None
