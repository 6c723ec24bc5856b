"""This gateway's health in gRPC's health protocol, as serialized messages."""

from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from extproc.transport.services import SERVICE

if TYPE_CHECKING:
    from collections.abc import Callable

#: Names that a gateway may ask the health of (Endpoint Picker Protocol; "" is the whole server).
LIVENESS: Final = "liveness"
READINESS: Final = ("", "readiness", SERVICE)

_SERVING: Final[bytes] = health_pb2.HealthCheckResponse(status="SERVING").SerializeToString()
_NOT_SERVING: Final[bytes] = health_pb2.HealthCheckResponse(status="NOT_SERVING").SerializeToString()
#: The answer to watchers of an unknown service, which may come to exist.
SERVICE_UNKNOWN: Final[bytes] = health_pb2.HealthCheckResponse(status="SERVICE_UNKNOWN").SerializeToString()


class Health:
    """Alive from the first moment, ready once set so. `watchers` are called when that changes; they must not raise."""

    def __init__(self) -> None:
        self.ready = False
        self.watchers: set[Callable[[], None]] = set()

    def set_ready(self, ready: bool) -> None:
        if ready != self.ready:
            self.ready = ready
            for watcher in tuple(self.watchers):
                watcher()

    def status(self, service: str) -> bytes | None:
        """The serialized answer to a check of `service`; None: the service is unknown."""
        if service == LIVENESS:
            return _SERVING
        if service in READINESS:
            return _SERVING if self.ready else _NOT_SERVING
        return None


def asked_service(request: bytes) -> str:
    """The service that a serialized `HealthCheckRequest` names.

    Raises:
        ValueError: the bytes are no such message.
    """
    try:
        return str(health_pb2.HealthCheckRequest.FromString(request).service)
    except DecodeError as error:
        raise ValueError("not a HealthCheckRequest") from error
