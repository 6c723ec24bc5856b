"""Requests through the real Envoy to where the scheduler says."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from support.echo import echo_pod
from support.eventually import eventually
from support.gateway import CHAT, MODEL, Gateway, configuration, gateway

from extproc.demo.stack import Stack

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

LONG_PREFIX = "You are the assistant of a library that lends tools. " * 60


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with gateway(configuration("{}", tmp_path_factory.mktemp("config"))) as one:
        yield one


async def test_unary(running: Gateway) -> None:
    answer = await running.chat(max_tokens=5)
    assert answer.status == 200
    assert answer.pod in {"pod-1", "pod-2", "pod-3"}
    assert answer.json()["usage"]["completion_tokens"] == 5


async def test_streamed(running: Gateway) -> None:
    answer = await running.chat(stream=True, max_tokens=5)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in answer.body.decode().splitlines() if line]
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["usage"]["completion_tokens"] == 5


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 3}),
        ("/v1/embeddings", {"input": ["a", "b"]}),
        ("/v1/responses", {"input": "Hello!", "max_output_tokens": 3}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 3}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello!"}]}], "max_tokens": 3}),
    ],
)
async def test_every_api_is_routed(running: Gateway, path: str, body: dict[str, object]) -> None:
    answer = await running.request("POST", path, json={"model": MODEL, **body})
    assert answer.status == 200, answer.body
    assert answer.pod


async def test_requests_without_a_body_are_routed(running: Gateway) -> None:
    before = await running.metric("infer_gateway_decision_seconds_count")
    answer = await running.request("GET", "/health")
    assert answer.status == 200
    assert await running.metric("infer_gateway_decision_seconds_count") == before + 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_shared_prefix_stays_on_one_pod(running: Gateway, stream: bool) -> None:
    system = f"{stream} {LONG_PREFIX}"
    pods = {(await running.chat(f"Question {n}?", system=system, stream=stream)).pod for n in range(4)}
    assert len(pods) == 1


async def test_a_client_cannot_choose_the_pod(running: Gateway) -> None:
    system = f"spoofed {LONG_PREFIX}"
    home = (await running.chat("first", system=system)).pod
    other = next(
        address
        for address, replica in zip(running.fleet.addresses, running.fleet.replicas, strict=True)
        if replica.name != home
    )
    for name in ("x-gateway-destination-endpoint", "X-Gateway-Destination-Endpoint"):
        answer = await running.chat("again", system=system, headers={name: other})
        assert answer.pod == home


async def test_bytes_pass_untouched_up_to_5_mib(tmp_path: Path) -> None:
    # Spacing, order, duplicate keys, odd numbers and unknown fields: the model server sees what the client sent.
    text = (
        '{ "model" : "m",\n\t"messages":[{"role":"user","content":"\\u00e9\\ud83d\\ude00"}], "max_tokens":1,'
        ' "seed":123456789012345678901234567890, "zz":1.10, "model":"m", "long":"LONG"}'
    )
    async with echo_pod() as pod, Stack(configuration("{}", tmp_path), [pod.address]) as stack:
        for long in ("", "x" * (5 << 20)):
            body = text.replace("LONG", long).encode()
            async with (
                aiohttp.ClientSession() as client,
                client.post(
                    f"http://{stack.address}{CHAT}", data=io.BytesIO(body), headers={"x-kept": "1"}
                ) as response,
            ):
                assert response.status == 200
            assert pod.body == body
            assert pod.headers["x-kept"] == "1"
            assert pod.headers["x-gateway-destination-endpoint"] == pod.address


async def test_what_is_too_large_is_413(running: Gateway) -> None:
    answer = await running.request(
        "POST", CHAT, data=io.BytesIO(b'{"model":"' + b"x" * (20 << 20)), headers={"content-type": "application/json"}
    )
    assert answer.status == 413
    assert answer.error() == "request_too_large"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"model": "m", "messages": [', 400),
        (b"not json", 400),
        (b"[1, 2]", 400),
        (b'{"messages": []}', 400),
        (b'{"model": ""}', 400),
        (b'{"model": 3}', 400),
        (b'{"model": null}', 400),
        (b'{"model": "m", "stream": "yes"}', 400),
        (b'{"model": "\xff\xfe"}', 400),
        (b"[" * 100_000 + b"]" * 100_000, 400),
        (b'{"model": "m", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else str(value),
)
async def test_bad_bodies_are_told_so_and_disturb_nobody(running: Gateway, body: bytes, code: int) -> None:
    answer = await running.request("POST", CHAT, data=body, headers={"content-type": "application/json"})
    assert answer.status == code
    assert answer.error()
    assert (await running.chat()).status == 200


async def test_nothing_stays_in_flight(running: Gateway) -> None:
    await asyncio.gather(*[running.chat(f"{n}", stream=n % 2 == 0) for n in range(30)])

    await eventually(running.idle)


async def test_1300_streams_at_once_all_answer(running: Gateway) -> None:
    """More than the 1 024 requests that Envoy allows a cluster by default."""
    answers = await asyncio.gather(*[running.chat(f"{n}", stream=True, max_tokens=8) for n in range(1300)])
    assert {answer.status for answer in answers} == {200}
    assert all(answer.body.rstrip().endswith(b"data: [DONE]") for answer in answers)


async def test_the_admin_pages(running: Gateway) -> None:
    admin = f"http://{running.stack.admin}"
    for _ in range(3):
        await running.chat()
    assert (await running.request("GET", f"{admin}/healthz")).status == 200
    assert (await running.request("GET", f"{admin}/readyz")).status == 200
    page = (await running.request("GET", f"{admin}/metrics")).body.decode()
    for name in (
        "requests_total",
        "decision_seconds_count",
        "plugin_seconds_count",
        "pods_ready",
        "prefix_match_ratio",
    ):
        assert f"infer_gateway_{name}" in page
    rows = (await running.stack.debug("/debug/endpoints"))["endpoints"]
    assert sorted(row["address"] for row in rows) == sorted(running.fleet.addresses)
    decisions = (await running.stack.debug("/debug/decisions?limit=3"))["decisions"]
    assert len(decisions) == 3
    assert set(decisions[0]["candidates"][0]["scores"]) == {"least-cost"}


async def test_envoy_warns_of_nothing_but_unstable_extensions(running: Gateway) -> None:
    envoy = running.stack.envoy
    assert envoy is not None
    assert [line for line in envoy.log if "work-in-progress" not in line] == []
