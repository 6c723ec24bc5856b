"""Makes docs/screenshots: the real stack (Envoy, sidecar, model servers without a GPU) under load, seen by people.

`make screenshots` runs it. It needs a Chromium and takes a minute.
"""

# ruff: noqa: E402 - the paths come first

import asyncio
import contextlib
import io
import random
import re
import sys
import time
from pathlib import Path

import aiohttp
from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.chromium import chromium

from extproc.admin.top import run as top
from extproc.admin.top import show
from extproc.config import GatewayConfig
from extproc.config.sections.endpoints import StaticEndpoint
from extproc.demo.stack import Stack
from modelsim.server import EngineConfig, Profile, ReplicaConfig, serve

FOLDER = ROOT / "docs" / "screenshots"
PODS, CLIENTS = 4, 14
#: Seconds of load before the first picture: the page's curves show two minutes.
WARM_UP = 45
MODELS = ("llama-8b", "llama-8b-legal", "llama-8b-support")
WORDS = ("gateway", "prefix", "cache", "token", "latency", "queue", "model", "answer", "batch", "decode", "pod")


async def talk(url: str, number: int, stopped: asyncio.Event) -> None:
    """A client: conversations with a system prompt that others share, and now and then a mistake."""
    dice = random.Random(number)
    async with aiohttp.ClientSession(url) as session:
        while not stopped.is_set():
            topic = number % 5
            messages = [{"role": "system", "content": f"You are assistant {topic}. " + "Rules of the house. " * 150}]
            for _turn in range(dice.randint(1, 5)):
                messages.append({"role": "user", "content": " ".join(dice.choices(WORDS, k=60))})
                body = {
                    "model": MODELS[topic % len(MODELS)], "messages": messages, "max_tokens": dice.randint(20, 120),
                    "stream": True, "stream_options": {"include_usage": True},
                }  # fmt: skip
                data = b"{" if dice.random() < 0.02 else None
                async with session.post(
                    "/v1/chat/completions", data=data, json=None if data else body,
                    headers={"content-type": "application/json"},
                ) as response:  # fmt: skip
                    await response.read()
                messages.append({"role": "assistant", "content": " ".join(dice.choices(WORDS, k=80))})
                await asyncio.sleep(dice.expovariate(4))


async def pictures(admin: str) -> None:
    async with chromium() as page:
        # Open from the start, so that its curves have something to show.
        await page.open(f"http://{admin}/", width=1280)
        await asyncio.sleep(WARM_UP)
        for name, dark in (("page-light", False), ("page-dark", True)):
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            await page.call("Emulation.setEmulatedMedia", features=[scheme])
            (FOLDER / f"{name}.png").write_bytes(await page.picture())
        if page.complaints:
            raise SystemExit(f"the page complains: {page.complaints}")


async def capture(admin: str) -> None:
    """`top --once` as it is printed, and the same frame with its colours."""
    command = [sys.executable, "-m", "extproc", "top", "--once", "--interval", "5s", "--admin", admin]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    text, _ = await process.communicate()
    if process.returncode:
        raise SystemExit("top failed")
    (FOLDER / "top.txt").write_bytes(b"\n".join(line.rstrip() for line in text.splitlines()) + b"\n")
    frame = await asyncio.to_thread(top.one, lambda: top.ask(admin), 5.0, time.monotonic, time.sleep)
    console = Console(record=True, width=top.WIDE, file=io.StringIO(), force_terminal=True)
    console.print(show.render(frame, admin, top.WIDE, 40))
    # The fonts that rich names are somewhere on the net: the reader's own will do.
    svg = console.export_svg(title="infer-gateway top", unique_id="top")
    (FOLDER / "top.svg").write_text(re.sub(r"@font-face \{[^}]*\}\s*", "", svg), encoding="utf-8")


async def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    # A small cache and few sequences at once, so that a load for a laptop is one for the pods.
    engine = EngineConfig(profile=Profile(), num_blocks=400, max_num_seqs=6)
    names = [f"llama-8b-{number}" for number in range(PODS)]
    fleet = await serve(
        [ReplicaConfig(name=name, model=MODELS[0], adapters=MODELS[1:], engine=engine) for name in names]
    )
    stopped = asyncio.Event()
    try:
        stack = Stack(GatewayConfig(), fleet.addresses)
        places = zip(fleet.addresses, names, strict=True)
        pods = [StaticEndpoint(address=address, name=name) for address, name in places]
        endpoints = stack.config.endpoints.model_copy(update={"static": tuple(pods)})
        stack.config = stack.config.model_copy(update={"endpoints": endpoints})
        async with stack, asyncio.TaskGroup() as clients:
            for number in range(CLIENTS):
                clients.create_task(talk(f"http://{stack.address}", number, stopped))
            try:
                await pictures(stack.admin)
                await capture(stack.admin)
            finally:
                stopped.set()
    finally:
        with contextlib.suppress(Exception):
            await fleet.stop()
    for path in sorted(FOLDER.iterdir()):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    asyncio.run(main())
