from copy import deepcopy
from math import isnan
from typing import Any

import pytest
from support.busy import Busy

from extproc.admin.top.frame import frame


@pytest.fixture
def gateway() -> Busy:
    return Busy(pods=2)


async def test_rates_are_of_the_interval(gateway: Busy) -> None:
    gateway.request()
    gateway.request(status=500)
    before = await gateway.summary()
    served = [gateway.request() for _ in range(6)]
    gateway.request(status=503)
    gateway.metrics.refused(401, "no_token")
    gateway.metrics.scrape_failed("timeout")
    now = await gateway.summary()
    found = frame(before, now, 2.0)
    assert found.outcomes == {"200": 3.0, "500": 0.0, "503": 0.5}
    assert found.refusals == {"401 no_token": 0.5}
    assert found.requests == 4.0
    assert found.tokens == {"prompt": 750.0, "cached": 150.0, "completion": 33.0}
    assert found.counts["scrape_failures"] == 1
    assert found.counts["retries"] == 0
    assert found.means["ttft"] == pytest.approx(0.2)
    assert sum(pod.share for pod in found.pods) == pytest.approx(1.0)
    assert all(pod.share >= served.count(pod.row["address"]) / 7 for pod in found.pods)


async def test_the_first_frame_knows_no_rates(gateway: Busy) -> None:
    gateway.request()
    found = frame(None, await gateway.summary(), 1.0)
    assert isnan(found.requests)
    assert all(isnan(pod.share) for pod in found.pods)
    assert found.means["ttft"] == pytest.approx(0.2)  # since the start
    assert isnan(frame(None, await Busy(0).summary(), 1.0).means["ttft"])


async def test_a_sidecar_that_began_anew_has_no_before(gateway: Busy) -> None:
    for _ in range(5):
        gateway.request()
    before = await gateway.summary() | {"uptime": 100.0}
    anew = Busy(pods=2)
    anew.request()
    assert isnan(frame(before, await anew.summary(), 1.0).requests)


async def test_counts_that_fell_are_no_negative_rates(gateway: Busy) -> None:
    gateway.request()
    before: Any = await gateway.summary()
    now = deepcopy(before)
    for row in (*before["pods"], *before["requests"]):
        row["served" if "served" in row else "count"] += 10
    found = frame(before, now, 1.0)
    assert found.requests == 0
    assert all(isnan(pod.share) for pod in found.pods)


async def test_a_pod_that_came_in_between_began_at_nothing(gateway: Busy) -> None:
    before = await gateway.summary()
    gateway.set_pods(3)
    assert len(frame(before, await gateway.summary(), 1.0).pods) == 3


async def test_worries(gateway: Busy) -> None:
    gateway.set_pods(4)
    addresses = [row["address"] for row in gateway.rows()]
    gateway.store.observe_failure(addresses[1], 100.0, "connection refused")
    for _ in range(10):
        gateway.store.observe_failure_of_request(addresses[2], 100.0)
    pods = gateway.store.snapshot(100.0).pods
    gateway.store.acquire(pods[3], 1, 100.0)
    gateway.store.set_pods(pods[:3], 100.0)
    found = frame(None, await gateway.summary(), 1.0)
    assert [pod.worry for pod in found.pods] == ["", "no metrics: connection refused", "resting", "leaving"]
    assert found.in_flight == 1
