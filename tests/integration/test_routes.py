"""Several pools behind the real Envoy: by model, by adapter, by weight, and under another name."""

import asyncio
import contextlib
import io
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from support import foreign_envoy
from support.echo import EchoPod, echo_pod
from support.eventually import PATIENCE, eventually
from support.gateway import CHAT, MODEL, Answer, Gateway, configuration
from support.tokens import AUTH, Signer

from extproc.config import dump
from extproc.config.sections.routing import TargetConfig
from extproc.demo.stack import Stack
from modelsim.server import EngineConfig, Profile, ReplicaConfig, serve

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

ROUTES = """
pools:
  large: {{static: ["{large}"]}}
  small: {{static: ["{small}"]}}
  new: {{static: ["{new}"]}}
  empty: {{}}
routes:
- model: large-model
  adapters: [sql]
  targets: [{{pool: large, model: org/large-70b}}]
- models: [small-model, tiny]
  targets: [{{pool: small, weight: 90, model: small-v1}}, {{pool: new, weight: 10, model: small-v2}}]
- model: gone
  targets: [{{pool: empty}}]
- model: half-gone
  targets: [{{pool: empty, weight: 1000000}}, {{pool: small, weight: 1}}]
"""


class World:
    """A gateway and its pods by the names of their pools."""

    def __init__(self, stack: Stack, pods: dict[str, EchoPod], client: aiohttp.ClientSession) -> None:
        self.stack, self.pods, self.client = stack, pods, client

    async def send(self, body: bytes, path: str = CHAT, **headers: str) -> Answer:
        headers = {"content-type": "application/json"} | headers
        data = io.BytesIO(body)
        async with self.client.post(f"http://{self.stack.address}{path}", data=data, headers=headers) as response:
            return Answer(response.status, response.headers, await response.read())

    async def chat(self, model: str, **headers: str) -> Answer:
        return await self.send(json.dumps({"messages": [], "model": model}).encode(), **headers)

    def counts(self) -> Counter[str]:
        return Counter({name: pod.requests for name, pod in self.pods.items()})

    async def explain(self, body: dict[str, Any]) -> tuple[int, Any]:
        async with self.client.post(f"http://{self.stack.admin}/debug/explain", json=body) as response:
            return response.status, await response.json()


def full_duplex(bootstrap: str) -> str:
    duplex = "request_body_mode: FULL_DUPLEX_STREAMED"
    text = bootstrap.replace("request_body_mode: BUFFERED", duplex, 1)
    return text.replace("request_trailer_mode: SKIP", "request_trailer_mode: SEND", 1)


@contextlib.asynccontextmanager
async def routed(folder: Path, more: str = "", **options: Any) -> AsyncIterator[World]:
    async with echo_pod() as large, echo_pod() as small, echo_pod() as new, aiohttp.ClientSession() as client:
        pods = {"large": large, "small": small, "new": new}
        document = ROUTES.format(**{name: pod.address for name, pod in pods.items()}) + more
        async with Stack(configuration(document, folder), None, **options) as stack:
            yield World(stack, pods, client)


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=["buffered", "full duplex", "grpc.aio", "grpc.aio, full duplex"]
)
async def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    more = "transport: {mode: grpcio}\n" if "grpc.aio" in request.param else ""
    options = {"envoy_transform": full_duplex} if "full duplex" in request.param else {}
    async with routed(tmp_path_factory.mktemp("config"), more, **options) as one:
        yield one


async def test_a_model_goes_to_its_pool_under_its_name_there(world: World) -> None:
    # Spacing, escapes, members of that name elsewhere, odd numbers: all but the name is as it was.
    sent = (
        b'{ "messages":[{"role":"user","content":"\\u00e9 \\"model\\":\\"large-model\\""}],\n\t"mod\\u0065l" : "large-model",'
        b' "seed":123456789012345678901234567890, "tool":{"model":"large-model"} }'
    )
    answer = await world.send(sent)
    assert answer.status == 200
    pod = world.pods["large"]
    assert pod.body == sent.replace(b' : "large-model"', b' : "org/large-70b"')
    assert pod.headers.get("content-length", str(len(pod.body))) == str(len(pod.body))


async def test_large_bodies_are_rewritten_as_well(world: World) -> None:
    text = b'{"model":"large-model","x":"%s"}' % (b"y" * (3 << 20))
    assert (await world.send(text)).status == 200
    assert world.pods["large"].body == text.replace(b"large-model", b"org/large-70b")


async def test_an_adapter_goes_to_its_pool_as_it_is(world: World) -> None:
    assert (await world.chat("sql")).status == 200
    assert world.pods["large"].body == b'{"messages": [], "model": "sql"}'


