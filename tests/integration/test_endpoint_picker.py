"""The gateway as the Endpoint Picker of somebody else's Envoy, in the two body modes that such gateways use.

Clause numbers are those of tests/conformance/test_endpoint_picker_protocol.py.
"""

import io
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from support.echo import EchoPod
from support.eventually import eventually
from support.foreign_envoy import CLUSTERS, MODES, echoes, foreign
from support.gateway import CHAT, MODEL, Gateway, configuration, gateway
from support.raw_http import http2
from support.tokens import AUTH, Signer

from extproc.envoy.bootstrap import SIDECAR_HEALTH_CHECK
from modelsim.server import Faults

pytestmark = pytest.mark.integration

NAMESPACE, KEY = "envoy.lb.subset_hint", "x-gateway-destination-endpoint-subset"
#: How a data plane tells the subset, for these tests: as text, from a header; as a list, where another one is there.
SUBSETS: list[Any] = [
    {
        "name": "envoy.filters.http.header_to_metadata",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config",
            "request_rules": [
                {
                    "header": "test-subset",
                    "on_header_present": {"metadata_namespace": NAMESPACE, "key": KEY, "type": "STRING"},
                    "remove": True,
                }
            ],
        },
    }
]


def listed(*entries: object) -> list[Any]:
    """A filter that tells the same list for each request."""
    config = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config",
        "metadata": [{"metadata_namespace": NAMESPACE, "value": {KEY: list(entries)}}],
    }
    return [{"name": "envoy.filters.http.set_metadata", "typed_config": config}]


#: Every pod that may be picked is, sooner or later: one of three is missed by so many requests once in two million times.
RANDOM = "scheduler: {plugins: {Score: {enabled: [{name: random}]}}}\n"
TRIES = 40
TRANSPORTS = {
    "http2": "{dataPlane: foreign, maxEndpoints: 5}",
    "http2 over TLS": "{address: '127.0.0.1:0', tls: {selfSigned: true}, maxEndpoints: 5}",
    "grpc.aio": "{mode: grpcio, maxEndpoints: 5}",
}
SCRAPE = "endpoints: {scrape: {interval: 50ms}}\n"
DOCUMENT = f"transport: {TRANSPORTS['http2']}\n{SCRAPE}"


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture(params=TRANSPORTS)
async def running(request: pytest.FixtureRequest, mode: str, tmp_path: Path) -> AsyncIterator[Gateway]:
    transform = partial(foreign, mode=mode, filters=SUBSETS, tls="TLS" in request.param)
    document = f"transport: {TRANSPORTS[request.param]}\n{SCRAPE}"
    async with gateway(configuration(document, tmp_path), envoy_transform=transform) as one:
        yield one


@pytest_asyncio.fixture
async def at_random(mode: str, tmp_path: Path) -> AsyncIterator[Gateway]:
    transform = partial(foreign, mode=mode, filters=SUBSETS)
    async with gateway(configuration(DOCUMENT + RANDOM, tmp_path), envoy_transform=transform) as one:
        yield one


async def ask(running: Gateway, subset: str | None = None, *, method: str = "POST") -> Any:
    headers = {} if subset is None else {"test-subset": subset}
    if method == "GET":
        return await running.request("GET", "/health", headers=headers)
    return await running.chat(headers=headers)


async def test_p2_to_p4_subset(at_random: Gateway) -> None:
    running = at_random
    pods = dict(zip([one.name for one in running.fleet.replicas], running.fleet.addresses, strict=True))
    for method in ("POST", "GET"):
        for allowed in (["pod-2"], ["pod-1", "pod-3"]):
            subset = ",".join([pods[name] for name in allowed])
            assert {(await ask(running, subset, method=method)).pod for _ in range(TRIES)} == set(allowed)
        for none in (",", "10.0.0.1:80", "127.0.0.1"):
            answer = await ask(running, none, method=method)
            assert (answer.status, answer.error()) == (503, "no_ready_endpoint")
        assert {(await ask(running, method=method)).pod for _ in range(TRIES)} == set(pods)
    await eventually(running.idle)


