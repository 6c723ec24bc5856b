"""The Endpoint Picker Protocol v1.0.0, clause by clause, with grpcio's client as the data plane.

Each test quotes its clause (gateway-api-inference-extension, docs/proposals/004-endpoint-picker-protocol) and bears its
number. The same clauses through the real Envoy: tests/integration/test_endpoint_picker.py.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from support.eventually import PATIENCE
from support.picker import BODY, HEADERS, MODES, SERVERS, Picker, Said, picker, transport

from extproc.protocol.events import BodyMode
from extproc.protocol.session import MAX_CHUNK

FULL_DUPLEX = BodyMode.FULL_DUPLEX_STREAMED
BOTH = pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
#: A body, and a request of headers alone: both are scheduled.
FORMS = pytest.mark.parametrize("body", [BODY, None], ids=["body", "headers"])
LARGE = BODY[:-1] + b', "x": "' + b"0123456789" * 20_000 + b'"}'


@pytest_asyncio.fixture(params=SERVERS)
async def running(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Picker]:
    async with picker(tmp_path, transport(request.param)) as one:
        yield one


def refused(said: Said, status: int, code: str) -> None:
    """An ImmediateResponse, and nothing that could be taken for a decision."""
    assert said.status == status
    assert said.kinds.count("immediate_response") == 1
    assert said.kinds[-1] == "immediate_response"
    assert said.metadata == {}
    assert said.set_headers == {}
    assert said.chunks == []
    assert f'"{code}"'.encode() in said.refusal.body


# P1


@BOTH
async def test_p1_external_processing(running: Picker, mode: BodyMode) -> None:
    """P1: "The EPP MUST implement the Envoy external processing service protocol.".

    Only what changes is changed: one header is set, none is taken away, and no other is repeated.
    """
    said = await running.ask(mode)
    assert list(said.set_headers) == ["x-gateway-destination-endpoint"]
    assert said.removed == []
    if mode is FULL_DUPLEX:
        assert said.kinds == ["request_headers", "request_body"]
        assert (said.body, said.ends) == (BODY, 1)
    else:
        assert said.kinds == ["request_headers", "request_body"]
        assert said.chunks == []


async def test_p1_full_duplex_request(running: Picker) -> None:
    """P1: "The EPP MUST support streaming mode for inference requests and responses." - the request.

    Nothing is said before the decision, which is at the end of the body; then headers, then the body in its order.
    """
    call = running.open(FULL_DUPLEX)
    await call.headers()
    for start in range(0, len(LARGE), 30_001):
        await call.body(LARGE[start : start + 30_001], end=False)
    first = asyncio.ensure_future(call.read())
    # A whole other request passes meanwhile.
    assert (await running.ask(FULL_DUPLEX)).pods
    assert not first.done()
    await call.body(b"", end=True)
    said = Said([await first])
    assert said.pods
    rest = await call.decision()
    assert rest.body == LARGE
    assert rest.ends == 1
    assert max(map(len, rest.chunks)) <= MAX_CHUNK == 62_000
    assert rest.kinds == ["request_body"] * len(rest.chunks)
    await call.call.done_writing()
    assert await call.call.read() is grpc.aio.EOF


async def test_p1_full_duplex_trailers(running: Picker) -> None:
    """P1, as before: a body that ends with trailers has no other end."""
    call = running.open(FULL_DUPLEX)
    await call.headers()
    await call.body(LARGE, end=False)
    await call.trailers()
    said = await call.decision()
    assert said.pods
    assert (said.body, said.ends) == (LARGE, 0)
    assert (said.kinds[0], said.kinds[-1]) == ("request_headers", "request_trailers")
    await call.end()


async def test_p1_full_duplex_response(running: Picker) -> None:
    """P1, "… allowing real-time token-by-token response delivery": each chunk goes on as it comes."""
    call = running.open(FULL_DUPLEX)
    await call.headers()
    await call.body(BODY)
    assert (await call.decision()).pods
    headers = await call.response_headers()
    assert headers.WhichOneof("response") == "response_headers"
    assert not headers.response_headers.response.header_mutation.set_headers
    for chunk, end in ((b"data: 1\n\n", False), (b"", False), (LARGE, False), (b"data: [DONE]\n\n", True)):
        replies = await call.response_body(chunk, end=end)
        streamed = [reply.response_body.response.body_mutation.streamed_response for reply in replies]
        assert b"".join([one.body for one in streamed]) == chunk
        assert [one.end_of_stream for one in streamed] == [False] * (len(streamed) - 1) + [end]
        assert all(len(one.body) <= MAX_CHUNK for one in streamed)
    await call.end()


# P2-P4


@BOTH
@FORMS
@pytest.mark.parametrize("form", ["list", "text", "with other things"])
async def test_p2_subset(running: Picker, mode: BodyMode, body: bytes | None, form: str) -> None:
    """P2: "If the key `x-gateway-destination-endpoint-subset` is set, the EPP MUST only select endpoints from the specified list.".

    All pods here have one IP: endpoints are compared as `ip:port`.
    """
    for allowed in ({0}, {1, 2}):
        pods = {running.pods.addresses[index] for index in allowed}
        subset: Any = [*sorted(pods), "10.255.0.1:8000"]
        if form == "text":
            subset = " , ".join(subset)
        elif form == "with other things":
            subset += [5, None, True, ["127.0.0.1"], {"a": "b"}, ""]
        for _ in range(4):
            assert set((await running.ask(mode, body=body, subset=subset)).pods) == pods


@BOTH
async def test_p2_subset_with_the_body(running: Picker, mode: BodyMode) -> None:
    """P2, where the data plane tells it (again) with a later message of the request: the last word counts."""
    first, second, _ = running.pods.addresses
    assert (await running.ask(mode, subset_with_body=[second])).pods == [second]
    assert (await running.ask(mode, subset=[first], subset_with_body=[second])).pods == [second]
    refused(await running.ask(mode, subset=[first], subset_with_body=[]), 503, "no_ready_endpoint")


@BOTH
@FORMS
@pytest.mark.parametrize("subset", [[], "", " , ", ["10.0.0.1:80"], ["127.0.0.1"], [1, None], 7])
async def test_p3_subset_without_an_eligible_endpoint(
    running: Picker, mode: BodyMode, body: bytes | None, subset: object
) -> None:
    """P3: "If none of the endpoints in the list is eligible or the list is empty, then the EPP MUST return a ImmediateResponse with 503".

    An IP without its port is no endpoint, and of what is no text there is none either.
    """
    refused(await running.ask(mode, body=body, subset=subset), 503, "no_ready_endpoint")


@BOTH
@FORMS
async def test_p4_no_subset(running: Picker, mode: BodyMode, body: bytes | None) -> None:
    """P4: "If the key … is not set, then the EPP MUST select from the set defined by the `InferencePool` selector."."""
    said = await running.ask(mode, body=body)
    assert sorted(said.pods) == sorted(running.pods.addresses)


# P5-P7


@BOTH
@FORMS
async def test_p5_header_and_metadata(running: Picker, mode: BodyMode, body: bytes | None) -> None:
    """P5: "The EPP MUST not set two different values in the header and the inner response metadata value."."""
    headers = [*HEADERS, ("x-gateway-destination-endpoint", "10.0.0.1:1")]
    said = await running.ask(mode, body=body, headers=headers)
    value = said.set_headers["x-gateway-destination-endpoint"]
    assert said.metadata == {"x-gateway-destination-endpoint": value}
    # Both in one message: a data plane never sees the one without the other.
    (decided,) = [reply for reply in said.replies if "envoy.lb" in reply.dynamic_metadata.fields]
    assert "x-gateway-destination-endpoint" in str(getattr(decided, decided.WhichOneof("response")))
    assert "10.0.0.1" not in said.destination


@BOTH
@FORMS
@pytest.mark.parametrize("pods", [1, 6])
async def test_p6_list_of_endpoints(tmp_path: Path, mode: BodyMode, body: bytes | None, pods: int) -> None:
    """P6: "The value … MUST contain at least one endpoint in `<ip:port>` format or multiple endpoints in `<ip:port>,<ip:port>,...` format."."""
    async with picker(tmp_path, pods=pods) as running:
        said = await running.ask(mode, body=body)
        assert re.fullmatch(r"[0-9.]+:[0-9]+(,[0-9.]+:[0-9]+)*", said.destination)
        assert len(said.pods) == len(set(said.pods)) == min(pods, 5)
        assert set(said.pods) <= set(running.pods.addresses)


@BOTH
@FORMS
async def test_p6_one_endpoint_unless_more_are_asked_for(tmp_path: Path, mode: BodyMode, body: bytes | None) -> None:
    """P6: some data planes read one address, and fail a request whose header holds a list."""
    async with picker(tmp_path, "transport: {address: '127.0.0.1:0', drainTimeout: 0s}\n") as running:
        said = await running.ask(mode, body=body)
        assert len(said.pods) == 1
        assert said.destination in running.pods.addresses


@BOTH
async def test_p6_the_first_is_the_pick(running: Picker, mode: BodyMode) -> None:
    """P6: "The first valid endpoint in the list will be used. If retry is configured, the proxy will go sequentially down the list": in order of worth."""
    calls = []
    for expected in (1, 2, 3):
        call = running.open(mode)
        await call.headers()
        await call.body(BODY.replace(b"Hello!", b"%d" % expected))
        pods = (await call.decision()).pods
        rows = await running.rows()
        assert rows[pods[0]]["in_flight"] == 1
        assert sum(row["in_flight"] for row in rows.values()) == expected
        # Those that have nothing to do come before those that have.
        assert [rows[pod]["in_flight"] for pod in pods[1:]] == sorted(rows[pod]["in_flight"] for pod in pods[1:])
        calls.append(call)
    for call in calls:
        await call.end()
    await running.until(in_flight=0)


@BOTH
async def test_p7_list_is_of_one_pool(tmp_path: Path, mode: BodyMode) -> None:
    """P7 (data plane): retries go down the list on the same backend; another pool's EPP is asked anew, and the old list never used.

    So a request that comes from another pool's picker is decided afresh, whatever it carries.
    """
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with picker(tmp_path / "a") as one, picker(tmp_path / "b") as other:
        before = await other.ask(mode)
        carried = [*HEADERS, *before.set_headers.items(), ("x-gateway-destination-endpoint-subset", before.destination)]
        said = await one.ask(mode, headers=carried)
        assert set(said.pods) == set(one.pods.addresses)
        assert set(before.pods) == set(other.pods.addresses)
        # Where headers are answered before the decision, the old list is taken out with them.
        first = ["x-gateway-destination-endpoint"] if mode is BodyMode.BUFFERED else []
        assert said.removed == ["x-gateway-destination-endpoint-subset", *first]


# P8-P9


@BOTH
@FORMS
async def test_p8_no_ready_endpoint(tmp_path: Path, mode: BodyMode, body: bytes | None) -> None:
    """P8: "ImmediateResponse with 503 (Service Unavailable) HTTP status code if there are no ready endpoints."."""
    async with picker(tmp_path, pods=0) as running:
        refused(await running.ask(mode, body=body), 503, "no_ready_endpoint")


@BOTH
@FORMS
async def test_p9_request_that_is_dropped(tmp_path: Path, mode: BodyMode, body: bytes | None) -> None:
    """P9: "ImmediateResponse with 429 (Too Many Requests) HTTP status code if the request should be dropped (e.g., a Sheddable request, and the servers under heavy load)."."""
    async with picker(tmp_path, "objectives: {priorities: {batch: -1, urgent: 5}}\n") as running:
        asked = [(name, [*HEADERS, ("x-gateway-inference-objective", name)]) for name in ("batch", "urgent", "other")]
        for _, headers in asked:
            assert (await running.ask(mode, body=body, headers=headers)).destination
        await running.until(in_flight=0)
        running.pods.waiting = 1000
        await running.until(waiting=3000)
        for name, headers in asked:
            said = await running.ask(mode, body=body, headers=headers)
            if name == "batch":
                refused(said, 429, "saturated")
            else:
                assert said.destination
        # Nothing that was refused is counted.
        await running.until(in_flight=0, served=5)


@BOTH
@FORMS
async def test_p9_filters_that_are_asked_for_drop_requests(tmp_path: Path, mode: BodyMode, body: bytes | None) -> None:
    """P9: what should be dropped is the configuration's to say."""
    document = "scheduler: {plugins: {Filter: {enabled: [least-request]}}}\n"
    async with picker(tmp_path, document) as running:
        running.pods.waiting = 1000
        await running.until(waiting=3000)
        refused(await running.ask(mode, body=body), 429, "saturated")
        await running.until(in_flight=0, served=0)


