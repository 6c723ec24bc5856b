"""Whoever comes with a credential: tokens of every size and shape, API keys, in whichever header, through the real Envoy."""

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ed448, ed25519
from jwt.algorithms import OKPAlgorithm
from support.echo import EchoPod, echo_pod
from support.eventually import eventually
from support.gateway import CHAT, Answer, configuration
from support.jwks_server import JwksServer
from support.tokens import AUDIENCE, ISSUER, Signer

from extproc.demo.stack import Stack

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

DOCUMENT = """
auth:
  issuers:
  - {{issuer: "{issuer}", audiences: ["{audience}"], jwksUri: "{jwks}"}}
  - {{oidcIssuer: "{oidc}", audiences: ["{audience}"], jwksTokenFile: "{token_file}"}}
  apiKeys: {{file: "{keys}"}}
  requiredClaims: {{realm_access.roles: [user, admin]}}
  identityHeaders: {{x-user: sub, x-team: resource.team}}
"""


class World:
    def __init__(self, folder: Path, signer: Signer, cluster: Signer, pod: EchoPod) -> None:
        self.folder, self.signer, self.cluster, self.pod = folder, signer, cluster, pod
        self.key = self.other = ""
        self.oidc = ""
        self.stack: Stack
        self.client: aiohttp.ClientSession

    async def ask(self, path: str = CHAT, body: str = '{"model":"m"}', **headers: str) -> Answer:
        fields = {name.replace("_", "-"): value for name, value in headers.items()} | {
            "content-type": "application/json"
        }
        async with self.client.post(f"http://{self.stack.address}{path}", data=body, headers=fields) as response:
            return Answer(response.status, response.headers, await response.read())

    def token(self, **claims: Any) -> str:
        return self.signer.token(**({"realm_access": {"roles": ["admin"]}, "resource": {"team": "blue"}} | claims))


