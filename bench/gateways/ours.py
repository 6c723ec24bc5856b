"""This gateway and a client of it, for benches that measure nothing else."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from extproc.config import loads
from extproc.demo.stack import Stack


@dataclass
class Gateway:
    client: aiohttp.ClientSession
    #: Process ids.
    sidecar: int
    envoy: int


@contextlib.asynccontextmanager
async def running(config: str, pods: Sequence[str], **options: Any) -> AsyncIterator[Gateway]:
    """A gateway of that configuration in front of `pods`. `options` are those of `Stack`."""
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        Stack(loads(config, "bench").config, pods, **options) as stack,
        aiohttp.ClientSession(f"http://{stack.address}", connector=connector) as client,
    ):
        assert stack.sidecar is not None
        assert stack.envoy is not None
        yield Gateway(client, stack.sidecar.process.pid, stack.envoy.process.pid)