@pytest.mark.parametrize("phase", ["headers", "body", "trailers"])
@BOTH
async def test_p3_p8_p9_refusals_come_in_any_phase(running: Picker, mode: BodyMode, phase: str) -> None:
    """P3, P8, P9: an ImmediateResponse is good in whichever phase the request is when its fate is known."""
    call = running.open(mode)
    await call.headers(end=phase == "headers", subset=[])
    if phase == "body":
        await call.body(BODY, end=True)
    elif phase == "trailers":
        if mode is FULL_DUPLEX:
            await call.body(BODY, end=False)
        await call.trailers()
    said = await call.decision()
    refused(said, 503, "no_ready_endpoint")
    await call.end()


# P10


@BOTH
@pytest.mark.parametrize("phase", ["headers", "trailers"])
async def test_p10_endpoint_served(running: Picker, mode: BodyMode, phase: str) -> None:
    """P10: "For each HTTP response, the data plane MUST communicate to the EPP the endpoint that served the request": it is believed, and counts."""
    call = running.open(mode)
    await call.headers()
    await call.body(BODY)
    picked, served, _ = (await call.decision()).pods
    assert (await running.rows())[picked]["served"] == 1
    if phase == "headers":
        await call.response_headers(served)
        await call.response_body(b'{"usage": {"prompt_tokens": 1, "completion_tokens": 1}}', end=True)
    else:
        await call.response_headers()
        await call.response_body(b"{}", end=False)
        await call.response_trailers(served)
    await call.end()
    await running.until(in_flight=0)
    rows = await running.rows()
    assert (rows[picked]["served"], rows[served]["served"]) == (0, 1)


