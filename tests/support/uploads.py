"""Uploads by raw sockets that do what no client library does: withhold the last byte, send in small pieces, say nothing."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence

from support.gateway import CHAT, MODEL


def body_of(size: int) -> bytes:
    """A chat request of so many bytes."""
    head = f'{{"model":"{MODEL}","max_tokens":2,"messages":[{{"role":"user","content":"'.encode()
    tail = b'"}]}'
    return head + b"x" * (size - len(head) - len(tail)) + tail


class Uploads:
    """So many uploads at a time of all but the last byte; whoever is cut or answered comes again.

    Args:
        address: `host:port` of Envoy.
        count: connections.
        size: bytes of each body.
        headers: of each by its number.
        piece: bytes of a write.
        rounds: how often each comes.
    """

    def __init__(
        self, address: str, count: int, size: int, headers: Sequence[Mapping[str, str]], *, piece: int = 1 << 18,
        rounds: int = 1 << 30, whole: bool = False,
    ) -> None:  # fmt: skip
        host, _, port = address.rpartition(":")
        self._where = host, int(port)
        self._body = body_of(size)
        self._piece = piece
        self._rounds = rounds
        self._sent = len(self._body) - (0 if whole else 1)
        self.statuses: list[int] = []
        self.bytes = 0
        self._tasks = [asyncio.create_task(self._client(headers[n % len(headers)])) for n in range(count)]

    async def _client(self, headers: Mapping[str, str]) -> None:
        for _ in range(self._rounds):
            with contextlib.suppress(OSError):
                await self._upload(headers)

    async def _upload(self, headers: Mapping[str, str]) -> None:
        reader, writer = await asyncio.open_connection(*self._where)
        try:
            lines = [f"POST {CHAT} HTTP/1.1", "host: x", f"content-length: {len(self._body)}"]
            lines += ["content-type: application/json", *(f"{name}: {value}" for name, value in headers.items())]
            writer.write("\r\n".join([*lines, "", ""]).encode())
            answer = asyncio.ensure_future(reader.readline())
            try:
                for start in range(0, self._sent, self._piece):
                    part = self._body[start : min(start + self._piece, self._sent)]
                    self.bytes += len(part)
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)  # so that the answer is seen, and small pieces arrive as such
                    if answer.done():
                        break
                line = await answer
                if line:
                    self.statuses.append(int(line.split()[1]))
            finally:
                answer.cancel()
        finally:
            writer.transport.abort()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
