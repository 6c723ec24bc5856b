"""Conversations with long system prompts as their clients see them: time to first token, and the servers' counts."""

import asyncio
import json
import time
import uuid
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp

_TEXT = """the pump valve heater boiler filter must be checked before each shift and logged by its operator clean dry
never open while under pressure call service if an alarm stays lit for two minutes or steam escapes at any joint"""
_WORDS = tuple(_TEXT.split())
_QUESTIONS = ("What comes first?", "And after that?", "Who is to be called?", "What must never be done?", "How often?")


@dataclass
class Turn:
    """One request. Seconds are of the client's clock."""

    conversation: int
    turn: int
    #: The server that answered, by its own word.
    server: str = ""
    ttft: float = 0.0
    seconds: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    #: It went to the server that answered the turn before.
    stayed: bool = False
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass
class Conversation:
    number: int
    messages: list[dict[str, str]] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)


def system_prompt(number: int, clauses: int, seed: int) -> str:
    """A manual that begins as no other does. A clause has about 17 tokens."""
    rng = Random(f"{seed} {number}")
    text = (f"{clause}. {' '.join(rng.choices(_WORDS, k=12))}." for clause in range(1, clauses + 1))
    return f"{rng.choice(_WORDS).capitalize()} manual of machine {number}. " + " ".join(text)


async def run(
    address: str, *, conversations: int, turns: int, clauses: int, max_tokens: int, concurrency: int, seed: int
) -> list[Turn]:
    """Each conversation's turns in their order; all first turns before all second ones, each round shuffled anew.

    Raises:
        AssertionError: an answer is not what an OpenAI server streams.
        aiohttp.ClientError: the gateway failed.
    """
    rng = Random(seed)
    talks = [
        Conversation(number, [{"role": "system", "content": system_prompt(number, clauses, seed)}])
        for number in range(conversations)
    ]
    gate = asyncio.Semaphore(concurrency)
    async with aiohttp.ClientSession(f"http://{address}", timeout=aiohttp.ClientTimeout(total=600)) as client:

        async def ask(talk: Conversation, question: str) -> None:
            async with gate:
                talk.messages.append({"role": "user", "content": question})
                await _turn(client, talk, max_tokens)

        for number in range(turns):
            question = _QUESTIONS[number % len(_QUESTIONS)]
            await asyncio.gather(*[ask(talk, question) for talk in rng.sample(talks, len(talks))])
    return [turn for talk in talks for turn in talk.turns]


async def _turn(client: aiohttp.ClientSession, talk: Conversation, max_tokens: int) -> None:
    body = {
        "model": "gemma-3-270m",
        "messages": talk.messages,
        "max_tokens": max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        # llama.cpp's own: all answers are of one length.
        "ignore_eos": True,
    }
    turn = Turn(talk.number, len(talk.turns) + 1)
    text, last, usage = "", "", None
    sent = time.perf_counter()
    async with client.post("/v1/chat/completions", json=body, headers={"x-request-id": turn.request_id}) as response:
        if response.status != 200:
            raise AssertionError(f"{response.status}: {await response.text()}")
        async for line in response.content:
            if not line.startswith(b"data: "):
                continue
            last = line[6:].decode().strip()
            if last == "[DONE]":
                continue
            event: dict[str, Any] = json.loads(last)
            turn.server = event["model"]
            usage = event.get("usage") or usage
            for choice in event["choices"]:
                piece = choice["delta"].get("content")
                if piece and not turn.ttft:
                    turn.ttft = time.perf_counter() - sent
                text += piece or ""
    turn.seconds = time.perf_counter() - sent
    if last != "[DONE]" or not usage or not turn.ttft:
        raise AssertionError(f"the stream was not whole: last {last!r}, usage {usage!r}")
    turn.prompt_tokens = usage["prompt_tokens"]
    turn.completion_tokens = usage["completion_tokens"]
    turn.cached_tokens = usage["prompt_tokens_details"]["cached_tokens"]
    turn.stayed = bool(talk.turns) and talk.turns[-1].server == turn.server
    talk.turns.append(turn)
    talk.messages.append({"role": "assistant", "content": text})
