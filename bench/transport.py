"""CPU time that each transport takes for one ext_proc stream: `python bench/transport.py [--rounds N] [--seconds S]`.

A stream is what Envoy makes of a small request: headers and a body, each answered, then its end. The answers are
constants, so what is left is the transport and the reading and writing of messages. Servers are processes of their own;
their CPU time is read from /proc. The client replays bytes that Envoy sent, on one connection, as one worker thread of
Envoy's would. All cases take turns within a round; ratios are taken within a round.
"""

# ruff: noqa: E402 - the path comes first
import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.envoy_bytes import RECORDED
from support.http2_mutations import split

from extproc.process.build_info import compiled

KINDS = ("grpcio", "sidecar")
LOOPS = ("asyncio", "uvloop")
CONCURRENCY = (1, 32)
TICK = 1e6 / os.sysconf("SC_CLK_TCK")  # microseconds
WARM_UP = 300  # streams


# The server


def serve(kind: str, loop: str, path: str) -> None:
    from extproc.protocol.events import Event, RequestBody
    from extproc.protocol.replies import Mutation, Reply, RequestBodyReply, RequestHeadersReply

    go_on: list[Reply] = [RequestHeadersReply()]
    pick: list[Reply] = [RequestBodyReply(Mutation(destination="10.0.0.1:8000,10.0.0.2:8000"))]

    class Exchange:
        pending = None

        def handle(self, event: Event) -> list[Reply]:
            return pick if type(event) is RequestBody else go_on

        def close(self) -> None:
            pass

    async def run() -> None:
        from extproc.transport.grpcio import GrpcServer
        from extproc.transport.http2.server import Http2Server

        server = {"grpcio": GrpcServer, "sidecar": Http2Server}[kind]
        options = {"address": f"unix://{path}", "max_body": 16 << 20, "max_streams": 10_000}
        await server(Exchange, None, None, **options).start()
        print("ready", flush=True)
        await asyncio.Event().wait()

    if loop == "uvloop":
        import uvloop

        uvloop.run(run())
    else:
        asyncio.run(run())


