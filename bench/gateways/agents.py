"""A load client of agents: conversations that share long prompts, think, and come back with all that was said before.

A process of its own, so that what it does delays nobody else's clock. Prints one JSON object.

    python bench/gateways/agents.py ADDRESS[,ADDRESS…] [--speedup 4] [--seed 1] [--conversations 120] [--turns 12]
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from typing import Any

import aiohttp

MODEL = "bench"
#: Characters that the simulated engines take for a token.
CHARACTERS = 4
BLOCK = 512 * CHARACTERS
#: Prompts that conversations share, and blocks of 512 tokens of each.
PROMPTS, PROMPT_BLOCKS = 3, 30
#: Blocks that each turn adds.
MOST_BLOCKS = 5
ANSWER_TOKENS = 300
#: Seconds, before they are divided by the speed-up.
THINK, STARTS_WITHIN = 12.0, 240.0


class Load:
    def __init__(self, options: argparse.Namespace) -> None:
        self.addresses = options.addresses.split(",")
        self.options = options
        self.rng = random.Random(options.seed)
        self.ttft: list[float] = []
        self.failed: list[str] = []
        self.prompt_tokens = self.cached_tokens = 0
        self._next = 0

    def text(self, blocks: int) -> str:
        return self.rng.randbytes(blocks * BLOCK // 2).hex()

    async def run(self) -> dict[str, Any]:
        options = self.options
        prompts = [self.text(PROMPT_BLOCKS) for _ in range(PROMPTS)]
        conversations = [
            (
                prompts[number % PROMPTS],
                self.rng.uniform(0, STARTS_WITHIN) / options.speedup,
                [self.text(self.rng.randint(1, MOST_BLOCKS)) for _ in range(options.turns)],
            )
            for number in range(options.conversations)
        ]
        timeout = aiohttp.ClientTimeout(total=600)
        began = time.perf_counter()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as client:
            await asyncio.gather(*[self.conversation(client, *one) for one in conversations])
        self.ttft.sort()
        return {
            "requests": len(self.ttft),
            "failed": len(self.failed),
            "errors": self.failed[:5],
            "seconds": time.perf_counter() - began,
            "hit": self.cached_tokens / max(self.prompt_tokens, 1),
            "p50": statistics.median(self.ttft) if self.ttft else None,
            "p90": self.ttft[int(len(self.ttft) * 0.90)] if self.ttft else None,
            "p99": self.ttft[int(len(self.ttft) * 0.99)] if self.ttft else None,
        }

    async def conversation(self, client: aiohttp.ClientSession, prompt: str, start: float, turns: list[str]) -> None:
        await asyncio.sleep(start)
        messages = [{"role": "system", "content": prompt}]
        for turn in turns:
            messages.append({"role": "user", "content": turn})
            body = {
                "model": MODEL, "messages": messages, "max_tokens": ANSWER_TOKENS,
                "stream": True, "stream_options": {"include_usage": True},
            }  # fmt: skip
            answer = await self.ask(client, json.dumps(body).encode())
            messages.append({"role": "assistant", "content": answer})
            await asyncio.sleep(THINK / self.options.speedup)

    async def ask(self, client: aiohttp.ClientSession, body: bytes) -> str:
        # As a balancer before the gateways does it: whichever is next.
        address = self.addresses[self._next % len(self.addresses)]
        self._next += 1
        sent = time.perf_counter()
        first = None
        answer, usage = [], None
        try:
            headers = {"content-type": "application/json"}
            async with client.post(f"http://{address}/v1/chat/completions", data=body, headers=headers) as response:
                if response.status != 200:
                    self.failed.append(f"{response.status} {(await response.text())[:200]}")
                    return ""
                done = False
                async for line in response.content:
                    if not line.startswith(b"data: "):
                        continue
                    if first is None:
                        first = time.perf_counter() - sent
                    if line.startswith(b"data: [DONE]"):
                        done = True
                        continue
                    event = json.loads(line[6:])
                    usage = event.get("usage") or usage
                    answer += [choice["delta"].get("content") or "" for choice in event["choices"]]
                if not done or first is None or usage is None:
                    self.failed.append("cut off")
                    return ""
        except (aiohttp.ClientError, TimeoutError) as error:
            self.failed.append(f"{type(error).__name__} {error}")
            return ""
        self.ttft.append(first)
        self.prompt_tokens += usage["prompt_tokens"]
        self.cached_tokens += usage["prompt_tokens_details"]["cached_tokens"]
        return "".join(answer)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("addresses")
    parser.add_argument("--speedup", type=float, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--conversations", type=int, default=120)
    parser.add_argument("--turns", type=int, default=12)
    print(json.dumps(asyncio.run(Load(parser.parse_args()).run())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
