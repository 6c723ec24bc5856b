"""Model servers that cost next to nothing: one process, a port each. Run by `bench/peers.py`.

    python pods.py --pods 8 [--tokens 20] [--port N]

Prints its addresses as JSON on standard error. Ends with the process that started it. A pod answers at once, the same
to everybody: what is measured is the gateway. A stream has 20 tokens, one per step of 1 ms, all streams in step as in
an engine. Served are the pages that gateways ask for: health, models, version, a metrics page as vLLM's, and tokens for
vllm-router's cache_aware (`…/render`), a token for each four bytes.
"""

import argparse
import asyncio
import json
import os
import struct
import sys
from typing import cast

import msgspec
import uvloop

from modelsim.engine import Engine
from modelsim.metrics import Metrics
from modelsim.profile import EngineConfig

MODEL = "bench"
TOKENS = 20
STEP = 0.001  # seconds between the tokens of a stream
#: vllm-router takes any numbers for tokens; this is a usual size of a vocabulary.
VOCABULARY_MASK = 0x1FFFF
_USAGE = {"prompt_tokens": 300, "completion_tokens": TOKENS, "total_tokens": 300 + TOKENS}
_HEAD = {"id": "chatcmpl-5f2b7f6e9d3c4a21", "created": 1790000000, "model": MODEL}


def answer(status: str, content_type: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def page(value: object) -> bytes:
    return answer("200 OK", "application/json", msgspec.json.encode(value))


def event(choices: list[object], **extra: object) -> bytes:
    value = {**_HEAD, "object": "chat.completion.chunk", "choices": choices, **extra}
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_MESSAGE = {"role": "assistant", "content": "one two three four five " * 4}
UNARY = page(
    {
        **_HEAD,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": _MESSAGE, "logprobs": None, "finish_reason": "stop"}],
        "usage": _USAGE,
    }
)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TOKEN = chunk(event([{"index": 0, "delta": {"content": " five"}, "finish_reason": None}]))
STREAM_END = chunk(
    event([{"index": 0, "delta": {}, "finish_reason": "stop"}]) + event([], usage=_USAGE) + b"data: [DONE]\n\n"
) + chunk(b"")
PAGES = {
    b"/health": page({}),
    b"/v1/models": page({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "vllm"}]}),
    b"/version": page({"version": "0.11.0"}),
    b"/metrics": answer(
        "200 OK", "text/plain; version=0.0.4", Metrics(MODEL).page(Engine(EngineConfig()), scripted=0, unix_time=0.0)
    ),
}
NOT_FOUND = answer("404 Not Found", "application/json", b'{"error":{"message":"Not Found"}}')


def rendered(body: bytes) -> bytes:
    """What vLLM's `…/render` says: the tokens of a prompt."""
    content = body[body.find(b'"content"') :]
    count = len(content) // 4
    return page({"token_ids": [one & VOCABULARY_MASK for one in struct.unpack(f"<{count}I", content[: count * 4])]})


class Steps:
    """The decode steps: each gives each open stream its next token."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._streams: dict[asyncio.Transport, int] = {}

    def add(self, transport: asyncio.Transport) -> None:
        if not self._streams:
            asyncio.get_running_loop().call_later(STEP, self._step)
        self._streams[transport] = self._tokens

    def _step(self) -> None:
        for transport, left in list(self._streams.items()):
            if transport.is_closing():
                del self._streams[transport]
            elif left:
                transport.write(TOKEN)
                self._streams[transport] = left - 1
            else:
                transport.write(STREAM_END)
                del self._streams[transport]
        if self._streams:
            asyncio.get_running_loop().call_later(STEP, self._step)


class Pod(asyncio.Protocol):
    """A connection. Requests are not pipelined by any gateway."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._head = b""
        self._parts: list[bytes] = []
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no class of asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            data = b"".join(self._parts) + data
            self._parts = []
            stop = data.find(b"\r\n\r\n")
            if stop < 0:
                self._parts = [data]
                return
            self._head, data = data[:stop], data[stop + 4 :]
            lower = self._head.lower()
            at = lower.find(b"\r\ncontent-length:")
            if at >= 0:
                self._missing = int(lower[at + 17 :].split(b"\r\n", 1)[0])
            elif b"\r\ntransfer-encoding:" in lower:
                self._missing = -1
        self._parts.append(data)
        if self._missing > 0:
            self._missing -= len(data)
        elif self._missing < 0 and b"".join(self._parts[-2:]).endswith(b"0\r\n\r\n"):
            self._missing = 0
        if not self._missing:
            body, self._parts = b"".join(self._parts), []
            self._answer(self._head.split(b" ", 2)[1], body)

    def _answer(self, path: bytes, body: bytes) -> None:
        if path == b"/v1/chat/completions":
            if b'"stream":true' in body:
                self._transport.write(STREAM_HEAD)
                self._steps.add(self._transport)
            else:
                self._transport.write(UNARY)
        elif path == b"/v1/chat/completions/render":
            self._transport.write(rendered(body))
        else:
            self._transport.write(PAGES.get(path.partition(b"?")[0], NOT_FOUND))


def padded(metrics: bytes, size: int) -> bytes:
    """The metrics page with as much of what nobody reads as makes its body `size` bytes."""
    body = metrics.split(b"\r\n\r\n", 1)[1]
    line = b'python_gc_objects_collected_total{generation="%d"} 1.0\n'
    more = [line % number for number in range(max(size - len(body), 0) // len(line))]
    return answer("200 OK", "text/plain; version=0.0.4", body + b"".join(more))


async def serve(pods: int, tokens: int, port: int, page: int) -> None:
    PAGES[b"/metrics"] = padded(PAGES[b"/metrics"], page)
    loop = asyncio.get_running_loop()
    steps = Steps(tokens)
    ports = [port + number if port else 0 for number in range(pods)]
    servers = [await loop.create_server(lambda: Pod(steps), "127.0.0.1", one, backlog=1024) for one in ports]
    addresses = ["{}:{}".format(*server.sockets[0].getsockname()) for server in servers]
    print(json.dumps({"addresses": addresses}), file=sys.stderr, flush=True)
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of a stream")
    parser.add_argument("--port", type=int, default=0, help="of the first pod, one more for each; 0: free ones")
    parser.add_argument("--page", type=int, default=0, help="bytes of the metrics page, at least")
    options = parser.parse_args()
    uvloop.run(serve(options.pods, options.tokens, options.port, options.page))


if __name__ == "__main__":
    main()