class Server:
    """A server in a process of its own."""

    def __init__(self, kind: str, loop: str, folder: str) -> None:
        self.path = f"{folder}/{kind}-{loop}.sock"
        command = [sys.executable, __file__, "--serve", kind, loop, self.path]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            sys.exit("the server did not start")

    def cpu(self) -> float:
        """Microseconds of CPU time so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * TICK

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


# The client


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream_id.to_bytes(4) + payload


class Client:
    """One connection that keeps `concurrency` streams open."""

    def __init__(self, path: str, concurrency: int) -> None:
        self._concurrency = concurrency
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        parts = split(RECORDED)
        preface, settings, window, first_headers, head, _, body = parts[:7]
        self._head, self._body = head[9:], body[9:]
        # A block of a later stream: no table is used any more.
        self._headers = next(part[9:] for part in reversed(parts[1:]) if part[3] == 1)
        self._buffer = b""
        self._next_id = 1
        self._steps: dict[int, int] = {}
        self._socket.sendall(preface + settings + window)
        opened = frame(1, 4, 1, first_headers[9:]) + frame(0, 0, 1, self._head)
        self._socket.sendall(opened)
        self._steps[1] = 0
        self._next_id = 3
        self.finished = 0
        self.latencies: list[float] = []
        self._tables = True
        while self.finished < 1:
            self._turn(0)

    def run(self, seconds: float = 0, streams: int = 0) -> float:
        """Runs for a time or a number of streams. Gives the time that it took."""
        begun = time.perf_counter()
        target = self.finished + streams
        out = [self._open() for _ in range(self._concurrency)]
        self._socket.sendall(b"".join(out))
        while self._steps:
            now = time.perf_counter()
            more = now < begun + seconds if seconds else self.finished + len(self._steps) < target
            self._turn(self._concurrency if more else 0)
        return time.perf_counter() - begun

    def _open(self) -> bytes:
        stream_id = self._next_id
        self._next_id += 2
        self._steps[stream_id] = 0
        block = self._headers
        if self._tables:
            self._tables = False
            block = b"\x20" + block
        return frame(1, 4, stream_id, block) + frame(0, 0, stream_id, self._head)

    def _turn(self, keep: int) -> None:
        """Reads once, and answers all of it."""
        out = []
        for kind, flags, stream_id, payload in self._frames():
            if kind == 0 and payload:
                # One reply is one frame here: the replies are small.
                step = self._steps[stream_id] = self._steps[stream_id] + 1
                out.append(frame(0, 0, stream_id, self._body) if step == 1 else frame(0, 1, stream_id))
            elif kind == 1 and flags & 1:
                assert self._steps.pop(stream_id) == 2, "the call failed"
                self.finished += 1
            elif kind == 4 and not flags & 1:
                out.append(frame(4, 1, 0))
            elif kind == 6 and not flags & 1:
                out.append(frame(6, 1, 0, payload))
            elif kind in (3, 7):
                sys.exit(f"the server has ended a stream or the connection: {payload!r}")
        while len(self._steps) < keep:
            out.append(self._open())
        if out:
            self._socket.sendall(b"".join(out))

    def _frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        received = self._socket.recv(1 << 18)
        if not received:
            sys.exit("the server has closed the connection")
        data = self._buffer + received
        at = 0
        while len(data) - at >= 9:
            stop = at + 9 + int.from_bytes(data[at : at + 3])
            if stop > len(data):
                break
            yield data[at + 3], data[at + 4], int.from_bytes(data[at + 5 : at + 9]), data[at + 9 : stop]
            at = stop
        self._buffer = data[at:]

    def close(self) -> None:
        self._socket.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="per case and round")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
        return
    with tempfile.TemporaryDirectory() as folder:
        servers = {(kind, loop): Server(kind, loop, folder) for kind in KINDS for loop in LOOPS}
        try:
            measure(servers, options.rounds, options.seconds)
        finally:
            for server in servers.values():
                server.stop()


def measure(servers: dict[tuple[str, str], Server], rounds: int, seconds: float) -> None:
    cases = [(loop, concurrency, kind) for loop in LOOPS for concurrency in CONCURRENCY for kind in KINDS]
    cpu: dict[tuple[str, int, str], list[float]] = {case: [] for case in cases}
    wall: dict[tuple[str, int, str], list[float]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            loop, concurrency, kind = case
            server = servers[kind, loop]
            client = Client(server.path, concurrency)
            client.run(streams=WARM_UP)
            before, streams = server.cpu(), client.finished
            took = client.run(seconds=seconds)
            streams = client.finished - streams
            cpu[case].append((server.cpu() - before) / streams)
            wall[case].append(took / streams * 1e6 * concurrency)
            client.close()
    print("Compiled." if compiled() else "Not compiled.")
    print("CPU µs per stream of the server, least and median; mean time of a stream, µs, with the client's own")
    print(f"{'loop':8} {'streams':>7}  {'grpcio':>17}  {'sidecar':>15}  {'ratio':>5}  {'grpcio':>8} {'sidecar':>8}")
    for (loop, concurrency, first), (_, _, second) in pairwise(cases):
        if (first, second) != KINDS:
            continue
        a, b = (loop, concurrency, first), (loop, concurrency, second)
        ratio = median([x / y for x, y in zip(cpu[a], cpu[b], strict=True)])
        ours, theirs = cpu[b], cpu[a]
        print(
            f"{loop:8} {concurrency:7}  {min(theirs):8.1f} {median(theirs):8.1f}  {min(ours):7.1f} {median(ours):7.1f}"
            f"  {ratio:5.1f}  {median(wall[a]):8.0f} {median(wall[b]):8.0f}"
        )


if __name__ == "__main__":
    main()
