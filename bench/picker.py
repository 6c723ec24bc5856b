"""CPU of Endpoint Pickers behind somebody else's Envoy: ours in its forms, and any other that is running.

    python bench/picker.py [--rounds 3] [--seconds 2] [--forms NAME …]
    python bench/picker.py --pods-only                        # the pods alone, at 127.0.0.1:18000 to 18007
    python bench/picker.py --picker 127.0.0.1:9002 --pid PID [--tls]

Each form stands behind an Envoy of its own that is set up as other gateways are (tests/support/foreign_envoy.py), in
front of the same 8 pods that answer at once; wrk asks 32 at a time. "lean" is this gateway's own Envoy, with JWT: what
the same decisions cost where nothing but requests is shown. Ours are compiled where they can be, as the image is
(`--source`: not). Forms take turns within a cell; medians over rounds. CPU is that of the processes, from /proc.

Another picker is started by you, and told of the pods (`--pods-only` prints them) as it wants it; then `--picker` has
the same Envoys and load for it, in the same run as ours. Nothing of anybody else's is built or started here.

Exit code 1: a request failed.
"""

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from gateways import compiled
from gateways.load import Load
from gateways.processes import cpu_seconds, resident_mib
from gateways.systems import AUTH, System, answers

from extproc.config import loads
from extproc.demo.process import Child
from extproc.demo.stack import Stack
from extproc.demo.tokens import local_issuer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.foreign_envoy import MODES, foreign  # noqa: E402 - its path comes first

PODS, PORT, TOKENS = 8, 18_000, 100
WARM_UP = 1  # seconds
#: Cell -> KiB, streamed, and which of what is shown.
CELLS = {
    "1 KiB": (1, False, "all"),
    "1 KiB, request phases only": (1, False, "request"),
    "32 KiB": (32, False, "all"),
    "1 KiB, 100 chunks shown": (1, True, "all"),
}
TCP = "address: '127.0.0.1:0'"
OWN = "lean (own Envoy, JWT)"
#: Form -> section `transport`, and the body mode.
FORMS = {
    "http2, full duplex": (f"transport: {{{TCP}}}\n", "FULL_DUPLEX_STREAMED"),
    "http2 over TLS, full duplex": (f"transport: {{{TCP}, tls: {{selfSigned: true}}}}\n", "FULL_DUPLEX_STREAMED"),
    "http2, buffered": (f"transport: {{{TCP}}}\n", "BUFFERED"),
    "grpc.aio, full duplex": (f"transport: {{{TCP}, mode: grpcio}}\n", "FULL_DUPLEX_STREAMED"),
}
OTHERS = "the other picker"


def shown(bootstrap: str, *, mode: str, what: str, tls: bool, picker: str = "") -> str:
    """A foreign gateway's bootstrap. `what`: request phases, or all. `picker`: where the picker is, if not ours."""
    document = yaml.safe_load(foreign(bootstrap, mode, guard=False, tls=tls))
    manager = document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    if what == "request":
        (processor,) = [one for one in manager["http_filters"] if one["name"] == "envoy.filters.http.ext_proc"]
        processor["typed_config"]["processing_mode"] = {
            **MODES[mode],
            "response_header_mode": "SKIP",
            "response_body_mode": "NONE",
            "response_trailer_mode": "SKIP",
        }
    if picker:
        (cluster,) = [one for one in document["static_resources"]["clusters"] if one["name"] == "sidecar"]
        host, _, port = picker.rpartition(":")
        endpoint = {"address": {"socket_address": {"address": host, "port_value": int(port)}}}
        cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": [{"endpoint": endpoint}]}]
    return yaml.safe_dump(document)


@contextlib.asynccontextmanager
async def ours(name: str, what: str, pods: list[str], *, source: bool) -> AsyncIterator[System]:
    env = compiled.environment(not source and not compiled.obstacle())
    with tempfile.TemporaryDirectory() as folder:
        if name == OWN:
            config = loads(AUTH, name).config
            assert config.auth is not None
            auth, token = local_issuer(config.auth, Path(folder))
            config = config.model_copy(update={"auth": auth})
            stack = Stack(config, pods, envoy_concurrency=1, sidecar_env=env)
        else:
            document, mode = FORMS[name]
            token = "-"
            transform = partial(shown, mode=mode, what=what, tls="tls" in document)
            config = loads(document, name).config
            stack = Stack(config, pods, envoy_concurrency=1, sidecar_env=env, envoy_transform=transform)
        async with stack:
            assert stack.sidecar is not None
            assert stack.envoy is not None
            parts = {"picker": [stack.sidecar.process.pid], "Envoy": [stack.envoy.process.pid]}
            await answers(stack.address, token)
            yield System(name, stack.address, parts, token)


