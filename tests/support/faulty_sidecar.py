"""Sidecars that do wrong, in the place of the real one: what Envoy makes of that is what is tested."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from support.envoy_messages import ProcessingRequest, ProcessingResponse

from extproc.protocol.headers import DESTINATION
from extproc.transport.services import METHOD, SERVICE

Stream = AsyncIterator[bytes]
#: What a stream is answered with: bytes, since some of it is no message.
Behaviour = Callable[[Stream, Any], AsyncIterator[bytes]]


async def ends_without_a_word(_stream: Stream, _context: Any) -> AsyncIterator[bytes]:
    return
    yield b""


async def ends_after_reading(stream: Stream, _context: Any) -> AsyncIterator[bytes]:
    async for _ in stream:
        return
    yield b""


async def ends_after_the_headers(stream: Stream, _context: Any) -> AsyncIterator[bytes]:
    async for _ in stream:
        yield ProcessingResponse(request_headers={}).SerializeToString()
        return


async def aborts(_stream: Stream, context: Any) -> AsyncIterator[bytes]:
    await context.abort(grpc.StatusCode.INTERNAL, "as wished")
    yield b""


async def goes_on_without_a_pick(stream: Stream, _context: Any) -> AsyncIterator[bytes]:
    async for data in stream:
        kind = ProcessingRequest.FromString(data).WhichOneof("request")
        yield ProcessingResponse(**{kind: {}}).SerializeToString()


async def picks_by_header_alone(stream: Stream, _context: Any) -> AsyncIterator[bytes]:
    """The header is no proof: a bug that lets a client's through would be one, too."""
    option = {"header": {"key": DESTINATION, "raw_value": b"127.0.0.1:1"}}
    async for data in stream:
        kind = ProcessingRequest.FromString(data).WhichOneof("request")
        common = {"response": {"header_mutation": {"set_headers": [option]}}}
        yield ProcessingResponse(**{kind: common}).SerializeToString()


async def says_nothing(stream: Stream, _context: Any) -> AsyncIterator[bytes]:
    async for _ in stream:
        yield ProcessingResponse().SerializeToString()


async def answers_something_else(stream: Stream, _context: Any) -> AsyncIterator[bytes]:
    async for _ in stream:
        yield ProcessingResponse(response_headers={}).SerializeToString()


async def talks_nonsense(stream: Stream, _context: Any) -> AsyncIterator[bytes]:
    async for _ in stream:
        yield b"\xff\xff\xff"


BEHAVIOURS: tuple[Behaviour, ...] = (
    ends_without_a_word, ends_after_reading, ends_after_the_headers, aborts, goes_on_without_a_pick,
    picks_by_header_alone, says_nothing, answers_something_else, talks_nonsense,
)  # fmt: skip


class FaultySidecar:
    """A server of ext_proc streams. `streams` counts those that came."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self.streams = 0

    async def serve(self, stream: Stream, context: Any) -> AsyncIterator[bytes]:
        self.streams += 1
        async for data in self._behaviour(stream, context):
            yield data


@contextlib.asynccontextmanager
async def faulty_sidecar(socket: Path, behaviour: Behaviour) -> AsyncIterator[FaultySidecar]:
    """Takes the real one's socket. The real one must be gone."""
    sidecar = FaultySidecar(behaviour)
    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(sidecar.serve)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler}),))
    server.add_insecure_port(f"unix://{socket}")
    await server.start()
    try:
        yield sidecar
    finally:
        await server.stop(None)
