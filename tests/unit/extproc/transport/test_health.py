import pytest
from grpc_health.v1 import health_pb2

from extproc.transport.health import READINESS, Health, asked_service


def asked(service: str) -> bytes:
    return health_pb2.HealthCheckRequest(service=service).SerializeToString()


def status(answer: bytes | None) -> str:
    assert answer is not None
    return health_pb2.HealthCheckResponse.ServingStatus.Name(health_pb2.HealthCheckResponse.FromString(answer).status)


@pytest.mark.parametrize("service", READINESS)
def test_readiness(service: str) -> None:
    health = Health()
    assert status(health.status(service)) == "NOT_SERVING"
    health.set_ready(True)
    assert status(health.status(service)) == "SERVING"


def test_liveness() -> None:
    assert status(Health().status("liveness")) == "SERVING"


def test_unknown_service() -> None:
    assert Health().status("else") is None


def test_watchers_are_told_of_changes_only() -> None:
    health = Health()
    seen: list[bool] = []
    health.watchers.add(lambda: seen.append(health.ready))
    for ready in (False, True, True, False):
        health.set_ready(ready)
    assert seen == [True, False]


def test_a_watcher_may_go_while_it_is_told() -> None:
    health = Health()
    seen: list[str] = []

    def watcher() -> None:
        seen.append("told")
        health.watchers.discard(watcher)

    health.watchers.add(watcher)
    health.set_ready(True)
    health.set_ready(False)
    assert seen == ["told"]


def test_request() -> None:
    assert asked_service(asked("readiness")) == "readiness"
    with pytest.raises(ValueError, match="HealthCheckRequest"):
        asked_service(b"\xff")
