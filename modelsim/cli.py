"""The command line of the model server."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence

import msgspec

from modelsim.profile import EngineConfig, Profile
from modelsim.replica import DEFAULT_MODEL, ReplicaConfig
from modelsim.server import Fleet, serve

#: As vLLM's.
DEFAULT_PORT = 8000

_MAX_PORT = 65535


def run(
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    replicas: int = 1,
    model: str = DEFAULT_MODEL,
    speedup: float = 1.0,
    lora: Sequence[str] = (),
    max_loras: int | None = None,
    name: str = "",
    json: bool = False,
) -> int:
    """Serves until SIGINT or SIGTERM. Prints each replica's address on stderr.

    Args:
        host: IP address to listen on.
        port: Of the first replica; the others follow. 0 takes free ones.
        replicas: How many, at least 1.
        model: Name of the base model.
        speedup: Divides all times of the engine, > 0.
        lora: Names of adapters.
        name: Of the replica; with several, what their names begin with. Empty: `replica`.
        max_loras: Adapters that run at once; None is the default of `EngineConfig`.
        json: Prints `{"replicas": [{"name", "address"}]}` on stdout as well, one line, once all listen.

    Returns:
        0 after a signal, 1 where an address cannot be listened on.

    Raises:
        ValueError: A number is out of its range.
    """
    if replicas < 1:
        raise ValueError(f"replicas must be at least 1, not {replicas}")
    if not 0 <= port <= _MAX_PORT or (port and port + replicas - 1 > _MAX_PORT):
        raise ValueError(f"ports must be within 0-{_MAX_PORT}, not {port} to {port + replicas - 1}")
    engine = EngineConfig(profile=Profile().faster(speedup))
    if max_loras is not None:
        engine = msgspec.structs.replace(engine, max_loras=max_loras)
    config = ReplicaConfig(model=model, adapters=tuple(lora), engine=engine, host=host)
    configs = [
        msgspec.structs.replace(
            config,
            port=port + index if port else 0,
            name=name if name and replicas == 1 else f"{name or 'replica'}-{index}",
        )
        for index in range(replicas)
    ]
    try:
        asyncio.run(_serve_until_signal(configs, json=json))
    except OSError as error:
        print(f"model-server: cannot listen: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve_until_signal(configs: Sequence[ReplicaConfig], *, json: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with await serve(configs) as fleet:
        _announce(fleet, json=json)
        await stop.wait()


def _announce(fleet: Fleet, *, json: bool) -> None:
    for replica in fleet.replicas:
        print(f"model-server: {replica.name} listens on http://{replica.address}", file=sys.stderr, flush=True)
    if json:
        rows = [{"name": replica.name, "address": replica.address} for replica in fleet.replicas]
        print(msgspec.json.encode({"replicas": rows}).decode(), flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code; exits with 2 for arguments that make no sense."""
    parser = argparse.ArgumentParser(prog="modelsim", description="A model server without a GPU.")
    parser.add_argument("--host", default="127.0.0.1", help="IP address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="of the first replica; 0 takes free ones (default: %(default)s)"
    )
    parser.add_argument("--replicas", type=int, default=1, help="how many (default: %(default)s)")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name of the base model (default: %(default)s)")
    parser.add_argument("--speedup", type=float, default=1.0, help="divides all times (default: %(default)s)")
    parser.add_argument("--lora", action="append", default=[], metavar="NAME", help="an adapter; may be repeated")
    parser.add_argument("--max-loras", type=int, help="adapters that run at once")
    parser.add_argument("--name", default="", help="of the replica; with several, what their names begin with")
    parser.add_argument("--json", action="store_true", help="print the addresses on stdout as JSON")
    arguments = parser.parse_args(argv)
    try:
        return run(**vars(arguments))
    except ValueError as error:
        parser.error(str(error))
