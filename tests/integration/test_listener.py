"""What Envoy's listener lets in: headers with underscores, paths, pages of browsers, TLS."""

import asyncio
import contextlib
import itertools
import json
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from support.echo import EchoPod, echo_pod
from support.eventually import PATIENCE, eventually
from support.gateway import CHAT, Answer, configuration
from support.raw_http import http1, http2, request
from support.tokens import AUTH, Signer

from extproc.demo.stack import Stack
from extproc.envoy.paths import ADMIN_PATHS

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

BODY = b'{"model":"m","messages":[]}'


class World:
    def __init__(self, stack: Stack, pod: EchoPod, client: aiohttp.ClientSession, token: str, lines: list[str]) -> None:
        self.stack, self.pod, self.client, self.token, self.lines = stack, pod, client, token, lines

    async def ask(self, method: str, path: str, token: bool = True, **options: Any) -> Answer:
        headers = dict(options.pop("headers", {}))
        if token:
            headers["authorization"] = f"Bearer {self.token}"
        url = f"http://{self.stack.address}{path}"
        async with self.client.request(method, url, headers=headers, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def raw(self, *headers: tuple[str, str], path: str = CHAT, http: int = 1) -> int:
        """A chat with these headers, as they are. The status."""
        fields = [("content-type", "application/json"), ("authorization", f"Bearer {self.token}"), *headers]
        if http == 1:
            own = [("host", "gateway"), ("connection", "close"), ("content-length", str(len(BODY)))]
            return (await http1(self.stack.address, request(f"POST {path} HTTP/1.1", [*own, *fields], BODY))).status
        pseudo = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "gateway")]
        return (await http2(self.stack.address, [*pseudo, *fields], BODY)).status


@contextlib.asynccontextmanager
async def listening(folder: Path, more: str, **options: Any) -> AsyncIterator[World]:
    signer = Signer()
    lines: list[str] = []
    document = AUTH.format(jwks=signer.write(folder)) + "  identityHeaders: {X-User-Id: sub, team_name: team}\n" + more
    async with echo_pod() as pod, aiohttp.ClientSession() as client:
        token = signer.token(team="blue")
        config = configuration(document, folder)
        async with Stack(config, [pod.address], on_line=lines.append, **options) as stack:
            yield World(stack, pod, client, token, lines)


CORS = """
listener:
  cors: {origins: ["https://chat.test", "https://*.apps.test"]}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with listening(tmp_path_factory.mktemp("listener"), CORS) as one:
        yield one


def spellings(name: str) -> list[str]:
    return ["".join(one) for one in itertools.product(*["-_" if char == "-" else char for char in name])]


@pytest.mark.parametrize("http", [1, 2])
async def test_headers_with_underscores_are_let_in_and_go_no_further(world: World, http: int) -> None:
    for name in ("session_id", "sfdc_stack_depth", "_", "a_-b_"):
        assert await world.raw((name, "x"), ("x-kept", "y"), http=http) == 200
        assert world.pod.headers["x-kept"] == "y"
        assert not [one for one in world.pod.headers if "_" in one and one != "team_name"]


@pytest.mark.parametrize("http", [1, 2])
async def test_nobody_is_somebody_by_another_spelling(world: World, http: int) -> None:
    assert await world.raw(*[(name, "root") for name in spellings("x-user-id")], ("team_name", "red"), http=http) == 200
    told = {name: value for name, value in world.pod.headers.items() if "user" in name or "team" in name}
    assert told == {"x-user-id": "tester", "team_name": "blue"}


async def test_with_forward_pods_get_what_is_nobodys(tmp_path: Path) -> None:
    more = "listener: {headersWithUnderscores: forward}\n"
    async with listening(tmp_path, more) as one:
        sent = [
            "x-gateway-destination-endpoint",
            "x-user-id",
            "team-name",
            "x-envoy-retry-on",
            "x-data-parallel-host-port",
        ]
        names = [name for clean in sent for name in spellings(clean)]
        http_names = ["content_length", "transfer_encoding", "x_forwarded-for", "x-forwarded_for", "x_request_id"]
        headers = [(name, "root") for name in (*names, *http_names)]
        for _ in range(2):
            for http in (1, 2):
                for start in range(0, len(headers), 60):
                    fields = (("session_id", "s"), *headers[start : start + 60])
                    status = await one.raw(*fields, http=http)
                    if one.stack.sidecar is not None:
                        assert status == 200
                        assert one.pod.headers["session_id"] == "s"
                        assert "root" not in one.pod.headers.values()
                    else:
                        assert status == 503
            # Once more without the sidecar: what is removed does not depend on it.
            if one.stack.sidecar is not None:
                await one.stack.sidecar.stop()
                one.stack.sidecar = None
                one.pod.headers = {}
        assert one.pod.headers == {}


async def test_without_auth_and_sidecar_what_is_reserved_still_goes(tmp_path: Path) -> None:
    async with echo_pod() as pod:
        config = configuration("listener: {headersWithUnderscores: forward}\n", tmp_path)
        async with Stack(config, [pod.address]) as stack:
            assert stack.sidecar is not None
            await stack.sidecar.stop()
            names = [*spellings("x-gateway-destination-endpoint-served"), *spellings("x-prefiller-host-port")]
            for start in range(0, len(names), 60):
                fields = [("host", "g"), ("connection", "close"), ("session_id", "s"), ("content-length", "0")]
                fields += [(name, "root") for name in names[start : start + 60]]
                assert (await http1(stack.address, request(f"POST {CHAT} HTTP/1.1", fields))).status == 200
                assert pod.headers["session_id"] == "s"
                assert "root" not in pod.headers.values()


async def test_with_reject_they_are_refused(tmp_path: Path) -> None:
    async with listening(tmp_path, "listener: {headersWithUnderscores: reject}\n") as one:
        assert await one.raw(("session_id", "x")) == 400
        assert await one.raw(("session-id", "x")) == 200
        assert one.pod.requests == 1


async def test_plugins_read_what_pods_do_not_get(tmp_path: Path) -> None:
    document = """