# P11


@pytest.mark.parametrize("service", ["readiness", "envoy.service.ext_proc.v3.ExternalProcessor", ""])
async def test_p11_readiness(tmp_path: Path, service: str) -> None:
    """P11: `readiness` "Returns `NOT_SERVING` if the datastore has not synced", the ext_proc service "same criteria as readiness check"."""
    source = tmp_path / "pods.yaml"
    document = f"endpoints: {{file: {{path: {source}, interval: 100ms}}, scrape: {{interval: 20ms}}}}\n"
    async with picker(tmp_path, document, pods=1, ready=False, first_sync_wait=0) as running:
        assert await running.health(service) == "NOT_SERVING"
        statuses = running.watch(service)
        assert await anext(statuses) == "NOT_SERVING"
        source.write_text(f"[{running.pods.addresses[0]!r}]")
        assert await anext(statuses) == "SERVING"
        assert await running.health(service) == "SERVING"
        async with asyncio.timeout(PATIENCE):
            await running.gateway.stop()
        await statuses.aclose()


async def test_p11_liveness(tmp_path: Path) -> None:
    """P11: `liveness` "Returns `SERVING` if the EPP process can respond to gRPC requests. This check does not depend on datastore sync status"."""
    document = f"endpoints: {{file: {{path: {tmp_path}/none.yaml}}}}\n"
    async with picker(tmp_path, document, pods=0, ready=False, first_sync_wait=0) as running:
        assert await running.health("liveness") == "SERVING"
        assert await running.health("readiness") == "NOT_SERVING"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running.health("something else")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


