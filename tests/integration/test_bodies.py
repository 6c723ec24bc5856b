"""Bodies as clients send them: compressed, forms, odd JSON, models named elsewhere; through the real Envoy."""

import contextlib
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import brotli
import pytest
import pytest_asyncio
from support.echo import EchoPod, echo_pod
from support.foreign_envoy import full_duplex
from support.gateway import CHAT, Answer, configuration
from support.raw_http import http1, request
from support.tokens import AUTH, Signer

from extproc.demo.stack import Stack
from extproc.parsers.encodings import zstd

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd.compress,
}  # fmt: skip
TEXT = json.dumps({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi " * 50_000}]}).encode()
LIMIT = 1 << 20


class World:
    def __init__(self, stack: Stack, pods: dict[str, EchoPod], client: aiohttp.ClientSession, token: str) -> None:
        self.stack, self.pods, self.client, self.token = stack, pods, client, token

    async def send(self, body: bytes, path: str = CHAT, kind: str = "application/json", **headers: str) -> Answer:
        for pod in self.pods.values():
            pod.body, pod.headers, pod.path = b"", {}, ""
        fields = {"content-type": kind} | {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token:
            fields["authorization"] = f"Bearer {self.token}"
        async with self.client.post(f"http://{self.stack.address}{path}", data=body, headers=fields) as response:
            return Answer(response.status, response.headers, await response.read())


@contextlib.asynccontextmanager
async def serving(
    folder: Path, document: str, token: str = "", *, transform: Callable[[str], str] = str
) -> AsyncIterator[World]:
    async with echo_pod() as one, echo_pod() as two, aiohttp.ClientSession() as client:
        pods = {"one": one, "two": two}
        text = document.format(one=one.address, two=two.address)
        async with Stack(configuration(text, folder), None, envoy_transform=transform) as stack:
            yield World(stack, pods, client, token)


ONE_POOL = 'endpoints: {{static: ["{one}"]}}\nlistener: {{maxBodyBytes: 1Mi}}\n'


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["own", "full duplex"])
async def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    transform = full_duplex if request.param != "own" else str
    async with serving(tmp_path_factory.mktemp("bodies"), ONE_POOL, transform=transform) as one:
        yield one


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/responses", "/tokenize"])
@pytest.mark.parametrize("encoding", ENCODERS)
async def test_a_pod_gets_the_decoded_body(world: World, encoding: str, path: str) -> None:
    answer = await world.send(ENCODERS[encoding](TEXT), path, content_encoding=encoding)
    assert answer.status == 200
    pod = world.pods["one"]
    assert pod.body == TEXT
    assert "content-encoding" not in pod.headers
    assert pod.headers.get("content-length", str(len(TEXT))) == str(len(TEXT))


@pytest.mark.parametrize("encoding", ENCODERS)
async def test_the_limit_holds_while_it_is_decoded(world: World, encoding: str) -> None:
    bomb = ENCODERS[encoding](b'{"model":"' + bytes(64 << 20) + b'"}')
    assert len(bomb) < LIMIT
    assert (await world.send(bomb, content_encoding=encoding)).error() == "request_too_large"


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", TEXT, 400), ("br", b"x" + TEXT, 400), ("zstd", gzip.compress(TEXT), 400),
        ("gzip", gzip.compress(TEXT)[:-9], 400), ("gzip, gzip", gzip.compress(gzip.compress(TEXT)), 415),
        ("gzip, br", TEXT, 415), ("compress", TEXT, 415), ("identity", TEXT, 200), ("x-gzip", gzip.compress(TEXT), 200),
    ],
)  # fmt: skip
async def test_what_cannot_be_decoded(world: World, encoding: str, body: bytes, status: int) -> None:
    answer = await world.send(body, content_encoding=encoding)
    assert answer.status == status
    if status == 415:
        assert answer.headers["accept-encoding"] == "gzip, deflate, br, zstd"


async def test_the_body_that_was_reported(world: World) -> None:
    body = b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}'
    assert (await world.send(gzip.compress(body), "/v1/messages", content_encoding="gzip")).status == 200
    assert world.pods["one"].body == body


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages":[]}', b'{"model":null,"messages":[]}', b'{"model":"","messages":[]}',
        b'{"model":"m","stream":1}', b'{"model":"m","stream":"true"}', b'\xef\xbb\xbf{"model":"m"}',
        '{"model":"m"}'.encode("utf-16"), '{"model":"m"}'.encode("utf-32-be"), b'{"model":"m","temperature":NaN}',
        b'{"prompt":{"id":"pmpt_1"}}', b'{"model":"m","user":"\\ud800"}', b'{"model":"a","model":"b"}',
    ],
)  # fmt: skip
async def test_what_engines_take_goes_on_byte_for_byte(world: World, body: bytes) -> None:
    assert (await world.send(body)).status == 200
    assert world.pods["one"].body == body


