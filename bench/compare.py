"""Does a change cost CPU? `python bench/compare.py BASE HEAD`: two commits, compiled, interleaved in one run.

BASE and HEAD are anything that git knows; HEAD may be `.`, the checkout as it is. Of each a tree is taken out and
compiled (kept in build/compare by its commit), and its sidecar runs as in the image: one process, on a Unix socket,
eight pods, default plugins, metrics. A client without Envoy replays streams as Envoy sends them: request headers, a
body of 1 KiB, the answer's end, and the access log's entry. BASE runs twice, as A and A': what A' differs from A by is
what the machine does. In each round the three take turns, in an order that changes; ratios are taken within a round,
of the CPU time of the process.

Prints the median of the ratios, HEAD : BASE, beside that of A' : A, with the 95 % interval of each median (bootstrap).
Exits 1 where HEAD costs more than 3 % beyond the spread of A' : A.
"""

# ruff: noqa: E402 - the path comes first
import argparse
import asyncio
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "bench")]

from gateways.processes import on_cpu_seconds
from hot_path import LOGGED, PROMPTS, bodies, body_message, header_message, log_message
from support.http2_peer import HELLO, block, fields, message, opening

from extproc.transport.http2.frames import DATA, DEFAULT_WINDOW, END_STREAM, MAX_31_BITS, frame, window_update
from modelsim.server import ReplicaConfig, serve

PODS = 8
#: Share of CPU that a change may cost, beyond what the machine does by itself.
ALLOWED = 0.03
WARM_UP = 2_000
LOG_PATH = b"/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs"
HEADERS_FRAME, RST_FRAME, SETTINGS_FRAME, PING_FRAME, GOAWAY_FRAME = 1, 3, 4, 6, 7
#: In a reply: the request's key, and the pod that is named first.
KEY = re.compile(rb"\x1a\x10([0-9a-f]{16})")
PICK = re.compile(rb"127\.0\.0\.\d+:\d+")
#: Seconds. Only waited for in full where something is wrong.
PATIENCE = 60.0


class Tree(NamedTuple):
    name: str
    #: For PYTHONPATH.
    path: Path


def compiled(ref: str) -> Tree:
    """The compiled tree of a commit, or of the checkout as it is."""
    if ref == ".":
        subprocess.run(["make", "--no-print-directory", "compiled"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return Tree("the checkout", ROOT / "build" / "compiled")
    commit = subprocess.check_output(["git", "rev-parse", f"{ref}^{{commit}}"], cwd=ROOT, text=True).strip()
    folder = ROOT / "build" / "compare" / commit
    if not (folder / ".built").exists():
        print(f"compiling {ref} …", file=sys.stderr, flush=True)
        source = folder / "source"
        source.mkdir(parents=True, exist_ok=True)
        archive = subprocess.check_output(["git", "archive", commit], cwd=ROOT)
        subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run(
            [*pip, "--no-build-isolation", "--target", folder / "compiled", source],
            env={**os.environ, "HATCH_BUILD_HOOK_ENABLE_MYPYC": "1"}, check=True,
        )  # fmt: skip
        (folder / ".built").touch()
    return Tree(f"{ref} ({commit[:9]})", folder / "compiled")


class Sidecar:
    """The sidecar of a tree, in a process of its own."""

    def __init__(self, tree: Tree, folder: Path, pods: list[str]) -> None:
        folder.mkdir()
        self.path = folder / "extproc.sock"
        (folder / "config.yaml").write_text(
            f"transport: {{address: 'unix://{self.path}'}}\n"
            "admin: {port: 0}\n"
            f"endpoints: {{static: [{', '.join(repr(pod) for pod in pods)}]}}\n"
            f"envoy: {{endpointsFile: {folder}/endpoints.yaml, adminSocket: {folder}/envoy.sock}}\n",
            encoding="utf-8",
        )
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "extproc", "serve", "--config", folder / "config.yaml"],
                env={**os.environ, "PYTHONPATH": str(tree.path), "PYTHONSAFEPATH": "1"},
                cwd=folder, stderr=log, stdout=log,
            )  # fmt: skip

    def cpu(self) -> float:
        """Seconds so far."""
        return on_cpu_seconds(self.process.pid)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


