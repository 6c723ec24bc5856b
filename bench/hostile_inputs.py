"""How long hostile inputs hold the loop that decides requests: pages of metrics, answers of HTTP, key sets, bodies.

    python bench/hostile_inputs.py [--seconds 2] [--mib 16]

A server in a process of its own sends each as fast as it is taken; the loop here asks it as the sidecar does. What is
told is the CPU that one turn of the loop took, at most: on a busy machine a turn takes longer than its work. Bodies are
parsed one after the other, each in one turn, as a request is. Fails if an answer holds the loop for more than 50 ms, or
a body for more than 40 ms a MiB.
"""

# ruff: noqa: E402 - the paths come first
import argparse
import asyncio
import contextlib
import gc
import logging
import multiprocessing
import socket
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from extproc.auth.base import Issuer
from extproc.auth.jwks import JwksSource
from extproc.errors import Refusal
from extproc.fleet.scrape import Scraper
from extproc.parsers import parse
from extproc.server import MAX_DIGITS
from scheduler.pool.dialects import VLLM
from scheduler.pool.store import PodStore
from scheduler.types import Pod

MIB = 1 << 20
#: Seconds of CPU: for an answer, and for each MiB of a body.
MOST, MOST_A_MIB = 0.05, 0.04
NAMES = [b"vllm:num_requests_waiting", b"vllm:time_to_first_token_seconds_count", b"vllm:lora_requests_info", b"s"]
ADAPTER = b'vllm:lora_requests_info{running_lora_adapters="a%d"} 1\n'


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def filled(unit: bytes, size: int = 2 * MIB - 2) -> bytes:
    return unit * (size // len(unit)) + b"\n"


def answers() -> dict[str, tuple[bytes, bytes]]:
    """What is said at once, and then without an end."""
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    return {
        "a usual page": (answer(b"# TYPE x gauge\n" + b"x 1\n" * 15_000 + b"vllm:num_requests_waiting 1\n"), b""),
        "a page without line feeds": (answer(filled(b" ".join(NAMES))), b""),
        "a page of one letter": (answer(b" ".join(NAMES) + b"\n" + filled(b"s", 2 * MIB - 100)), b""),
        "lines of one name": (answer(filled(NAMES[0] + b" 1\n")), b""),
        "adapters": (answer(b"".join(ADAPTER % number for number in range(35_000))), b""),
        "labels": (answer(b"vllm:lora_requests_info{" + b'a="",' * 10_000 + b"} 1\n"), b""),
        "lines of braces": (answer(filled(NAMES[0] + b"{" * 60_000 + b"\n")), b""),
        "endless 103": (b"", b"HTTP/1.1 103 x\r\n\r\n" * 10_000),
        "chunks of a byte": (chunked, b"1\r\nx\r\n" * 10_000),
        "an endless body": (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 100_000),
        "an endless head": (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 10_000),
    }


def serve(said: bytes, endless: bytes, ready: Connection) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ready.send(server.getsockname()[1])
        while True:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.settimeout(1.0)
                while connection.recv(65536):
                    connection.sendall(said)
                    while endless:
                        connection.sendall(endless)


@contextlib.contextmanager
def server(said: bytes, endless: bytes) -> Iterator[str]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(said, endless, theirs), daemon=True)
    process.start()
    try:
        yield f"127.0.0.1:{ours.recv()}"
    finally:
        process.kill()
        process.join()


class Turns:
    """The CPU of each turn of the loop."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = time.thread_time()
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        now = time.thread_time()
        self.longest = max(self.longest, now - self._last)
        self._last = now
        self._handle = self._loop.call_soon(self._turn)

    def stop(self) -> None:
        self._handle.cancel()


async def as_pod(said: bytes, endless: bytes, seconds: float) -> float:
    with server(said, endless) as address:
        store = PodStore(2.0)
        pods = [Pod(address)]
        store.set_pods(pods, time.monotonic())
        async with Scraper(store, lambda _: VLLM) as scraper:
            turns = Turns()
            scraper.set_pods(pods)
            await asyncio.sleep(seconds)
            turns.stop()
            return turns.longest


async def as_key_server(said: bytes, endless: bytes, seconds: float) -> float:
    with server(said, endless) as address:
        source = JwksSource(Issuer("", (), f"http://{address}/"), max_stale=60.0)
        turns = Turns()
        await source.start()
        await asyncio.sleep(seconds)
        await source.stop()
        turns.stop()
        return turns.longest


def bodies(size: int) -> Iterator[tuple[str, str, bytes]]:
    chat, start = "/v1/chat/completions", b'{"model":"m","messages":['

    def of(before: bytes, unit: bytes, after: bytes) -> bytes:
        return before + unit * ((size - len(before) - len(after)) // len(unit)) + after

    keys = b",".join(b'"k%d":1' % number for number in range(size // 12))
    yield "one text", chat, of(start + b'{"role":"user","content":"', b"word ", b'"}]}')
    yield "a text of escapes", chat, of(start + b'{"role":"user","content":"', b'\\n\\"', b'"}]}')
    yield "short messages", chat, of(start, b'{"role":"user","content":"hi"},', b"1]}")
    yield "keys in a message", chat, start + b"{" + keys + b"}]}"
    yield "keys in tools", chat, b'{"model":"m","tools":[{' + keys + b'}],"messages":[]}'
    yield "the same key", chat, of(b"{", b'"model":"m",', b'"a":1}')
    yield "empty objects", chat, of(start, b"{},", b"1]}")
    yield "nested lists", chat, of(start, b"[" * 200 + b"]" * 200 + b",", b"1]}")
    yield "numbers", chat, of(start, b"1,", b"1]}")
    yield "long numbers", chat, of(start, b"1" * MAX_DIGITS + b",", b"1]}")
    yield "token ids", "/v1/completions", of(b'{"model":"m","prompt":[', b"12345,", b"1]}")
    yield "lists of token ids", "/v1/embeddings", of(b'{"model":"m","input":[', b"[1],", b"[1]]}")
    yield "images", chat, of(start + b'{"content":[', b'{"type":"image_url","image_url":{"url":"x"}},', b"1]}]}")


def parsed(path: str, body: bytes) -> float:
    before = time.thread_time()
    with contextlib.suppress(Refusal):
        parse(path, body)
    return time.thread_time() - before


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each attack by a server")
    parser.add_argument("--mib", type=int, default=16, help="size of the largest bodies")
    options = parser.parse_args()
    sys.set_int_max_str_digits(MAX_DIGITS)
    gc.collect()
    gc.freeze()  # as the gateway does
    logging.disable()
    failed = False
    print("longest turn of the loop, ms of CPU")
    for name, (said, endless) in answers().items():
        pod = await as_pod(said, endless, options.seconds)
        keys = await as_key_server(said, endless, options.seconds)
        failed |= max(pod, keys) > MOST
        print(f"  {name:28} of a pod {pod * 1e3:6.1f}   of a key server {keys * 1e3:6.1f}", flush=True)
    print(f"\none body, ms of CPU (1 MiB, {options.mib} MiB)")
    for (name, path, small), (_, _, large) in zip(bodies(MIB), bodies(options.mib * MIB - 100), strict=True):
        times = [min(parsed(path, body) for _ in range(3)) for body in (small, large)]
        failed |= times[0] > MOST_A_MIB or times[1] > MOST_A_MIB * options.mib
        print(f"  {name:28} {times[0] * 1e3:6.1f} {times[1] * 1e3:6.1f}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
