"""Answers of what comes before ext_proc: Envoy shows them alone, and they reach the client as they were made.

With our own Envoy too, where `rewriteAnswers` has it show answers: there a client without a token could bring them about.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
import yaml
from support.echo import EchoPod
from support.eventually import eventually
from support.foreign_envoy import MODES, echoes, foreign
from support.gateway import configuration
from support.raw_http import RawAnswer, http1, request

from extproc.demo.stack import Stack

pytestmark = pytest.mark.integration

EXTENSIONS = "type.googleapis.com/envoy.extensions.filters.http"
ROUTES = "routes: [{model: m, targets: [{pool: default, model: n}], rewriteAnswers: true}]\n"
JWKS = '{"keys": [{"kty": "oct", "alg": "HS256", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"}]}'
ALL = {"numerator": 100, "denominator": "HUNDRED"}


FILTERS: list[dict[str, Any]] = [
    {
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": f"{EXTENSIONS}.jwt_authn.v3.JwtAuthentication",
            "providers": {"one": {"issuer": "i", "local_jwks": {"inline_string": JWKS}}},
            "rules": [
                {
                    "match": {"prefix": "/", "headers": [{"name": "test-jwt", "present_match": True}]},
                    "requires": {"provider_name": "one"},
                }
            ],
        },
    },
    {
        "name": "envoy.filters.http.rbac.theirs",
        "typed_config": {
            "@type": f"{EXTENSIONS}.rbac.v3.RBAC",
            "rules": {
                "action": "DENY",
                "policies": {
                    "test": {
                        "permissions": [{"header": {"name": "test-rbac", "present_match": True}}],
                        "principals": [{"any": True}],
                    }
                },
            },
        },
    },
    {
        "name": "envoy.filters.http.fault",
        "typed_config": {
            "@type": f"{EXTENSIONS}.fault.v3.HTTPFault",
            "abort": {"http_status": 429, "percentage": ALL},
            "headers": [{"name": "test-limit", "present_match": True}],
        },
    },
    {"name": "envoy.filters.http.cors", "typed_config": {"@type": f"{EXTENSIONS}.cors.v3.Cors"}},
]


def with_cors(bootstrap: str, *, filters: bool) -> str:
    """CORS on every route; `filters`: those above come before ext_proc as well."""
    document = yaml.safe_load(bootstrap)
    manager = document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    if filters:
        manager["http_filters"][:0] = FILTERS
    for host in manager["route_config"]["virtual_hosts"]:
        host.setdefault("typed_per_filter_config", {})["envoy.filters.http.cors"] = {
            "@type": f"{EXTENSIONS}.cors.v3.CorsPolicy",
            "allow_origin_string_match": [{"exact": "https://app.example"}],
            "allow_methods": "POST",
        }
    return yaml.safe_dump(document)


def own(_: list[EchoPod], bootstrap: str) -> str:
    return with_cors(bootstrap, filters=True)


def theirs(mode: str) -> Any:
    def transform(_: list[EchoPod], bootstrap: str) -> str:
        return with_cors(foreign(bootstrap, mode, filters=FILTERS), filters=False)

    return transform


GATEWAYS = {
    **{mode: ("transport: {dataPlane: foreign}\n", theirs(mode)) for mode in MODES},
    "FULL_DUPLEX_STREAMED, grpc.aio": ("transport: {mode: grpcio}\n", theirs("FULL_DUPLEX_STREAMED")),
    "ours, with rewriteAnswers": (ROUTES, own),
}


@pytest_asyncio.fixture(params=GATEWAYS)
async def running(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[EchoPod, Stack, aiohttp.ClientSession]]:
    document, transform = GATEWAYS[request.param]
    async with echoes(configuration(document, tmp_path), 1, transform) as ((pod,), stack, client):
        yield pod, stack, client


async def metric(stack: Stack, name: str) -> float:
    async with aiohttp.ClientSession() as client, client.get(f"http://{stack.admin}/metrics") as response:
        page = await response.text()
    return sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith(name))


BODY = b'{"model": "m", "prompt": "p"}'
POST = "POST /v1/completions HTTP/1.1"
FIELDS = [("host", "models"), ("content-type", "application/json"), ("content-length", str(len(BODY)))]
#: Request, and how it is to be answered: status, and a piece of the body or a header.
ANSWERS: dict[str, tuple[bytes, int, str]] = {
    "jwt_authn": (request(POST, [*FIELDS, ("test-jwt", "1")], BODY), 401, "Jwt is missing"),
    "RBAC": (request(POST, [*FIELDS, ("test-rbac", "1")], BODY), 403, "RBAC: access denied"),
    "a rate limit": (request(POST, [*FIELDS, ("test-limit", "1")], BODY), 429, "fault filter abort"),
    "a CORS preflight": (
        request(
            "OPTIONS /v1/completions HTTP/1.1",
            [("host", "models"), ("origin", "https://app.example"), ("access-control-request-method", "POST")],
        ),
        200,
        "access-control-allow-origin",
    ),
    "no Host": (request(POST, FIELDS[1:], BODY), 400, ""),
    "an upgrade that is refused": (
        request("GET /v1/models HTTP/1.1", [("host", "models"), ("connection", "upgrade"), ("upgrade", "websocket")]),
        403,
        "",
    ),
}


@pytest.mark.parametrize("answer", ANSWERS)
async def test_the_answer_stays_as_it_was_made(
    running: tuple[EchoPod, Stack, aiohttp.ClientSession], answer: str
) -> None:
    pod, stack, client = running
    data, status, piece = ANSWERS[answer]
    if answer == "RBAC" and stack.config.transport.own_envoy:
        # Ours has its own words for what its guard refuses, and tells guards by what they say.
        status, piece = 503, "gateway_unavailable"
    for _ in range(3):
        got: RawAnswer = await http1(stack.address, data)
        assert got.status == status, got
        assert piece in got.body.decode() or piece in got.headers
    assert pod.requests == 0
    assert await metric(stack, "infer_gateway_protocol_errors_total") == 0
    # Nobody else was disturbed, and nothing is left of those.
    async with client.post("/v1/completions", json={"model": "m", "prompt": "p"}) as response:
        assert response.status == 200

    async def idle() -> bool:
        return await metric(stack, "infer_gateway_streams") == 0

    await eventually(idle)
