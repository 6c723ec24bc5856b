"""Brings an answer's tokens to the client, or fails to where the faults say so."""

import sys

from aiohttp import web

from modelsim import filler
from modelsim.api.base import Streamer
from modelsim.faults import Faults
from modelsim.jobs import Job

_SSE_HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}


async def whole(request: web.Request, job: Job, faults: Faults) -> None:
    """Waits for the end of an answer. Raises ConnectionError for the crash that the faults ask for."""
    limit = sys.maxsize if faults.crash_after_tokens is None else faults.crash_after_tokens
    while not job.finished and job.usage.completion_tokens < limit:
        await job.more(limit - job.usage.completion_tokens)
    if job.usage.completion_tokens >= limit:
        _crash(request)


async def stream(request: web.Request, job: Job, streamer: Streamer, faults: Faults) -> web.StreamResponse:
    """Writes an answer as server-sent events, one or more a token. The headers go out at once, as vLLM's do.

    Raises ConnectionError where the client is gone, and for the crash that the faults ask for.
    """
    response = web.StreamResponse(headers=_SSE_HEADERS)
    await response.prepare(request)
    if opening := streamer.opening():
        await response.write(opening)
    limit = faults.crash_after_tokens
    if limit == 0:
        _crash(request)
    sent = 0
    finished = False
    while not finished:
        fresh = await job.more()
        finished = job.finished
        chunks = [] if sent else [streamer.begin(job.usage)]
        for number in range(fresh):
            chunks.append(streamer.token(filler.word(sent), last=finished and number == fresh - 1))
            sent += 1
            if sent == limit:
                await response.write(b"".join(chunks))
                _crash(request)
        if finished:
            chunks.append(streamer.end(job.usage))
        await response.write(b"".join(chunks))
    await response.write_eof()
    return response


def _crash(request: web.Request) -> None:
    # Closed rather than aborted: what was written is still delivered, and the end of the body is missing.
    if request.transport is not None:
        request.transport.close()
    raise ConnectionResetError("this crash was asked for")