@pytest.mark.parametrize("body", [b"{", b"[]", b"nonsense", b'{"model":1}', b'{"model":"m"}x'])
async def test_what_no_engine_takes_is_refused(world: World, body: bytes) -> None:
    assert (await world.send(body)).status == 400


async def test_pods_that_take_encodings_get_them(tmp_path: Path) -> None:
    document = 'endpoints: {{static: ["{one}"], acceptsEncodings: [gzip]}}\n'
    async with serving(tmp_path, document) as one:
        packed = gzip.compress(TEXT)
        assert (await one.send(packed, content_encoding="gzip")).status == 200
        pod = one.pods["one"]
        assert (pod.body, pod.headers["content-encoding"]) == (packed, "gzip")
        assert (await one.send(zlib.compress(TEXT), content_encoding="deflate")).status == 200
        assert pod.body == TEXT
        assert "content-encoding" not in pod.headers


ROUTES = """
pools:
  one: {{static: ["{one}"], acceptsEncodings: [gzip]}}
  two: {{static: ["{two}"]}}
routes:
- {{model: a, targets: [{{pool: one, model: org/a}}]}}
- {{model: b, targets: [{{pool: two}}]}}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def routed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with serving(tmp_path_factory.mktemp("routed"), ROUTES) as one:
        yield one


def form(*fields: tuple[str, bytes]) -> tuple[bytes, str]:
    parts = []
    for name, value in fields:
        more = b'; filename="speech.wav"\r\ncontent-type: audio/wav' if name == "file" else b""
        parts.append(
            b'--XX\r\ncontent-disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (name.encode(), more, value)
        )
    return b"".join(parts) + b"--XX--\r\n", "multipart/form-data; boundary=XX"


AUDIO = bytes(range(256)) * 2000


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/audio/translations", "/v1/images/edits"])
@pytest.mark.parametrize("order", [0, 1])
async def test_forms_go_where_their_model_leads(routed: World, path: str, order: int) -> None:
    def of(model: bytes) -> tuple[bytes, str]:
        fields = [("model", model), ("file", AUDIO), ("language", b"de")]
        return form(*(fields if order else fields[::-1]))

    assert (await routed.send(*_at(path, of(b"b")))).status == 200
    assert routed.pods["two"].body == of(b"b")[0]
    assert (await routed.send(*_at(path, of(b"a")))).status == 200
    assert routed.pods["one"].body == of(b"org/a")[0]
    assert routed.pods["one"].headers["content-length"] == str(len(of(b"org/a")[0]))
    assert (await routed.send(*_at(path, of(b"whisper-1")))).error() == "model_not_found"


def _at(path: str, of: tuple[bytes, str]) -> tuple[bytes, str, str]:
    return of[0], path, of[1]


async def test_a_renamed_model_in_a_compressed_body(routed: World) -> None:
    answer = await routed.send(gzip.compress(b'{"model":"a","x":[1, 2]}'), content_encoding="gzip")
    assert answer.status == 200
    pod = routed.pods["one"]
    assert pod.body == b'{"model":"org/a","x":[1, 2]}'
    assert "content-encoding" not in pod.headers


@pytest.mark.parametrize("rest", ["chat/completions", "completions", "embeddings", "responses"])
async def test_azures_paths(routed: World, rest: str) -> None:
    for model, pod, sent in (("a", "one", "org/a"), ("b", "two", "b")):
        for body in (b'{"messages":[]}', b'{"model":"%s","messages":[]}' % model.encode()):
            answer = await routed.send(body, f"/openai/deployments/{model}/{rest}?api-version=2024-10-21")
            assert answer.status == 200
            assert json.loads(routed.pods[pod].body) == {"model": sent, "messages": []}
            assert routed.pods[pod].path.partition("?")[0] == f"/v1/{rest}"
    assert (await routed.send(b"{}", f"/openai/deployments/c/{rest}")).error() == "model_not_found"


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        (CHAT, b'{"model":"a","model":"b"}', "application/json"),
        (CHAT, b'{"model":"a","\\u006dodel":"b"}', "application/json"),
        (CHAT, b'{"model":"a","model":"a"}', "application/json"),
        (CHAT, '{"model":"a","x":NaN,"model":"b"}'.encode("utf-16"), "application/json"),
        ("/openai/deployments/a/chat/completions", b'{"model":"b"}', "application/json"),
        (f"{CHAT}?model=a", b'{"model":"b"}', "application/json"),
        (f"{CHAT}?model=a&model=b", b"{}", "application/json"),
        ("/v1/audio/transcriptions", *form(("model", b"a"), ("model", b"b"))),
        ("/v1/audio/transcriptions?model=a", *form(("model", b"b"))),
        ("/v1/audio/transcriptions", form(("model", b"a"))[0][:-4], "multipart/form-data; boundary=XX"),
        ("/v1/audio/transcriptions", form(("model", b"a"))[0], "multipart/form-data"),
        ("/v1/x", b"model=a&model=b", "application/x-www-form-urlencoded"),
    ],
)
async def test_with_routes_exactly_one_model_must_be_readable(routed: World, path: str, body: bytes, kind: str) -> None:
    answer = await routed.send(body, path, kind)
    assert answer.status == 400
    assert answer.json()["error"]["param"] == "model"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
async def test_odd_json_is_routed_and_renamed(routed: World, encoding: str) -> None:
    assert (await routed.send('{"x":NaN,"model":"a"}'.encode(encoding))).status == 200
    assert json.loads(routed.pods["one"].body)["model"] == "org/a"
    assert (await routed.send('{"x":1, "model":"a"}'.encode(encoding))).status == 200
    assert routed.pods["one"].body == b'{"x":1, "model":"org/a"}'


async def test_a_missing_model_with_routes(routed: World, tmp_path: Path) -> None:
    assert (await routed.send(b'{"messages":[]}')).error() == "missing_required_parameter"
    catch_all = ROUTES + "- {{targets: [{{pool: two, model: supplied}}]}}\n"
    async with serving(tmp_path, catch_all) as one:
        for body in (b'{"messages":[]}', b'{"model":null,"messages":[]}', b'{"model":"","messages":[]}'):
            assert (await one.send(body)).status == 200
            assert json.loads(one.pods["two"].body) == {"model": "supplied", "messages": []}
        assert (await one.send(b" { } ")).status == 200
        assert json.loads(one.pods["two"].body) == {"model": "supplied"}


async def test_tokens_for_some_models_and_forms(tmp_path: Path) -> None:
    signer = Signer()
    document = (
        AUTH.format(jwks=signer.write(tmp_path)).replace("{", "{{").replace("}", "}}")
        + "  models: allowed\n"
        + ONE_POOL
    )
    async with serving(tmp_path, document, signer.token(allowed=["whisper-1", "m"])) as one:
        path = "/v1/audio/transcriptions"
        assert (await one.send(*_at(path, form(("file", AUDIO), ("model", b"whisper-1"))))).status == 200
        for bad in (form(("file", AUDIO), ("model", b"other")), form(("file", AUDIO))):
            assert (await one.send(*_at(path, bad))).status == 403
        both = form(("model", b"m"), ("model", b"whisper-1"))
        assert (await one.send(*_at(path, both))).status == 400
        for body in (b'{"model":"m"}', b'\xef\xbb\xbf{"model":"m"}', '{"model":"m","x":NaN}'.encode("utf-16")):
            assert (await one.send(body)).status == 200
        assert (await one.send(b'{"model":"m","model":"m"}')).status == 400
        assert (await one.send(b'{"model":"other","model":"m"}')).status == 400
        assert (await one.send(b'{"model":"m"}', f"{CHAT}?model=other")).status == 400
        assert (await one.send(gzip.compress(b'{"model":"other"}'), content_encoding="gzip")).status == 403


async def test_two_headers_of_encodings_are_one_list(world: World) -> None:
    packed = gzip.compress(gzip.compress(TEXT))
    fields = [("host", "g"), ("connection", "close"), ("content-type", "application/json"),
              ("content-length", str(len(packed))), ("content-encoding", "gzip"), ("content-encoding", "gzip")]  # fmt: skip
    assert (await http1(world.stack.address, request(f"POST {CHAT} HTTP/1.1", fields, packed))).status == 415