def make_key(name: str, *options: str) -> tuple[str, str]:
    """A key, and its entry, as the command prints them."""
    command = [sys.executable, "-m", "extproc", "api-key", name, *options]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = text.splitlines()
    return lines[1].removeprefix("#   "), "\n".join(line for line in lines if not line.startswith("#"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("credentials")
    signer, cluster = Signer(), Signer("cluster")
    uri = signer.write(folder)
    asked: list[str] = []

    async def provide(request: Any) -> Any:
        from aiohttp import web

        asked.append(request.headers.get("authorization", ""))
        if asked[-1] != "Bearer of-the-pod":
            return web.Response(status=401)
        base = f"http://{request.host}"
        if request.path.endswith("/openid-configuration"):
            return web.json_response({"issuer": base, "jwks_uri": f"{base}/openid/v1/jwks"})
        cluster_folder = folder / "cluster"
        cluster_folder.mkdir(exist_ok=True)
        cluster.write(cluster_folder)
        # With a byte order mark, as some servers write it.
        return web.Response(body=b"\xef\xbb\xbf" + (cluster_folder / "jwks.json").read_bytes())

    (folder / "token").write_text("of-the-pod\n")
    async with echo_pod() as pod, JwksServer(provide) as server, aiohttp.ClientSession() as client:
        one = World(folder, signer, cluster, pod)
        one.key, entry = make_key("robot", "--model", "m", "--model", "n")
        one.other, other = make_key("gone", "--expires", "2020-01-01")
        keys = folder / "keys.yaml"
        keys.write_text(f"keys:\n{entry}\n{other}\n")
        one.oidc = server.uri.removesuffix("/jwks.json")
        one.client = client
        document = DOCUMENT.format(
            issuer=ISSUER, audience=AUDIENCE, jwks=uri, oidc=one.oidc, token_file=folder / "token", keys=keys
        )
        async with Stack(configuration(document, folder), [pod.address]) as stack:
            one.stack = stack
            yield one


@pytest.mark.parametrize("groups", [150, 200, 280])
async def test_tokens_with_many_groups(world: World, groups: int) -> None:
    """Entra ID: a group is 36 characters."""
    token = world.token(groups=[f"{number:08x}-0000-4000-8000-000000000000" for number in range(groups)])
    assert 7_000 < len(token) < 16_384
    assert (await world.ask(authorization=f"Bearer {token}")).status == 200


async def test_a_token_beyond_the_limit_is_told_apart(world: World) -> None:
    answer = await world.ask(authorization=f"Bearer {world.token(groups='g' * 16_384)}")
    assert (answer.status, answer.error()) == (431, "token_too_large")


@pytest.mark.parametrize("header", ["x_api_key", "api_key"])
async def test_other_headers_for_a_token(world: World, header: str) -> None:
    answer = await world.ask(**{header: world.token()})
    assert answer.status == 200
    # The credential stays at the gateway; the identity goes on.
    assert header.replace("_", "-") not in world.pod.headers
    assert (world.pod.headers["x-user"], world.pod.headers["x-team"]) == ("tester", "blue")
    assert (await world.ask(**{header: "rubbish"})).status == 401


@pytest.mark.parametrize("header", ["authorization", "x_api_key", "api_key"])
async def test_api_keys(world: World, header: str) -> None:
    scheme = "Bearer " if header == "authorization" else ""
    answer = await world.ask(**{header: scheme + world.key, "x_user": "root"})
    assert answer.status == 200
    assert world.pod.headers["x-user"] == "robot"
    assert world.key not in str(world.pod.headers)
    # Its models, and none else.
    assert (await world.ask(body='{"model":"n"}', **{header: scheme + world.key})).status == 200
    assert (await world.ask(body='{"model":"o"}', **{header: scheme + world.key})).status == 403
    for text in (world.other, world.key[:-1], world.key + "x", "sk-ig-"):
        assert (await world.ask(**{header: scheme + text})).status == 401


async def test_a_key_that_is_taken_out_of_the_file_is_refused(world: World) -> None:
    fresh, entry = make_key("short")
    path = world.folder / "keys.yaml"
    before = path.read_text()
    path.write_text(f"{before}\n{entry}\n")

    async def status(expected: int) -> bool:
        return (await world.ask(x_api_key=fresh)).status == expected

    await eventually(lambda: status(200))
    path.write_text(before)
    await eventually(lambda: status(401))


async def test_claims_inside_of_others(world: World) -> None:
    for roles, expected in (
        (["user"], 200),
        (["x", "admin"], 200),
        ("admin", 200),
        (["root"], 403),
        ([], 403),
        (None, 403),
    ):
        token = world.token(realm_access={"roles": roles})
        assert (await world.ask(authorization=f"Bearer {token}")).status == expected, roles
    assert (await world.ask(authorization=f"Bearer {world.token(realm_access='admin')}")).status == 403


async def test_an_issuer_by_its_discovery_document(world: World) -> None:
    cluster = world.cluster
    token = cluster.token(iss=world.oidc, realm_access={"roles": ["user"]})
    assert (await world.ask(authorization=f"Bearer {token}")).status == 200
    assert (await world.ask(authorization=f"Bearer {cluster.token()}")).status == 401


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages?beta=true", "/v1/messages/count_tokens"])
async def test_errors_in_anthropics_shape(world: World, path: str) -> None:
    cases: list[tuple[dict[str, str], int, str]] = [
        ({}, 401, "authentication_error"),
        ({"x_api_key": "no"}, 401, "authentication_error"),
        ({"x_api_key": world.key, "body": '{"model":"o"}'}, 403, "permission_error"),
        ({"x_api_key": world.token(groups="g" * 16_384)}, 431, "invalid_request_error"),
    ]
    for headers, status, kind in cases:
        answer = await world.ask(path, **headers)
        assert answer.status == status
        body = answer.json()
        assert (body["type"], body["error"]["type"]) == ("error", kind)
        assert set(body["error"]) == {"type", "message"}
        assert body["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]
    assert (await world.ask("/v1/models", anthropic_version="2023-06-01")).json()["type"] == "error"
    assert (await world.ask()).error() == "missing_token"


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [("Ed25519", ed25519.Ed25519PrivateKey), ("Ed448", ed448.Ed448PrivateKey)],
)
@pytest.mark.parametrize("named", ["own", "EdDSA", "none"])
async def test_the_names_of_rfc_9864_and_several_keys_of_one_kid(
    algorithm: str, kind: Any, named: str, tmp_path: Path
) -> None:
    def jwk(private: Any) -> dict[str, Any]:
        public = OKPAlgorithm.to_jwk(private.public_key(), as_dict=True) | {"kid": "same"}
        return public if named == "none" else public | {"alg": algorithm if named == "own" else "EdDSA"}

    older, key = kind.generate(), kind.generate()
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [jwk(older), jwk(key)]}))
    signing = jwt.PyJWS()
    for name in {algorithm, "EdDSA"} - set(signing.get_algorithms()):
        signing.register_algorithm(name, OKPAlgorithm())
    payload = {"iss": ISSUER, "aud": AUDIENCE, "sub": "s", "exp": int(time.time()) + 600}
    uri = (tmp_path / "jwks.json").as_uri()
    document = f'auth: {{issuer: "{ISSUER}", audiences: ["{AUDIENCE}"], jwksUri: "{uri}"}}\n'
    async with (
        echo_pod() as pod,
        Stack(configuration(document, tmp_path), [pod.address]) as stack,
        aiohttp.ClientSession() as client,
    ):
        for private, name, status in (
            (key, algorithm, 200),
            (older, "EdDSA", 200),
            (kind.generate(), algorithm, 401),
        ):
            token = signing.encode(json.dumps(payload).encode(), private, algorithm=name, headers={"kid": "same"})
            headers = {"authorization": f"Bearer {token}"}
            async with client.post(f"http://{stack.address}{CHAT}", data=b'{"model":"m"}', headers=headers) as response:
                assert response.status == status


async def test_what_envoy_answers_itself_has_the_shape_as_well(tmp_path: Path) -> None:
    async with echo_pod() as pod, aiohttp.ClientSession() as client:
        document = "listener: {maxBodyBytes: 1Ki}\nroutes: [{targets: [{pool: default}]}]\n"
        async with Stack(configuration(document, tmp_path), [pod.address]) as stack:

            async def ask(path: str, body: bytes) -> Answer:
                async with client.post(f"http://{stack.address}{path}", data=body) as response:
                    return Answer(response.status, response.headers, await response.read())

            def shape(answer: Answer) -> tuple[int, str]:
                assert answer.headers["request-id"] == answer.headers["x-request-id"]
                assert answer.json()["type"] == "error"
                return answer.status, answer.json()["error"]["type"]

            assert shape(await ask("/v1/messages", b"x" * 2048)) == (413, "request_too_large")
            await pod.close()
            assert shape(await ask("/v1/messages", b'{"model":"m"}')) == (503, "overloaded_error")
            assert stack.sidecar is not None
            await stack.sidecar.stop()
            answer = await ask("/v1/messages?beta=true", b'{"model":"m"}')
            assert shape(answer) == (503, "overloaded_error")
            assert answer.headers["retry-after"] == "1"
            assert (await ask(CHAT, b'{"model":"m"}')).error() == "gateway_unavailable"
