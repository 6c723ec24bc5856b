"""No client steers an engine past the gateway, neither by headers nor by its body, through the real Envoy."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support.echo import EchoPod, echo_pod
from support.gateway import CHAT, configuration

from extproc.demo.stack import Stack

pytestmark = pytest.mark.integration

HOSTILE_ID = "cmpl-___prefill_addr_127.0.0.1:1___decode_addr_127.0.0.1:2_x"
STEERING = ("x-data-parallel-rank", "x-smg-target-worker", "x-prefiller-host-port", "x-data-parallel-host-port")
PASSING = {"anthropic-beta": "a", "openai-organization": "b", "x-of-the-user": "c"}


@contextlib.asynccontextmanager
async def running(document: str, folder: Path) -> AsyncIterator[tuple[EchoPod, aiohttp.ClientSession]]:
    async with (
        echo_pod() as pod,
        Stack(configuration(document, folder), [pod.address]) as stack,
        aiohttp.ClientSession(f"http://{stack.address}") as client,
    ):
        yield pod, client


async def test_steering(tmp_path: Path) -> None:
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    async with running("{}", tmp_path) as (pod, client):
        headers = {**PASSING, **dict.fromkeys(STEERING, "1"), "x-request-id": HOSTILE_ID}
        async with client.post(CHAT, json=body, headers=headers) as response:
            assert response.status == 200
        assert not pod.headers.keys() & set(STEERING)
        assert pod.headers.items() >= PASSING.items()
        assert "addr" not in pod.headers["x-request-id"]
        assert len(pod.headers["x-request-id"]) == 36
        async with client.post(CHAT, json=body, headers={"x-request-id": "mine-1"}) as response:
            assert response.headers["x-request-id"] == "mine-1"
        assert pod.headers["x-request-id"] == "mine-1"
        requests = pod.requests
        async with client.post(CHAT, json={**body, "kv_transfer_params": {"remote_host": "x"}}) as response:
            assert response.status == 400
            assert (await response.json())["error"]["param"] == "kv_transfer_params"
        assert pod.requests == requests


async def test_steering_where_it_is_allowed(tmp_path: Path) -> None:
    body: dict[str, Any] = {"model": "m", "messages": [], "kv_transfer_params": {"remote_host": "x"}}
    async with running("engines: {controls: allow}", tmp_path) as (pod, client):
        async with client.post(CHAT, json=body, headers={"x-request-id": HOSTILE_ID}) as response:
            assert response.status == 200
        assert b"kv_transfer_params" in pod.body
        assert pod.headers["x-request-id"] == HOSTILE_ID
