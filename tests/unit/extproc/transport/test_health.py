import pytest
from grpc_health.v1 import health_pb2

from extproc.transport.health import READINESS, Health


def asked(service: str) -> bytes:
    return health_pb2.HealthCheckRequest(service=service).SerializeToString()


def status(answer: bytes | None) -> str:
    assert answer is not None
    return health_pb2.HealthCheckResponse.ServingStatus.Name(health_pb2.HealthCheckResponse.FromString(answer).status)


@pytest.mark.parametrize("service", READINESS)
def test_readiness(service: str) -> None:
    health = Health()
    assert status(health.check(asked(service))) == "NOT_SERVING"
    health.ready = True
    assert status(health.check(asked(service))) == "SERVING"


def test_liveness() -> None:
    assert status(Health().check(asked("liveness"))) == "SERVING"


def test_unknown_service() -> None:
    assert Health().check(asked("else")) is None


def test_no_request() -> None:
    with pytest.raises(ValueError, match="HealthCheckRequest"):
        Health().check(b"\xff")
