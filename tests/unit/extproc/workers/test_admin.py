"""The admin pages of two processes as one, over real sockets."""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from support.busy import Busy

from extproc import __version__
from extproc.admin.server import AdminServer
from extproc.errors import bad_request
from extproc.workers.admin import SharedAdmin

NAMES = ("0", "1")


def explain(path: str, body: bytes) -> Mapping[str, Any]:
    if not body:
        raise bad_request("There is nothing to explain.")
    return {"path": path, "body": body.decode()}


class Both:
    """Two processes, and what stands in front of them."""

    def __init__(self, folder: Path) -> None:
        self.processes = [Busy(2) for _ in NAMES]
        self.reason = ""
        self.address = ""
        self.servers = [
            AdminServer(
                host="", port=0, metrics=one.metrics, not_ready=str, pods=one.rows, decisions=one.decisions,
                explain=explain, path=str(folder / name),
            )
            for one, name in zip(self.processes, NAMES, strict=True)
        ]  # fmt: skip
        self.shared = self.make(folder, 0)

    def make(self, folder: Path, port: int) -> SharedAdmin:
        return SharedAdmin(
            "127.0.0.1", port, {name: str(folder / name) for name in NAMES},
            runs=lambda: dict.fromkeys(NAMES, "run"), not_ready=lambda: self.reason, restarts=lambda: {"0": 3, "1": 0},
        )  # fmt: skip

    async def get(self, path: str) -> tuple[int, str, str]:
        return await self.ask("GET", path)

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, str, str]:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"http://{self.address}{path}", data=body) as response,
        ):
            return response.status, response.headers["content-type"], await response.text()


@pytest_asyncio.fixture
async def both(tmp_path: Path) -> AsyncIterator[Both]:
    found = Both(tmp_path)
    for server in found.servers:
        await server.start()
    found.address = await found.shared.start()
    yield found
    await found.shared.stop()
    for server in found.servers:
        await server.stop()


async def test_what_is_the_supervisors_own(both: Both) -> None:
    text = "text/plain; charset=utf-8"
    assert await both.get("/healthz") == (200, text, "ok\n")
    assert await both.get("/readyz") == (200, text, "ok\n")
    both.reason = "draining"
    assert await both.get("/readyz") == (503, text, "draining\n")
    status, kind, page = await both.get("/")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert page.startswith("<!doctype html>")
    assert (await both.get("/nowhere"))[0] == 404
    assert (await both.ask("POST", "/healthz"))[0] == 405


async def test_metrics_are_summed(both: Both) -> None:
    for process in both.processes:
        process.request()
    status, kind, page = await both.get("/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4")
    assert "infer_gateway_decision_seconds_count 2.0\n" in page
    assert 'infer_gateway_process_restarts_total{process="0"} 3\n' in page


async def test_pods_and_decisions(both: Both) -> None:
    for number, process in enumerate(both.processes):
        process.request(request_id=f"r-{number}", ends=False)
    status, kind, page = await both.get("/debug/endpoints")
    assert (status, kind) == (200, "application/json")
    assert [row["in_flight"] for row in json.loads(page)["endpoints"]] in ([1, 0], [0, 1])
    status, kind, page = await both.get("/debug/decisions")
    assert (status, kind) == (200, "application/json")
    assert {row["request_id"] for row in json.loads(page)["decisions"]} == {"r-0", "r-1"}
    assert len(json.loads((await both.get("/debug/decisions?limit=1"))[2])["decisions"]) == 1
    assert await both.get("/debug/decisions?limit=x") == (400, "text/plain; charset=utf-8", "limit must be a number\n")


async def test_the_summary_is_of_all(both: Both) -> None:
    for number in range(20):
        pod = both.processes[number % 2].request(request_id=f"r-{number}")
    both.reason = "draining"
    status, kind, page = await both.get("/debug/summary")
    assert (status, kind) == (200, "application/json")
    found = json.loads(page)
    assert found["version"] == __version__
    assert found["not_ready"] == "draining"
    assert 0 <= found["uptime"] <= json.loads((await both.get("/debug/summary"))[2])["uptime"]
    assert found["means"]["decision"]["count"] == 20
    assert len(found["decisions"]) == 12
    assert pod in [row["address"] for row in found["pods"] if row["prefix_match"] is not None]


async def test_one_that_answers_explains(both: Both) -> None:
    told = {"path": "/v1/completions", "body": "{}"}
    for server in both.servers:
        status, kind, page = await both.ask("POST", "/debug/explain?path=/v1/completions", b"{}")
        assert (status, kind, json.loads(page)) == (200, "application/json", told)
        status, _, page = await both.ask("POST", "/debug/explain")
        assert (status, json.loads(page)["error"]["message"]) == (400, "There is nothing to explain.")
        await server.stop()
    assert await both.ask("POST", "/debug/explain") == (503, "text/plain; charset=utf-8", "no process answers\n")
    # And what each knows is not there.
    assert await both.get("/debug/endpoints") == (200, "application/json", '{"endpoints":[],"discovery":[]}')


async def test_an_address_in_use_is_an_os_error(both: Both, tmp_path: Path) -> None:
    second = both.make(tmp_path, int(both.address.rpartition(":")[2]))
    with pytest.raises(OSError, match="in use"):
        await second.start()
    await second.stop()
