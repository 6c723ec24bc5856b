from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from extproc.admin.server import AdminServer
from extproc.errors import bad_request
from extproc.telemetry.decision_log import DecisionLog
from extproc.telemetry.metrics import Metrics


def explain(path: str, body: bytes) -> dict[str, str]:
    if not body:
        raise bad_request("There is nothing to explain.")
    return {"path": path, "body": body.decode()}


class Admin:
    reason = ""
    address = ""


@pytest_asyncio.fixture
async def admin() -> AsyncIterator[Admin]:
    state = Admin()
    server = AdminServer(
        host="127.0.0.1",
        port=0,
        metrics=Metrics(list),
        not_ready=lambda: state.reason,
        pods=lambda: [{"address": "10.0.0.1:80", "in_flight": 1}],
        decisions=DecisionLog(5),
        explain=explain,
    )
    state.address = await server.start()
    yield state
    await server.stop()


async def get(admin: Admin, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{admin.address}{path}") as response:
        return response.status, await response.text()


async def test_pages(admin: Admin) -> None:
    assert await get(admin, "/healthz") == (200, "ok\n")
    assert "infer_gateway_streams 0.0" in (await get(admin, "/metrics"))[1]
    assert await get(admin, "/debug/endpoints") == (
        200, '{"endpoints":[{"address":"10.0.0.1:80","in_flight":1}],"discovery":[]}'
    )  # fmt: skip
    assert await get(admin, "/debug/decisions") == (200, '{"decisions":[]}')
    assert await get(admin, "/debug/decisions?limit=3") == (200, '{"decisions":[]}')
    assert (await get(admin, "/debug/decisions?limit=-1"))[0] == 400


async def test_ready_says_why_not(admin: Admin) -> None:
    assert await get(admin, "/readyz") == (200, "ok\n")
    admin.reason = "draining"
    assert await get(admin, "/readyz") == (503, "draining\n")


async def test_an_address_in_use_is_an_os_error(admin: Admin) -> None:
    host, _, port = admin.address.rpartition(":")
    second = AdminServer(
        host=host,
        port=int(port),
        metrics=Metrics(list),
        not_ready=str,
        pods=list,
        decisions=DecisionLog(0),
        explain=explain,
    )
    with pytest.raises(OSError, match="in use"):
        await second.start()


async def test_ipv6() -> None:
    server = AdminServer(
        host="::1", port=0, metrics=Metrics(list), not_ready=str, pods=list, decisions=DecisionLog(0), explain=explain
    )
    try:
        address = await server.start()
    except OSError:
        return  # no IPv6 here
    assert address.startswith("[::1]:")
    await server.stop()


async def test_explanations(admin: Admin) -> None:
    url = f"http://{admin.address}/debug/explain"
    async with aiohttp.ClientSession() as session:
        async with session.post(url, data=b"{}") as response:
            assert await response.json() == {"path": "/v1/chat/completions", "body": "{}"}
        async with session.post(f"{url}?path=/v1/completions", data=b"{}") as response:
            assert (await response.json())["path"] == "/v1/completions"
        async with session.post(url) as response:
            assert response.status == 400
            assert (await response.json())["error"]["message"] == "There is nothing to explain."
