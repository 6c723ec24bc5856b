"""The picker with `google.golang.org/grpc` as the gateway's client, which most pickers are written with. Needs Go and its proxy."""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.envoy_messages import ProcessingRequest, ProcessingResponse
from support.eventually import PATIENCE
from support.picker import BODY, HEADERS, METHOD, picker, transport

from extproc.protocol.events import BodyMode

pytestmark = pytest.mark.integration

SOURCE = Path(__file__).parents[1] / "support" / "go_client"
#: Seconds to fetch and compile what Go's grpc is made of, on a machine that is busy.
BUILD_TIMEOUT = 300


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> str:
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed")
    made = tmp_path_factory.mktemp("go") / "client"
    env = {**os.environ, "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    try:
        built = subprocess.run(
            [go, "build", "-o", str(made), "."], cwd=SOURCE, env=env, capture_output=True, text=True,
            timeout=BUILD_TIMEOUT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        pytest.skip("Go's module proxy does not answer")
    if built.returncode:
        pytest.skip(f"it cannot be built here: {built.stderr.splitlines()[-1]}")
    return str(made)


def request(body: bytes) -> list[bytes]:
    head, rest = ProcessingRequest(), ProcessingRequest()
    for name, value in HEADERS:
        head.request_headers.headers.headers.add(key=name, raw_value=value.encode())
    head.protocol_config.request_body_mode = int(BodyMode.FULL_DUPLEX_STREAMED)
    head.protocol_config.response_body_mode = int(BodyMode.FULL_DUPLEX_STREAMED)
    rest.request_body.body, rest.request_body.end_of_stream = body, True
    answer, chunk = ProcessingRequest(), ProcessingRequest()
    answer.response_headers.headers.headers.add(key=":status", raw_value=b"200")
    chunk.response_body.body, chunk.response_body.end_of_stream = b"data: [DONE]\n\n", True
    return [one.SerializeToString() for one in (head, rest, answer, chunk)]


async def run(client: str, address: str, messages: list[bytes], *, tls: bool) -> list[str]:
    process = await asyncio.create_subprocess_exec(
        client, address, METHOD, "tls" if tls else "plain", stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=1 << 28
    )
    lines = "".join(f"{message.hex()}\n" for message in messages) + "\n"
    async with asyncio.timeout(PATIENCE):
        output, _ = await process.communicate(lines.encode())
    return output.decode().splitlines()


@pytest.mark.parametrize("size", [0, 1000, 3 << 20])
@pytest.mark.parametrize("form", ["http2, TCP", "http2, TLS"])
async def test_a_request_and_its_answer(client: str, tmp_path: Path, form: str, size: int) -> None:
    body = BODY[:-1] + b', "x": "' + b"y" * size + b'"}'
    async with picker(tmp_path, transport(form)) as running:
        address = running.address
        *replies, status = await run(client, address, request(body), tls="TLS" in form)
        assert status == "OK"
        said: list[Any] = [ProcessingResponse.FromString(bytes.fromhex(one)) for one in replies]
        kinds = [one.WhichOneof("response") for one in said]
        assert kinds[0] == "request_headers"
        destination = said[0].dynamic_metadata["envoy.lb"]["x-gateway-destination-endpoint"]
        assert set(destination.split(",")) <= set(running.pods.addresses)
        echoed = [
            one.request_body.response.body_mutation.streamed_response
            for one in said
            if one.WhichOneof("response") == "request_body"
        ]
        assert b"".join([one.body for one in echoed]) == body
        assert [one.end_of_stream for one in echoed] == [False] * (len(echoed) - 1) + [True]
        assert kinds[-2:] == ["response_headers", "response_body"]
        await running.until(in_flight=0)


async def test_an_illegal_message_is_a_status(client: str, tmp_path: Path) -> None:
    async with picker(tmp_path, transport("http2, TCP")) as running:
        messages = request(BODY)
        assert await run(client, running.address, messages[1:2], tls=False) == ["InvalidArgument"]
