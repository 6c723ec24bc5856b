"""`infer-gateway demo`: starts everything, sends the workload, shows what happened, stays up."""

import asyncio
import json
import os
import shlex
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from extproc.config import GatewayConfig, load
from extproc.demo import show, workload
from extproc.demo.stack import Stack
from extproc.demo.tokens import local_issuer
from modelsim.server import EngineConfig, Profile, ReplicaConfig, serve

MODEL = "demo-8b"


@dataclass(frozen=True)
class DemoOptions:
    """As on the command line."""

    config: str | None
    pods: int
    port: int
    admin_port: int
    speedup: float
    once: bool
    json: bool


def run(options: DemoOptions) -> int:
    """Returns the exit code: 1 if a request failed.

    Raises:
        ConfigError: the configuration is wrong.
        ChildFailed: a process of the stack did not come up.
    """
    config = load(options.config, os.environ).config
    with tempfile.TemporaryDirectory(prefix="infer-gateway-demo-") as folder:
        token = None
        if config.auth is not None and config.auth_policy() is not None:
            auth, token = local_issuer(config.auth, Path(folder))
            config = config.model_copy(update={"auth": auth})
        return asyncio.run(_run(options, config, token))


async def _run(options: DemoOptions, config: GatewayConfig, token: str | None) -> int:
    console = Console(stderr=options.json)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    engine = EngineConfig(profile=Profile().faster(options.speedup))
    fleet = await serve(
        [ReplicaConfig(name=f"pod-{number}", model=MODEL, engine=engine) for number in range(1, options.pods + 1)]
    )
    try:
        async with Stack(config, fleet.addresses, port=options.port, admin_port=options.admin_port) as stack:
            addresses = {"gateway": stack.address, "admin": stack.admin, "pods": list(fleet.addresses)}
            print(f"infer-gateway demo: gateway http://{stack.address} admin http://{stack.admin}", file=sys.stderr)
            served = await workload.run(stack.address, model=MODEL, token=token)
            decisions = (await stack.debug("/debug/decisions?limit=256"))["decisions"]
            by_id = {decision["request_id"]: decision["candidates"] for decision in decisions}
            for one in served:
                one.decision = by_id.get(one.request_id, [])
            failed = any(not one.ok for one in served)
            if options.json:
                print(json.dumps(show.report(served, addresses)))
            else:
                show.table(served, console)
            if not options.once:
                _invite(console, stack, token)
                await stopped.wait()
            return int(failed)
    finally:
        await fleet.stop()


def _invite(console: Console, stack: Stack, token: str | None) -> None:
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}], "stream": True})
    auth = f"-H 'authorization: Bearer {token}' " if token else ""
    if token:
        console.print("Tokens are signed by a key of the demo's own: jwksUri was replaced, the other rules are yours.")
    console.print("Try it (Ctrl-C ends everything):", style="bold")
    console.print(
        f"  curl -sN http://{stack.address}/v1/chat/completions -H 'content-type: application/json' {auth}"
        f"-d {shlex.quote(body)}",
        soft_wrap=True,
    )
    console.print(f"  curl -s http://{stack.admin}/debug/endpoints", soft_wrap=True)
    console.print(f"  curl -s http://{stack.admin}/metrics", soft_wrap=True)