# P12


@BOTH
async def test_p12_failures_are_errors(running: Picker, mode: BodyMode) -> None:
    """P12: `failureMode` decides what becomes of a request whose picker fails: so a failure must be told as one.

    A stream that ends well without a decision would be let through, whatever the pool says.
    """
    call = running.open(mode)
    await call.headers()
    if mode is BodyMode.BUFFERED:
        await call.read()
    illegal = running.open(mode)
    await illegal.body(BODY)
    assert await illegal.code() is grpc.StatusCode.INVALID_ARGUMENT
    # The first one is not disturbed, until the picker goes away in the middle of it.
    async with asyncio.timeout(PATIENCE):
        await running.gateway.stop()
        assert await call.code() not in (grpc.StatusCode.OK, grpc.StatusCode.DEADLINE_EXCEEDED)


# Control headers


@BOTH
async def test_control_headers_go_no_further(running: Picker, mode: BodyMode) -> None:
    """What the reference takes from requests means nothing here, and is taken out where it was, and only there."""
    control = {
        "x-gateway-inference-fairness-id", "x-llm-d-inference-fairness-id", "x-gateway-inference-objective",
        "x-llm-d-inference-objective", "x-gateway-model-name-rewrite", "x-llm-d-model-name-rewrite",
        "x-prefiller-host-port",
    }  # fmt: skip
    said = await running.ask(mode, headers=[*HEADERS, *((name, "1") for name in sorted(control))])
    assert set(said.removed) == control
    assert len(said.removed) == len(control)
    assert list(said.set_headers) == ["x-gateway-destination-endpoint"]