scheduler:
  plugins: {Score: {enabled: [{name: session-affinity}]}}
  pluginConfig: [{name: session-affinity, args: {header: session_id}}]
"""
    async with echo_pod() as a, echo_pod() as b, echo_pod() as c:
        pods = [a, b, c]
        async with Stack(configuration(document, tmp_path), [pod.address for pod in pods]) as stack:
            for session in range(6):
                before = [pod.requests for pod in pods]
                for _ in range(4):
                    fields = [("host", "g"), ("connection", "close"), ("session_id", f"s{session}")]
                    fields += [("content-type", "application/json"), ("content-length", str(len(BODY)))]
                    assert (await http1(stack.address, request(f"POST {CHAT} HTTP/1.1", fields, BODY))).status == 200
                more = [pod.requests - then for pod, then in zip(pods, before, strict=True)]
                assert sorted(more) == [0, 0, 4]


@pytest.mark.parametrize("path", ADMIN_PATHS)
async def test_paths_of_administration_are_not_there(world: World, path: str) -> None:
    before = world.pod.requests
    escaped = "/" + "".join(f"%{ord(char):02x}" if char.isalnum() or char in "_-" else char for char in path[1:])
    doubled = path.replace("/", "//")
    for shape in (path, f"{path}/", f"{path}/more", f"{path}?x=1", path.upper(), escaped, doubled, f"/v1/..{path}",
                  f"/%2e%2e{path}", f"{path};x", f"{path}%3f"):  # fmt: skip
        for method in ("GET", "POST"):
            raw = request(f"{method} {shape} HTTP/1.1", [("host", "g"), ("connection", "close"), ("content-length", "0"),
                                                         ("authorization", f"Bearer {world.token}")])  # fmt: skip
            answer = await http1(world.stack.address, raw)
            assert answer.status == 404, shape
            assert json.loads(answer.body)["error"]["code"] == "path_not_found"
    assert world.pod.requests == before


async def test_paths_that_only_look_like_it_are_served(world: World) -> None:
    for path in ("/metricsx", "/v1/metrics", "/sleepy", "/v1/files/debug", "/health", "/version", "/tokenize"):
        assert (await world.ask("GET", path)).status == 200


async def test_refused_paths_leave_a_line(world: World) -> None:
    assert (await world.ask("POST", "/sleep?secret=1", token=False)).status == 404

    async def written() -> bool:
        return any('"message":"path refused"' in line and '"path":"/sleep"' in line for line in world.lines)

    await eventually(written)
    assert "secret" not in "".join(world.lines)


async def test_an_allow_list_of_paths(tmp_path: Path) -> None:
    async with listening(tmp_path, "listener: {paths: [/v1/*, /metrics]}\n") as one:
        for path, status in (("/v1/chat/completions", 200), ("/v1/load_lora_adapter", 200), ("/metrics", 200),
                             ("/metrics/x", 404), ("/v1", 404), ("/v2/x", 404), ("/v1/../x", 404), ("/", 404)):  # fmt: skip
            raw = request(f"GET {path} HTTP/1.1", [("host", "g"), ("connection", "close"),
                                                   ("authorization", f"Bearer {one.token}")])  # fmt: skip
            assert (await http1(one.stack.address, raw)).status == status, path


async def test_a_list_of_all_paths_opens_all(tmp_path: Path) -> None:
    async with listening(tmp_path, "listener: {paths: [/*]}\n") as one:
        for path in ("/metrics", "/sleep", "/"):
            assert (await one.ask("GET", path)).status == 200


async def test_pages_of_the_listed_origins_may_ask(world: World) -> None:
    before = world.pod.requests
    wanted = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,x-stainless-os"}
    for origin in ("https://chat.test", "https://a.apps.test", "https://a.b.apps.test"):
        answer = await world.ask("OPTIONS", CHAT, token=False, headers={"origin": origin, **wanted})
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == origin
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert {"authorization", "*"} <= set(answer.headers["access-control-allow-headers"].split(", "))
        # What the gateway answers itself can be read by the page as well: the refusal, and why.
        for token, status in ((True, 200), (False, 401)):
            answer = await world.ask("POST", CHAT, token=token, data=BODY, headers={"origin": origin})
            assert answer.status == status
            assert answer.headers["access-control-allow-origin"] == origin
        assert (await world.ask("GET", "/metrics", headers={"origin": origin})).headers["access-control-allow-origin"]
    assert world.pod.requests == before + 3
    for origin in ("https://evil.test", "https://chat.test.evil.test", "http://chat.test", "https://apps.test", "null"):
        answer = await world.ask("OPTIONS", CHAT, token=False, headers={"origin": origin, **wanted})
        assert "access-control-allow-origin" not in answer.headers
    assert world.pod.requests == before + 3


async def test_without_cors_a_preflight_is_a_request(tmp_path: Path) -> None:
    async with listening(tmp_path, "") as one:
        headers = {"origin": "https://a.test", "access-control-request-method": "POST"}
        answer = await one.ask("OPTIONS", CHAT, token=False, headers=headers)
        assert answer.status == 401
        assert "access-control-allow-origin" not in answer.headers


def certificate(folder: Path, name: str, authority: tuple[Path, Path] | None = None) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself or by an authority: its file, and that of its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    signer = [] if authority is None else ["-CA", str(authority[0]), "-CAkey", str(authority[1])]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert), *signer],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def served(address: str, context: ssl.SSLContext) -> tuple[str, str | None]:
    """The subject of the certificate that is shown there, and the protocol that was agreed on."""
    import socket

    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), PATIENCE) as plain, context.wrap_socket(plain) as secure:
        from cryptography import x509

        shown = x509.load_der_x509_certificate(secure.getpeercert(binary_form=True) or b"")
        return shown.subject.rfc4514_string(), secure.selected_alpn_protocol()


async def test_tls_with_client_certificates_and_files_that_are_read_again(tmp_path: Path) -> None:
    first, second = certificate(tmp_path, "first"), certificate(tmp_path, "second")
    mine, stranger = certificate(tmp_path, "mine"), certificate(tmp_path, "stranger")
    live = tmp_path / "live"
    live.mkdir()

    def put(pair: tuple[Path, Path]) -> None:
        # As Kubernetes does with a Secret: a folder of the new files, and a link to it that is replaced.
        folder = live / pair[0].stem
        folder.mkdir()
        shutil.copy(pair[0], folder / "tls.crt")
        shutil.copy(pair[1], folder / "tls.key")
        (live / "..new").symlink_to(folder.name)
        (live / "..new").rename(live / "..data")
        for name in ("tls.crt", "tls.key"):
            with contextlib.suppress(FileExistsError):
                (live / name).symlink_to(f"..data/{name}")

    put(first)
    more = f"listener: {{tls: {{certFile: {live}/tls.crt, keyFile: {live}/tls.key, clientCaFile: {mine[0]}}}}}\n"
    async with listening(tmp_path, more) as one:

        def context(pair: tuple[Path, Path] | None, alpn: str) -> ssl.SSLContext:
            made = ssl.create_default_context()
            made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
            made.set_alpn_protocols([alpn])
            if pair is not None:
                made.load_cert_chain(*pair)
            return made

        address = one.stack.address
        assert await asyncio.to_thread(served, address, context(mine, "h2")) == ("CN=first", "h2")
        url = f"https://{address}{CHAT}"
        headers = {"authorization": f"Bearer {one.token}"}
        async with one.client.post(url, data=BODY, headers=headers, ssl=context(mine, "http/1.1")) as response:
            assert response.status == 200
        for pair in (None, stranger):
            with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
                async with one.client.post(url, data=BODY, headers=headers, ssl=context(pair, "http/1.1")):
                    pass
        put(second)

        async def renewed() -> bool:
            return (await asyncio.to_thread(served, address, context(mine, "h2")))[0] == "CN=second"

        await eventually(renewed)