async def test_weights_share_out(world: World) -> None:
    before = world.counts()
    answers = await asyncio.gather(*[world.chat(("small-model", "tiny")[n % 2]) for n in range(300)])
    assert {answer.status for answer in answers} == {200}
    more = world.counts() - before
    assert more["small"] + more["new"] == 300
    assert 8 <= more["new"] <= 60  # 30 are expected; beyond is a matter of one in millions
    assert world.pods["small"].body == b'{"messages": [], "model": "small-v1"}'
    assert world.pods["new"].body == b'{"messages": [], "model": "small-v2"}'


async def test_an_unknown_model_is_a_404(world: World) -> None:
    before = world.counts()
    answer = await world.chat("nobody's")
    assert (answer.status, answer.error()) == (404, "model_not_found")
    assert answer.json()["error"]["message"].startswith("The model 'nobody's' does not exist")
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert world.counts() == before


async def test_an_empty_pool_is_passed_over(world: World) -> None:
    assert (await world.chat("half-gone")).status == 200
    answer = await world.chat("gone")
    assert (answer.status, answer.error()) == (503, "no_ready_endpoint")


async def test_requests_without_a_model_go_to_the_first_targets_pool(world: World) -> None:
    before = world.counts()
    async with world.client.get(f"http://{world.stack.address}/v1/files") as response:
        assert response.status == 200
    assert world.counts() - before == Counter(large=1)


async def test_what_is_told_of_it(world: World) -> None:
    assert (await world.chat("large-model", **{"x-request-id": "told"})).status == 200
    rows = (await world.stack.debug("/debug/decisions"))["decisions"]
    (row,) = [row for row in rows if row["request_id"] == "told"]
    assert (row["model"], row["pool"], row["rewritten_model"]) == ("large-model", "large", "org/large-70b")
    pools = {row["name"]: row["pool"] for row in (await world.stack.debug("/debug/endpoints"))["endpoints"]}
    assert pools == {pod.address: name for name, pod in world.pods.items()}

    async def counted() -> bool:
        async with world.client.get(f"http://{world.stack.admin}/metrics") as response:
            page = await response.text()
        assert 'infer_gateway_pool_pods_ready{pool="small"} 1.0' in page
        assert 'infer_gateway_pool_pods_ready{pool="empty"} 0.0' in page
        assert "org/large-70b" not in page
        return 'infer_gateway_requests_total{model="large-model"' in page

    await eventually(counted)


async def test_explain_follows_the_routes(world: World) -> None:
    status, row = await world.explain({"model": "large-model", "messages": []})
    assert (status, row["pool"], row["rewritten_model"]) == (200, "large", "org/large-70b")
    status, row = await world.explain({"model": "other", "messages": []})
    assert (status, row["error"]["code"]) == (404, "model_not_found")


async def test_a_pool_that_dies_is_not_replaced_by_another(tmp_path: Path) -> None:
    """Retries that run out of pods, and pods that Envoy does not know yet, do not end at another pool's."""
    async with routed(tmp_path) as world:
        assert (await world.chat("large-model")).status == 200
        before = world.counts()
        # Nothing listens there any more; the sidecar goes on to pick it.
        dead = world.stack.config.pools["large"].static[0].address
        await world.pods["large"].close()
        for _ in range(5):
            answer = await world.chat("large-model")
            assert (answer.status, answer.error()) == (503, "upstream_unavailable"), dead
        assert world.counts() == before


async def test_the_only_pod_of_a_pool_is_tried_again(tmp_path: Path) -> None:
    """Envoy's own choice, when the sidecar's list is at its end, is among the pool's pods."""
    async with routed(tmp_path) as world:
        pod, before = world.pods["large"], world.counts()
        for _ in range(5):
            pod.resets = 1
            assert (await world.chat("large-model")).status == 200
        assert world.counts() - before == Counter(large=10)


async def test_nothing_goes_to_a_wrong_pool_while_the_sidecar_is_away(tmp_path: Path) -> None:
    async with routed(tmp_path) as world:
        assert world.stack.sidecar is not None
        world.stack.sidecar.process.kill()
        await world.stack.sidecar.process.wait()
        before = world.counts()
        for _ in range(5):
            answer = await world.chat("large-model")
            assert (answer.status, answer.error()) == (503, "gateway_unavailable")
        assert world.counts() == before


async def test_tokens_are_for_the_names_that_clients_use(tmp_path: Path) -> None:
    signer = Signer()
    auth = AUTH.format(jwks=signer.write(tmp_path)) + "  models: models\n"
    async with routed(tmp_path, auth) as world:
        named = {"authorization": f"Bearer {signer.token(models=['large-model', 'other'])}"}
        assert (await world.chat("large-model", **named)).status == 200
        assert (await world.chat("other", **named)).status == 404
        inner = {"authorization": f"Bearer {signer.token(models=['org/large-70b'])}"}
        assert (await world.chat("large-model", **inner)).status == 403


