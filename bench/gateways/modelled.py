"""Simulated model servers (`modelsim`) that also render prompts to tokens, for vllm-router. Run by `bench/routing.py`.

    python modelled.py --pods 4 --speedup 5

Prints the addresses as JSON on standard error once all listen. Ends with the process that started it.
"""

import argparse
import asyncio
import json
import os
import sys
from typing import Any

import uvloop
from aiohttp import web

import modelsim.replica
from modelsim.profile import EngineConfig, Profile
from modelsim.replica import ReplicaConfig
from modelsim.server import serve
from modelsim.service import Service

MODEL = "bench"


class Rendering(Service):
    """A model server that says of what tokens a chat is, four characters each: vllm-router's cache_aware asks."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.app.router.add_post("/v1/chat/completions/render", self._render)

    async def _render(self, request: web.Request) -> web.Response:
        body = await request.json()
        text = "".join(str(message.get("content", "")) for message in body["messages"])
        tokens = [hash(text[start : start + 4]) & 0x1FFFF for start in range(0, len(text), 4)]
        return web.json_response({"token_ids": tokens})


async def run(pods: int, speedup: float) -> None:
    # A replica makes its own service, and says nowhere of what class.
    setattr(modelsim.replica, "Service", Rendering)  # noqa: B010
    # The trace's longest prompt fits.
    engine = EngineConfig(profile=Profile().faster(speedup), max_model_len=1 << 20)
    fleet = await serve([ReplicaConfig(name=f"pod-{n}", model=MODEL, engine=engine) for n in range(1, pods + 1)])
    print(json.dumps({"addresses": list(fleet.addresses)}), file=sys.stderr, flush=True)
    parent = os.getppid()
    while os.getppid() == parent:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=4)
    parser.add_argument("--speedup", type=float, default=5)
    options = parser.parse_args()
    uvloop.run(run(options.pods, options.speedup))


if __name__ == "__main__":
    main()