class Client:
    """One connection, as of a worker thread of Envoy's, with so many streams open."""

    def __init__(self, sidecar: Sidecar, concurrency: int) -> None:
        self._sidecar, self._concurrency = sidecar, concurrency
        self._socket = self._connected()
        self._buffer = b""
        self._head, self._bodies = header_message(), [body_message(one) for one in bodies(1 << 10)]
        self._steps: dict[int, int] = {}
        self._ended: list[tuple[bytes, bytes]] = []
        self._replies: dict[int, bytes] = {}
        self.finished = 0
        self._next = 3
        self._socket.settimeout(PATIENCE)
        # As much as can be said: replies never wait for this client.
        wide = window_update(0, MAX_31_BITS - DEFAULT_WINDOW)
        self._socket.sendall(HELLO + wide + opening(1, of=b"\x20" + block(fields(LOG_PATH))))

    def _connected(self) -> socket.socket:
        begun = time.monotonic()
        while True:
            found = socket.socket(socket.AF_UNIX)
            try:
                found.connect(str(self._sidecar.path))
            except OSError:
                found.close()
                if self._sidecar.process.poll() is not None or time.monotonic() - begun > PATIENCE:
                    sys.exit(f"a sidecar did not start:\n{self._sidecar.log.read_text()}")
                time.sleep(0.1)
            else:
                return found

    def run(self, streams: int) -> None:
        """Runs so many streams to their ends."""
        target = self.finished + streams
        self._socket.sendall(b"".join(self._open() for _ in range(min(self._concurrency, streams))))
        while self._steps:
            self._turn(target)

    def _open(self) -> bytes:
        stream = self._next
        self._next += 2
        self._steps[stream] = 0
        return opening(stream) + message(stream, self._head)

    def _turn(self, target: int) -> None:
        out = []
        for kind, flags, stream, payload in self._frames():
            if kind == DATA and stream in self._steps and payload:
                step = self._steps[stream] = self._steps[stream] + 1
                if step == 1:
                    out.append(message(stream, self._bodies[stream // 2 % PROMPTS]))
                else:
                    self._replies[stream] = payload
                    out.append(frame(DATA, END_STREAM, stream, b""))
            elif kind == HEADERS_FRAME and flags & END_STREAM and stream in self._steps:
                if self._steps.pop(stream) != 2:
                    sys.exit(f"a stream failed: {payload!r}\n{self._sidecar.log.read_text()}")
                self.finished += 1
                out.append(self._logged(self._replies.pop(stream)))
                if self.finished + len(self._steps) < target:
                    out.append(self._open())
            elif kind == SETTINGS_FRAME and not flags & 1:
                out.append(frame(SETTINGS_FRAME, 1, 0, b""))
            elif kind == PING_FRAME and not flags & 1:
                out.append(frame(PING_FRAME, 1, 0, payload))
            elif kind in (RST_FRAME, GOAWAY_FRAME) and (stream in self._steps or kind == GOAWAY_FRAME):
                sys.exit(f"the sidecar has ended a stream or the connection: {payload!r}")
        if out:
            self._socket.sendall(b"".join(out))

    def _logged(self, reply: bytes) -> bytes:
        """Entries of the access log, for some requests at once."""
        key, pick = KEY.search(reply), PICK.search(reply)
        if key is None or pick is None:
            sys.exit(f"a reply names no pod: {reply!r}")
        self._ended.append((key[1], pick[0]))
        if len(self._ended) < LOGGED:
            return b""
        data = log_message(self._ended[0][1].decode())
        for number, (one, _) in enumerate(self._ended):
            data = data.replace(f"{number:016x}".encode(), one)
        self._ended.clear()
        return message(1, data)

    def _frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        received = self._socket.recv(1 << 18)
        if not received:
            sys.exit(f"the sidecar has closed the connection:\n{self._sidecar.log.read_text()}")
        data, at = self._buffer + received, 0
        while len(data) - at >= 9:
            stop = at + 9 + int.from_bytes(data[at : at + 3])
            if stop > len(data):
                break
            yield data[at + 3], data[at + 4], int.from_bytes(data[at + 5 : at + 9]), data[at + 9 : stop]
            at = stop
        self._buffer = data[at:]


def interval(ratios: list[float]) -> tuple[float, float]:
    """95 % of the medians of as many ratios drawn from these lie in between."""
    dice = random.Random(1)
    medians = sorted(median(dice.choices(ratios, k=len(ratios))) for _ in range(2000))
    return medians[50], medians[-51]


async def measure(base: Tree, head: Tree, options: argparse.Namespace) -> bool:
    """Prints the figures. Whether HEAD costs no more than is allowed."""
    trees = {"A": base, "B": head, "A'": base}
    async with await serve([ReplicaConfig() for _ in range(PODS)]) as fleet:
        with tempfile.TemporaryDirectory() as folder:
            sidecars = {
                name: Sidecar(tree, Path(folder, f"s{n}"), fleet.addresses)
                for n, (name, tree) in enumerate(trees.items())
            }
            try:
                found = await asyncio.to_thread(rounds, sidecars, options)
            finally:
                for sidecar in sidecars.values():
                    sidecar.stop()
    ratios = [b / a for a, b in zip(found["A"], found["B"], strict=True)]
    same = [other / a for a, other in zip(found["A"], found["A'"], strict=True)]
    (low, high), (least, most) = interval(ratios), interval(same)
    spread = max(most - 1, 1 - least)
    how = f"{options.rounds} rounds of {options.streams} streams, {options.concurrency} at once"
    print(f"{how}; CPU of the sidecar, compiled")
    print(f"BASE {base.name}: {median(found['A']) * 1e6:.1f} µs a request, median")
    print(f"HEAD {head.name}: {median(found['B']) * 1e6:.1f} µs")
    print(f"HEAD : BASE   {median(ratios):.3f}   (95 %: {low:.3f} to {high:.3f})")
    print(f"BASE : BASE   {median(same):.3f}   (95 %: {least:.3f} to {most:.3f})")
    allowed = 1 + ALLOWED + spread
    good = median(ratios) <= allowed
    print(f"{'no worse' if good else 'WORSE'} than {allowed:.3f}: {ALLOWED:.0%} beyond the spread of BASE : BASE")
    return good


def rounds(sidecars: dict[str, Sidecar], options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of CPU for one stream, by sidecar, of each round."""
    clients = {name: Client(sidecar, options.concurrency) for name, sidecar in sidecars.items()}
    for client in clients.values():
        client.run(WARM_UP)
    found: dict[str, list[float]] = {name: [] for name in sidecars}
    order = list(sidecars)
    for _ in range(options.rounds):
        order = [*order[1:], order[0]]
        for name in order:
            before = sidecars[name].cpu()
            clients[name].run(options.streams)
            found[name].append((sidecars[name].cpu() - before) / options.streams)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("head", nargs="?", default=".")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--streams", type=int, default=2000, help="of each sidecar in a round")
    parser.add_argument("--concurrency", type=int, default=32)
    options = parser.parse_args()
    sys.exit(not asyncio.run(measure(compiled(options.base), compiled(options.head), options)))


if __name__ == "__main__":
    main()