@contextlib.asynccontextmanager
async def other(options: argparse.Namespace, what: str, pods: list[str]) -> AsyncIterator[System]:
    """Somebody's running picker. A sidecar of ours only makes the bootstrap and the file of endpoints."""
    transform = partial(shown, mode="FULL_DUPLEX_STREAMED", what=what, tls=options.tls, picker=options.picker)
    config = loads("endpoints: {scrape: {interval: 60s}}\n", OTHERS).config
    async with Stack(config, pods, envoy_concurrency=1, envoy_transform=transform) as stack:
        assert stack.envoy is not None
        await answers(stack.address, "-")
        yield System(OTHERS, stack.address, {"picker": [options.pid], "Envoy": [stack.envoy.process.pid]})


@contextlib.asynccontextmanager
async def model_servers(port: int) -> AsyncIterator[list[str]]:
    script = str(ROOT / "bench" / "gateways" / "pods.py")
    command = [sys.executable, script, "--pods", str(PODS), "--tokens", str(TOKENS), "--port", str(port)]
    child = await Child.start("pods", command)
    try:
        line = await child.line(lambda text: '"addresses"' in text, 30.0)
        yield json.loads(line)["addresses"]
    finally:
        await child.stop()


async def measure(system: System, load: Load, seconds: int, *, kib: int, stream: bool) -> dict[str, Any]:
    before = {part: cpu_seconds(pids) for part, pids in system.parts.items()}
    result = await load.run(system.address, kib=kib, concurrency=32, stream=stream, seconds=seconds, token=system.token)
    spent = {part: cpu_seconds(pids) - before[part] for part, pids in system.parts.items()}
    requests = max(result["requests"], 1)
    return {**result, "cpu": {part: seconds / requests * 1e6 for part, seconds in spent.items()}}


async def cell(name: str, options: argparse.Namespace, pods: list[str], load: Load) -> bool:
    """Measures and prints one cell. False: a request failed."""
    kib, stream, what = CELLS[name]
    fine = True
    rows: dict[str, list[dict[str, Any]]] = {}
    memory: dict[str, float] = {}
    async with contextlib.AsyncExitStack() as stack:
        systems = [
            await stack.enter_async_context(ours(one, what, pods, source=options.source)) for one in options.forms
        ]
        if options.picker:
            systems.append(await stack.enter_async_context(other(options, what, pods)))
        for number in range(options.rounds):
            turn = number % len(systems)
            for system in systems[turn:] + systems[:turn]:
                if not number:
                    await measure(system, load, WARM_UP, kib=kib, stream=stream)
                row = await measure(system, load, options.seconds, kib=kib, stream=stream)
                rows.setdefault(system.name, []).append(row)
                memory[system.name] = resident_mib(system.parts["picker"])
                fine &= not row["failed"] and row["requests"] > 0
    base = [row["cpu"]["picker"] for row in rows[options.forms[0]]]
    print(f"\n{name}")
    print(f"  {'':30} {'picker':>8} {'Envoy':>8} {'requests/s':>10} {'ratio':>6} {'MiB':>5} {'failed':>6}")
    for form, found in rows.items():
        mine = [row["cpu"]["picker"] for row in found]
        ratio = median([one / first for one, first in zip(mine, base, strict=True)])
        print(
            f"  {form:30} {median(mine):8.0f} {median([row['cpu']['Envoy'] for row in found]):8.0f}"
            f" {median([row['requests'] / row['seconds'] for row in found]):10.0f} {ratio:6.2f}"
            f" {memory[form]:5.0f} {sum(row['failed'] for row in found):6.0f}"
        )
    return fine


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2, help="per form, cell and round")
    parser.add_argument("--forms", nargs="+", default=[OWN, *FORMS], choices=[OWN, *FORMS])
    parser.add_argument("--cells", nargs="+", default=[*CELLS], choices=[*CELLS])
    parser.add_argument("--picker", default="", help="host:port of another picker that is running")
    parser.add_argument("--pid", type=int, default=0, help="process id of that picker")
    parser.add_argument("--tls", action="store_true", help="that picker is called over TLS")
    parser.add_argument("--pods-only", action="store_true")
    parser.add_argument("--source", action="store_true", help="not compiled")
    options = parser.parse_args()
    if options.picker and not options.pid:
        parser.error("--picker needs --pid")
    async with model_servers(PORT if options.pods_only else 0 if not options.picker else PORT) as pods:
        if options.pods_only:
            print(" ".join(pods), flush=True)
            await asyncio.Event().wait()
        made = "infer-gateway from its source" if options.source else compiled.said()
        print(f"{made}; load {os.getloadavg()[0]:.1f}; CPU µs a request, medians of {options.rounds} rounds")
        with tempfile.TemporaryDirectory() as folder:
            load = Load(Path(folder), sorted({kib for kib, _, _ in CELLS.values()}))
            fine = [await cell(name, options, pods, load) for name in options.cells]
    return int(not all(fine))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(asyncio.run(main()))
