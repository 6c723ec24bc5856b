"""`GET /v1/models` through the real Envoy: what it lists is what works."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support.eventually import eventually
from support.gateway import CHAT, MODEL, Gateway, configuration, gateway
from support.tokens import AUTH, Signer

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


async def listed(one: Gateway, path: str = "/v1/models", **headers: str) -> Any:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}

    async def known() -> bool:
        return (await one.request("GET", path, headers=fields)).status != 503

    await eventually(known)
    return (await one.request("GET", path, headers=fields)).json()


async def test_every_name_that_is_listed_works(tmp_path: Path) -> None:
    document = f"""
routes:
- {{model: nice, adapters: [sql], targets: [{{pool: default, model: {MODEL}}}]}}
- {{models: [other, more/of-it], targets: [{{pool: default, model: {MODEL}}}]}}
"""
    async with gateway(configuration(document, tmp_path), pods=1) as one:
        page = await listed(one)
        assert [model["id"] for model in page["data"]] == ["nice", "other", "more/of-it", "sql"]
        for name in ("nice", "other", "more/of-it"):
            answer = await one.request(
                "POST", CHAT, json={"model": name, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
            )
            assert answer.status == 200
            assert (await one.request("GET", f"/v1/models/{name}")).json()["id"] == name
        assert (await one.request("GET", f"/v1/models/{MODEL}")).error() == "model_not_found"
        assert (await one.request("HEAD", "/v1/models")).status == 200


async def test_without_routes_pods_are_asked(tmp_path: Path) -> None:
    async with gateway(configuration("{}", tmp_path), pods=2) as one:
        assert [model["id"] for model in (await listed(one))["data"]] == [MODEL]
        page = await listed(one, anthropic_version="2023-06-01")
        assert page["data"][0]["type"] == "model"


async def test_a_token_sees_its_models(tmp_path: Path) -> None:
    signer = Signer()
    document = (
        AUTH.format(jwks=signer.write(tmp_path))
        + f"""  models: allowed
routes: [{{models: [a, b], targets: [{{pool: default, model: {MODEL}}}]}}]
"""
    )
    async with gateway(configuration(document, tmp_path), pods=1) as one:
        page = await listed(one, authorization=f"Bearer {signer.token(allowed=['b'])}")
        assert [model["id"] for model in page["data"]] == ["b"]
        assert (await one.request("GET", "/v1/models")).status == 401


async def test_a_key_hands_it_to_the_pods(tmp_path: Path) -> None:
    async with gateway(configuration("listener: {modelsApi: pods}", tmp_path), pods=1) as one:
        answer = await one.request("GET", "/v1/models")
        assert answer.pod == "pod-1"
        assert isinstance(one.client, aiohttp.ClientSession)


async def test_a_body_is_no_way_to_the_pods(tmp_path: Path) -> None:
    document = f"routes: [{{model: nice, targets: [{{pool: default, model: {MODEL}}}]}}]\n"
    async with gateway(configuration(document, tmp_path), pods=1) as one:
        answer = await one.request("GET", "/v1/models", data=b"x")
        assert [model["id"] for model in answer.json()["data"]] == ["nice"]
