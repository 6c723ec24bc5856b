"""`infer-gateway demo`: starts everything, sends the workload, shows what happened, stays up."""

import asyncio
import contextlib
import json
import os
import shlex
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from extproc.config import GatewayConfig, load
from extproc.demo import show, workload
from extproc.demo.process import ChildFailed
from extproc.demo.redis_server import RedisServer
from extproc.demo.stack import Stack
from extproc.demo.tokens import local_issuer
from modelsim.server import EngineConfig, Profile, ReplicaConfig, serve

MODEL = "demo-8b"
#: Where everything of the demo listens.
HOST = "127.0.0.1"


@dataclass(frozen=True)
class DemoOptions:
    """As on the command line."""

    config: str | None
    pods: int
    port: int
    admin_port: int
    speedup: float
    replicas: int
    once: bool
    json: bool


def run(options: DemoOptions) -> int:
    """Returns the exit code: 1 if a request failed.

    Raises:
        ConfigError: the configuration is wrong.
        ChildFailed: a process of the stack did not come up.
    """
    config = load(options.config, os.environ).config
    for option, port in (("--port", options.port), ("--admin-port", options.admin_port)):
        if port and _in_use(port):
            raise ChildFailed(f"{option} {port}: something listens there already; 0 takes a free port")
    with tempfile.TemporaryDirectory(prefix="infer-gateway-demo-") as folder:
        token = None
        if config.auth is not None and config.auth_policy() is not None:
            auth, token = local_issuer(config.auth, Path(folder), [MODEL])
            config = config.model_copy(update={"auth": auth})
        return asyncio.run(_run(options, config, token))


def _in_use(port: int) -> bool:
    with socket.socket() as probe:
        # As Envoy binds: the remains of an earlier run's connections do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


async def _run(options: DemoOptions, config: GatewayConfig, token: str | None) -> int:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    engine = EngineConfig(profile=Profile().faster(options.speedup))
    fleet = await serve(
        [ReplicaConfig(name=f"pod-{number}", model=MODEL, engine=engine) for number in range(1, options.pods + 1)]
    )
    try:
        async with contextlib.AsyncExitStack() as exits:
            stacks = await _gateways(exits, options, config, fleet.addresses)
            stack = stacks[0]
            addresses = {
                "gateway": stack.address, "admin": stack.admin, "pods": list(fleet.addresses),
                "replicas": [{"gateway": one.address, "admin": one.admin} for one in stacks],
            }  # fmt: skip
            for one in stacks:
                print(f"infer-gateway demo: gateway http://{one.address} admin http://{one.admin}", file=sys.stderr)
            served = await workload.run([one.address for one in stacks], model=MODEL, token=token)
            decisions = [
                decision for one in stacks for decision in (await one.debug("/debug/decisions?limit=256"))["decisions"]
            ]
            by_id = {decision["request_id"]: decision["candidates"] for decision in decisions}
            for request in served:
                request.decision = by_id.get(request.request_id, [])
            failed = any(not request.ok for request in served)
            if options.json:
                print(json.dumps(show.report(served, addresses)))
            else:
                print(f"\n{show.table(served)}\n\n{show.stays(served, len(stacks))}", flush=True)
            if not options.once:
                print(_invitation(stack, token), file=sys.stderr if options.json else sys.stdout, flush=True)
                await stopped.wait()
            return int(failed)
    finally:
        await fleet.stop()


async def _gateways(
    exits: contextlib.AsyncExitStack, options: DemoOptions, config: GatewayConfig, pods: Sequence[str]
) -> list[Stack]:
    """The gateways: several share their knowledge, by the configuration's server or by one that is started for them."""
    if options.replicas > 1 and not config.sharing.on:
        redis = await exits.enter_async_context(RedisServer())
        server = config.sharing.redis.model_copy(update={"url": redis.url})
        config = config.model_copy(update={"sharing": config.sharing.model_copy(update={"redis": server})})
    first = Stack(config, pods, port=options.port, admin_port=options.admin_port)
    others = [Stack(config, pods) for _ in range(options.replicas - 1)]
    return [await exits.enter_async_context(one) for one in (first, *others)]


def _invitation(stack: Stack, token: str | None) -> str:
    """Commands to go on with. Each stands on a line of its own, to be copied whole."""
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}], "stream": True})
    headers = "-H 'content-type: application/json'" + (f" -H 'authorization: Bearer {token}'" if token else "")
    program = _program()
    lines = ["", "It stays up until Ctrl-C. Look at it:"]
    if token:
        lines.insert(1, "A key of the demo's own signs the tokens: jwksUri was replaced, the other rules are yours.")
    lines += [
        f"  http://{stack.admin}/                              (the page, in a browser)",
        f"  {program} top --admin {stack.admin}",
        "Ask it, again and again: the answer's header x-modelsim-replica names the pod.",
        f"  curl -siN http://{stack.address}/v1/chat/completions {headers} -d {shlex.quote(body)}",
        "Where would a request go now, and why?",
        f"  echo {shlex.quote(body)} | {program} explain - --admin {stack.admin}",
        "Any OpenAI client, with these two in its environment and the model " + MODEL + ":",
        f"  export OPENAI_BASE_URL=http://{stack.address}/v1",
        f"  export OPENAI_API_KEY={token or 'none'}",
    ]
    return "\n".join(lines)


def _program() -> str:
    """This command, as it was called."""
    called = Path(sys.argv[0])
    return f"{sys.executable} -m extproc" if called.name == "__main__.py" else shlex.quote(sys.argv[0])