@pytest.mark.parametrize("tls", [False, True], ids=["plain text", "TLS"])
@pytest.mark.parametrize("cluster", CLUSTERS)
async def test_each_way_in_which_gateways_take_the_pick(mode: str, cluster: str, tls: bool, tmp_path: Path) -> None:
    """One address unless more are asked for: some of these fail a request that comes with a list."""
    transport = f"address: '127.0.0.1:0'{', tls: {selfSigned: true}' * tls}"
    document = f"transport: {{{transport}}}\n{SCRAPE}{RANDOM}"

    def transform(_: list[EchoPod], bootstrap: str) -> str:
        return foreign(bootstrap, mode, cluster=cluster, tls=tls)

    async with echoes(configuration(document, tmp_path), 3, transform) as (pods, stack, client):
        for n in range(TRIES):
            body = {"model": "m", "prompt": "p" * n}
            headers = {"x-gateway-destination-endpoint": "127.0.0.1:1"}
            async with client.post("/v1/completions", json=body, headers=headers) as response:
                assert response.status == 200
        async with client.get("/health") as response:
            assert response.status == 200
        assert all(pod.requests for pod in pods)
        assert sum(pod.requests for pod in pods) == TRIES + 1
        rows = (await stack.debug("/debug/endpoints"))["endpoints"]
        assert {row["address"]: row["served"] for row in rows} == {pod.address: pod.requests for pod in pods}


@pytest.mark.parametrize("cluster", [name for name in CLUSTERS if name.startswith("override_host")])
async def test_a_list_where_lists_are_taken(mode: str, cluster: str, tmp_path: Path) -> None:
    def transform(_: list[EchoPod], bootstrap: str) -> str:
        return foreign(bootstrap, mode, cluster=cluster)

    async with echoes(configuration(DOCUMENT, tmp_path), 3, transform) as (pods, _, client):
        async with client.post("/v1/completions", json={"model": "m", "prompt": "p"}) as response:
            assert response.status == 200
        (served,) = [pod for pod in pods if pod.requests]
        assert sorted(served.headers["x-gateway-destination-endpoint"].split(",")) == sorted(
            pod.address for pod in pods
        )


async def test_p2_subset_as_a_list(mode: str, tmp_path: Path) -> None:
    def transform(pods: list[EchoPod], bootstrap: str) -> str:
        return foreign(bootstrap, mode, filters=listed(1, pods[1].address, None, True, "10.0.0.1:80"))

    async with echoes(configuration(DOCUMENT, tmp_path), 3, transform) as (pods, _, client):
        for _ in range(6):
            async with client.post("/v1/completions", json={"model": "m", "prompt": "p"}) as response:
                assert response.status == 200
        assert [pod.requests for pod in pods] == [0, 6, 0]


async def test_p1_p5_what_need_not_change_does_not(mode: str, tmp_path: Path) -> None:
    config = configuration(DOCUMENT + "listener: {maxBodyBytes: 4Mi, maxUnsizedBodyBytes: 4Mi}\n", tmp_path)
    async with echoes(config, 1, lambda _, bootstrap: foreign(bootstrap, mode)) as ((pod,), stack, client):
        body = b'{"model" : "m", "prompt": "' + "ä\\u00e4 ".encode() * 300_000 + b'"}'
        control = {
            "x-gateway-inference-objective": "critical", "x-llm-d-inference-fairness-id": "me",
            "x-prefiller-host-port": "169.254.169.254:80", "x-gateway-destination-endpoint": "10.0.0.1:1",
        }  # fmt: skip
        for data in (io.BytesIO(body), pieces(body)):
            async with client.post("/v1/completions", data=data, headers={**control, "x-mine": "kept"}) as response:
                assert (response.status, await response.json()) == (200, {"ok": True})
            assert pod.body == body
            assert pod.headers["x-mine"] == "kept"
            assert pod.headers["x-gateway-destination-endpoint"] == pod.address
            assert pod.headers.keys() & control.keys() == {"x-gateway-destination-endpoint"}
        too_large = b'{"model": "m", "prompt": "' + bytes(4 << 20) + b'"}'
        async with client.post("/v1/completions", data=io.BytesIO(too_large)) as response:
            assert response.status == 413
        (row,) = (await stack.debug("/debug/endpoints"))["endpoints"]
        assert row["served"] == pod.requests == 2


async def test_what_clients_may_not_say_goes_no_further_where_the_picker_is_asked_once(tmp_path: Path) -> None:
    """A request of headers and trailers: in BUFFERED mode its headers are all that Envoy shows."""
    signer = Signer()
    auth = AUTH.format(jwks=signer.write(tmp_path)) + "  models: models\n  identityHeaders: {x-user: sub}\n"

    def transform(_: list[EchoPod], bootstrap: str) -> str:
        return foreign(bootstrap, "BUFFERED", guard=False)

    async with echoes(configuration(DOCUMENT + auth, tmp_path), 1, transform) as ((pod,), stack, _):
        fields = [
            (":method", "POST"), (":scheme", "http"), (":path", "/x"), (":authority", "g"),
            ("authorization", f"Bearer {signer.token(models=['m'])}"), ("x-user", "root"), ("x-mine", "kept"),
            ("x-prefiller-host-port", "169.254.169.254:80"), ("x-gateway-destination-endpoint", "10.0.0.1:1"),
        ]  # fmt: skip
        assert (await http2(stack.address, fields, None, [("x-last", "1")])).status == 200
        sent = {name for name, _ in fields}
        assert {name: value for name, value in pod.headers.items() if name in sent} == {
            "x-user": "tester", "x-mine": "kept",
        }  # fmt: skip


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 70_001):
        yield body[start : start + 70_001]


