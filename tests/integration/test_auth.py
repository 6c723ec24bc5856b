"""Tokens through the real Envoy."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from support.echo import echo_pod
from support.gateway import CHAT, MODEL, Gateway, configuration, gateway
from support.tokens import AUTH, Signer

from extproc.demo.stack import Stack

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

DATA = Path(__file__).parent.parent / "data" / "jwt"


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    folder = tmp_path_factory.mktemp("config")
    async with gateway(configuration(AUTH.format(jwks=signer.write(folder)), folder), pods=2) as one:
        yield one


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def test_a_right_token_passes(guarded: Gateway, signer: Signer) -> None:
    for scheme in ("Bearer", "bearer", "BEARER"):
        answer = await guarded.chat(headers={"authorization": f"{scheme} {signer.token()}"})
        assert answer.status == 200
    assert (await guarded.request("GET", "/health", headers=bearer(signer.token()))).status == 200


@pytest.mark.parametrize("forward", [False, True])
async def test_the_token_stays_at_the_gateway(signer: Signer, tmp_path: Path, forward: bool) -> None:
    document = AUTH.format(jwks=signer.write(tmp_path)) + f"  forwardToken: {str(forward).lower()}\n"
    async with echo_pod() as pod, Stack(configuration(document, tmp_path), [pod.address]) as stack:
        async with (
            aiohttp.ClientSession() as client,
            client.post(
                f"http://{stack.address}{CHAT}", data=b'{"model":"m"}', headers=bearer(signer.token())
            ) as response,
        ):
            assert response.status == 200
        assert ("authorization" in pod.headers) is forward


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"exp": int(time.time()) - 10}, "invalid_token"),
        ({"exp": None}, "invalid_token"),
        ({"iss": "https://somebody.else"}, "invalid_token"),
        ({"aud": "another"}, "invalid_token"),
        ({"aud": None}, "invalid_token"),
        ({"nbf": int(time.time()) + 3600}, "invalid_token"),
    ],
    ids=["expired", "without expiry", "of another issuer", "for another audience", "for nobody", "not valid yet"],
)
async def test_wrong_tokens_are_401(guarded: Gateway, signer: Signer, claims: dict[str, object], code: str) -> None:
    answer = await guarded.chat(headers=bearer(signer.token(**claims)))
    assert (answer.status, answer.error()) == (401, code)
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    assert answer.pod == ""


async def test_a_token_of_another_key_is_401(guarded: Gateway) -> None:
    for kid in ("test-key", "unknown"):
        answer = await guarded.chat(headers=bearer(Signer(kid).token()))
        assert (answer.status, answer.error()) == (401, "invalid_token")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", CHAT, f'{{"model":"{MODEL}","messages":[]}}'.encode()),
        ("POST", CHAT, b""),
        ("POST", CHAT, None),
        ("GET", "/v1/models", None),
        ("GET", "/health", None),
        ("DELETE", "/health", None),
        ("OPTIONS", "/anything", None),
        ("HEAD", "/health", None),
        ("PUT", "/v1/files", b"x"),
        ("GET", "/v1/%2e%2e/health", None),
    ],
)
async def test_no_path_is_open(guarded: Gateway, method: str, path: str, body: bytes | None) -> None:
    before = [replica.requests_served for replica in guarded.fleet.replicas]
    answer = await guarded.request(method, path, data=body, allow_redirects=False)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert [replica.requests_served for replica in guarded.fleet.replicas] == before


async def test_two_authorization_headers_are_refused(guarded: Gateway, signer: Signer) -> None:
    headers = [("authorization", f"Bearer {signer.token()}"), ("authorization", "Bearer other")]
    answer = await guarded.request("GET", "/health", headers=headers)
    assert answer.status == 401


@pytest.mark.parametrize(("audiences", "expected"), [("", 200), ('\n  audiences: ["matrixinfer.io"]', 401)])
async def test_the_pages_own_token(tmp_path: Path, audiences: str, expected: int) -> None:
    """Istio's sample token names the page's issuer and no audience."""
    jwks = (DATA / "jwks.json").resolve().as_uri()
    document = f'auth:\n  issuer: "testing@secure.istio.io"\n  jwksUri: "{jwks}"{audiences}\n'
    token = (DATA / "demo.jwt").read_text().strip()
    async with gateway(configuration(document, tmp_path), pods=1) as running:
        assert (await running.chat(headers=bearer(token))).status == expected


async def test_models_and_identity(signer: Signer, tmp_path: Path) -> None:
    rules = "  models: models\n  identityHeaders: {x-user: sub}\n"
    document = AUTH.format(jwks=signer.write(tmp_path)) + rules
    async with (
        echo_pod() as pod,
        Stack(configuration(document, tmp_path), [pod.address]) as stack,
        aiohttp.ClientSession() as client,
    ):
        for models, expected in ((["m"], 200), (["other"], 403), (None, 403)):
            headers = bearer(signer.token(models=models)) | {"x-user": "forged"}
            async with client.post(f"http://{stack.address}{CHAT}", data=b'{"model":"m"}', headers=headers) as response:
                assert response.status == expected
        assert pod.requests == 1
        assert pod.headers["x-user"] == "tester"
