"""A short conversation workload: clients that share system prompts, each with a few turns that build on one another."""

import asyncio
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

#: Long enough to span many blocks of 64 bytes, as real system prompts do.
_SYSTEM = {
    "support": "You are the support assistant of a company that sells espresso machines. Be brief and kind. " * 12,
    "code": "You review Python changes. Point at real faults, with the line, and say nothing about taste. " * 12,
}
#: Seconds that a client thinks where there are several gateways: no real client asks again within the milliseconds
#: that a message takes.
PAUSE = 0.25
_QUESTIONS = ("How do I descale it?", "And how often?", "What if it still drips?", "Thank you. Anything else?")


@dataclass
class Served:
    """One request as its client saw it."""

    conversation: str
    turn: int
    request_id: str
    streamed: bool
    status: int = 0
    seconds: float = 0.0
    pod: str = ""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    error: str = ""
    #: The sidecar's explanation: one row a pod, best first. Filled in afterwards.
    decision: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.status == 200 and not self.error


async def run(
    addresses: Sequence[str], *, model: str, conversations: int = 4, turns: int = 3, token: str | None = None
) -> list[Served]:
    """Sends the workload, all conversations at once, and returns the result of each request.

    A conversation's turns go to the gateways at `addresses` by turns, as a balancer before them would have it; their
    client thinks between them for `PAUSE` seconds, in which gateways hear of each other.
    """
    urls = [f"http://{address}" for address in addresses]
    headers = {"authorization": f"Bearer {token}"} if token else {}
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        done = await asyncio.gather(
            *[_converse(session, urls, model, number, turns) for number in range(conversations)]
        )
    return [served for conversation in done for served in conversation]


async def _converse(
    session: aiohttp.ClientSession, urls: Sequence[str], model: str, number: int, turns: int
) -> list[Served]:
    topic = list(_SYSTEM)[number % len(_SYSTEM)]
    messages = [{"role": "system", "content": _SYSTEM[topic]}]
    served = []
    for turn in range(turns):
        question = _QUESTIONS[turn % len(_QUESTIONS)]
        messages.append({"role": "user", "content": f"({topic} {number}) {question}"})
        one = Served(f"{topic}-{number}", turn + 1, str(uuid.uuid4()), streamed=number % 2 == 1)
        if turn and len(urls) > 1:
            await asyncio.sleep(PAUSE)
        answer = await _ask(session, urls[(number + turn) % len(urls)], model, messages, one)
        messages.append({"role": "assistant", "content": answer})
        served.append(one)
    return served


async def _ask(
    session: aiohttp.ClientSession, url: str, model: str, messages: list[dict[str, str]], served: Served
) -> str:
    body: dict[str, Any] = {"model": model, "messages": messages, "max_tokens": 24}
    if served.streamed:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    loop = asyncio.get_running_loop()
    started = loop.time()
    text = ""
    try:
        async with session.post(
            f"{url}/v1/chat/completions", json=body, headers={"x-request-id": served.request_id}
        ) as response:
            served.status = response.status
            served.pod = response.headers.get("x-modelsim-replica", "")
            raw = await response.text()
        if served.status != 200:
            served.error = raw[:200]
        elif served.streamed:
            text = _read_stream(raw, served)
        else:
            answer = json.loads(raw)
            text = answer["choices"][0]["message"]["content"]
            _read_usage(answer["usage"], served)
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
        served.error = f"{type(error).__name__}: {error}"
    served.seconds = loop.time() - started
    return text


def _read_stream(raw: str, served: Served) -> str:
    events = [line.removeprefix("data: ") for line in raw.splitlines() if line.startswith("data: ")]
    if not events or events[-1] != "[DONE]":
        served.error = "the stream ended early"
        return ""
    text = ""
    for event in map(json.loads, events[:-1]):
        for choice in event["choices"]:
            text += choice["delta"].get("content") or ""
        if event.get("usage"):
            _read_usage(event["usage"], served)
    return text


def _read_usage(usage: dict[str, Any], served: Served) -> None:
    served.prompt_tokens = usage["prompt_tokens"]
    served.completion_tokens = usage["completion_tokens"]
    served.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