async def test_routes_change_while_requests_go_on(tmp_path: Path) -> None:
    lines: list[str] = []
    async with routed(tmp_path, serve_arguments=["--reload"], on_line=lines.append) as world:
        path = world.stack.folder / "gateway.yaml"
        config = world.stack.config
        route = config.routes[0].model_copy(update={"targets": (TargetConfig(pool="small"),)})
        config = config.model_copy(update={"routes": (route, *config.routes[1:])})
        path.write_text(dump(config), encoding="utf-8")

        async def moved() -> bool:
            before = world.pods["small"].requests
            assert (await world.chat("large-model")).status == 200
            return world.pods["small"].requests > before

        await eventually(moved)
        assert world.pods["small"].body == b'{"messages": [], "model": "large-model"}'

        async def waits() -> bool:
            return any("these sections wait for a restart" in line and "routes" in line for line in lines)

        # Envoy was not told of what these need: no routes at all, and a pool that is not there.
        elsewhere = route.model_copy(update={"targets": (TargetConfig(pool="more"),)})
        more = {"pools": {**config.pools, "more": config.pools["small"]}, "routes": (elsewhere, *config.routes[1:])}
        for update in ({"routes": ()}, more):
            lines.clear()
            path.write_text(dump(config.model_copy(update=update)), encoding="utf-8")
            await eventually(waits)
            assert await moved()


ANSWERS = """
pools:
  large: {{static: [{pods}]}}
routes:
- {{model: asked, rewriteAnswers: true, targets: [{{pool: large, model: {model}}}]}}
- {{targets: [{{pool: large, model: {model}}}]}}
"""


@contextlib.asynccontextmanager
async def answering(folder: Path, more: str = "", *, speedup: float = 50, **options: Any) -> AsyncIterator[Gateway]:
    """A gateway of one model server that answers as engines do."""
    engine = EngineConfig(profile=Profile().faster(speedup))
    fleet = await serve([ReplicaConfig(name="pod-1", model=MODEL, engine=engine)])
    document = ANSWERS.format(pods=f'"{fleet.addresses[0]}"', model=MODEL) + more
    try:
        async with (
            Stack(configuration(document, folder), None, **options) as stack,
            aiohttp.ClientSession(
                f"http://{stack.address}", timeout=aiohttp.ClientTimeout(total=PATIENCE)
            ) as client,
        ):  # fmt: skip
            yield Gateway(stack, fleet, client)
    finally:
        await fleet.stop()


@pytest.mark.parametrize("mode", ["lean", "grpc.aio", "full duplex, lean", "full duplex, grpc.aio"])
async def test_answers_name_the_model_as_it_was_asked_for(tmp_path: Path, mode: str) -> None:
    more = "transport: {mode: grpcio}\n" if "grpc.aio" in mode else ""
    options: dict[str, Any] = {"envoy_transform": foreign_envoy.full_duplex} if "full duplex" in mode else {}
    async with answering(tmp_path, more, **options) as world:
        answer = await world.chat(model="asked", max_tokens=40)
        assert answer.status == 200
        assert (answer.json()["model"], answer.json()["usage"]["completion_tokens"]) == ("asked", 40)
        answer = await world.chat(model="asked", stream=True, max_tokens=40)
        events = [line.removeprefix("data: ") for line in answer.body.decode().splitlines() if line]
        assert events[-1] == "[DONE]"
        assert {json.loads(event)["model"] for event in events[:-1]} == {"asked"}
        assert (await world.chat(model="another")).json()["model"] == MODEL
        for path, body in (
            ("/v1/responses", {"input": "Hello!", "stream": True}),
            ("/v1/messages", {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 3, "stream": True}),
        ):
            answer = await world.request("POST", path, json={"model": "asked", **body})
            assert answer.status == 200
            assert b'"asked"' in answer.body
            assert MODEL.encode() not in answer.body

        async def counted() -> bool:
            return await world.metric("infer_gateway_tokens_total") >= 80 and await world.idle()

        await eventually(counted)


async def test_a_sidecar_that_dies_cuts_what_it_is_rewriting_and_the_client_knows(tmp_path: Path) -> None:
    async with answering(tmp_path, speedup=2) as world:
        assert world.stack.sidecar is not None
        messages = [{"role": "user", "content": "Hello!"}]
        asked = {"model": "asked", "messages": messages, "max_tokens": 2000, "stream": True}
        async with world.client.post(CHAT, json=asked) as response:
            assert response.status == 200
            pieces = response.content.iter_any()
            await anext(pieces)
            world.stack.sidecar.process.kill()
            with pytest.raises(aiohttp.ClientPayloadError):
                async for _ in pieces:
                    pass