async def test_p6_p10_retries_go_down_the_list_and_who_served_is_known(running: Gateway) -> None:
    prompt = "A prompt that two requests share. " * 20
    first = await running.chat(prompt)
    home = next(n for n, replica in enumerate(running.fleet.replicas) if replica.name == first.pod)
    await eventually(running.idle)
    running.fleet.replicas[home].faults = Faults(error_rate=1, status=503)
    decided = len((await running.stack.debug("/debug/decisions"))["decisions"])
    second = await running.chat(prompt)
    assert second.status == 200
    decisions = (await running.stack.debug("/debug/decisions"))["decisions"]
    assert len(decisions) == decided + 1
    addresses = dict(zip([one.name for one in running.fleet.replicas], running.fleet.addresses, strict=True))
    # The first was tried and failed, the second answered; it is counted there.
    assert decisions[0]["pods"][:2] == [addresses[first.pod], addresses[second.pod]]
    await eventually(running.idle)
    rows = {row["address"]: row for row in (await running.stack.debug("/debug/endpoints"))["endpoints"]}
    assert rows[addresses[second.pod]]["served"] == 1
    assert await running.metric("infer_gateway_fallbacks_total") == 1


async def test_p9_a_request_that_is_dropped(mode: str, tmp_path: Path) -> None:
    filters = "scheduler: {plugins: {Filter: {enabled: [least-request]}}}\n"
    async with echoes(configuration(DOCUMENT + filters, tmp_path), 2, lambda _, text: foreign(text, mode)) as (
        pods,
        stack,
        client,
    ):
        for pod in pods:
            pod.waiting = 1000

        async def full() -> bool:
            rows = (await stack.debug("/debug/endpoints"))["endpoints"]
            return [row["waiting"] for row in rows] == [1000, 1000]

        await eventually(full)
        for method, path in (("POST", "/v1/completions"), ("GET", "/health")):
            body = {"model": "m", "prompt": "p"} if method == "POST" else None
            async with client.request(method, path, json=body) as response:
                assert response.status == 429
                assert (await response.json())["error"]["code"] == "saturated"
                assert "retry-after" in response.headers
        assert [pod.requests for pod in pods] == [0, 0]


async def test_p8_no_ready_endpoint(mode: str, tmp_path: Path) -> None:
    async with echoes(configuration(DOCUMENT, tmp_path), 0, lambda _, text: foreign(text, mode)) as (_, _, client):
        for body in ({"model": "m", "prompt": "p"}, None):
            async with client.request("GET" if body is None else "POST", "/v1/completions", json=body) as response:
                assert response.status == 503
                assert (await response.json())["error"]["code"] == "no_ready_endpoint"


@pytest.mark.parametrize("service", ["liveness", "readiness", "envoy.service.ext_proc.v3.ExternalProcessor"])
async def test_p11_a_gateway_sees_by_its_health_whether_a_picker_is_there(
    mode: str, service: str, tmp_path: Path
) -> None:
    def asking(_pods: list[EchoPod], text: str) -> str:
        document = yaml.safe_load(foreign(text, mode))
        (picker,) = [one for one in document["static_resources"]["clusters"] if one["name"] == "sidecar"]
        picker["health_checks"] = [SIDECAR_HEALTH_CHECK | {"grpc_health_check": {"service_name": service}}]
        return yaml.safe_dump(document)

    async with echoes(configuration(DOCUMENT, tmp_path), 1, asking) as (_, stack, _):

        async def gauge(name: str) -> int:
            (line,) = (await stack.envoy_admin(f"/stats?filter=^cluster.sidecar.{name}$")).splitlines()
            return int(line.rpartition(" ")[2])

        async def seen(successes: int, healthy: int) -> bool:
            return await gauge("health_check.success") >= successes and await gauge("membership_healthy") == healthy

        await eventually(partial(seen, 2, 1))
        assert await gauge("health_check.failure") == 0
        assert stack.sidecar is not None
        await stack.sidecar.stop()
        await eventually(partial(seen, 2, 0))


async def test_p12_without_its_picker_a_pool_that_fails_closed_refuses(running: Gateway) -> None:
    assert (await running.chat()).status == 200
    assert running.stack.sidecar is not None
    await running.stack.sidecar.stop()
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
    answer = await running.request("POST", CHAT, json=body)
    assert answer.status >= 500
