"""One answer under way: where its tokens come from."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from modelsim.api.base import Usage
from modelsim.events import Event, Finished, FirstToken, Token
from modelsim.faults import Faults


class Job(Protocol):
    @property
    def finished(self) -> bool: ...

    @property
    def usage(self) -> Usage:
        """Prompt and cached tokens are known from the first token on."""

    async def more(self, at_least: int = 1) -> int:
        """Waits for further tokens, or for the end if fewer are left. Returns how many there are."""


class EngineJob:
    """Fed by an engine's events."""

    def __init__(self, job_id: str) -> None:
        self.id = job_id
        self.finished = False
        self._prompt_tokens = 0
        self._cached_tokens = 0
        self._produced = 0
        self._taken = 0
        self._wanted = 1
        self._ready = asyncio.Event()

    @property
    def usage(self) -> Usage:
        return Usage(self._prompt_tokens, self._cached_tokens, self._produced)

    def receive(self, event: Event) -> None:
        if isinstance(event, Finished):
            self.finished = True
        else:
            self._produced += 1
        if not isinstance(event, Token):
            self._prompt_tokens = event.prompt_tokens
            self._cached_tokens = event.cached_tokens
        if self.finished or self._produced - self._taken >= self._wanted:
            self._ready.set()

    async def more(self, at_least: int = 1) -> int:
        self._wanted = at_least
        while self._produced - self._taken < at_least and not self.finished:
            self._ready.clear()
            await self._ready.wait()
        taken, self._taken = self._taken, self._produced
        return self._taken - taken


class ScriptedJob:
    """Tokens at the moments that the faults name, counted from its making."""

    def __init__(
        self, faults: Faults, *, prompt_tokens: int, max_tokens: int, observe: Callable[[Event], None]
    ) -> None:
        self.finished = False
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()
        self._first_delay = faults.first_token_delay or 0.0
        self._token_delay = faults.token_delay or 0.0
        self._prompt_tokens = prompt_tokens
        self._max_tokens = max_tokens
        self._observe = observe
        self._produced = 0

    @property
    def usage(self) -> Usage:
        return Usage(self._prompt_tokens, 0, self._produced)

    async def more(self, at_least: int = 1) -> int:
        before = self._produced
        target = min(before + at_least, self._max_tokens)
        due = self._start + self._first_delay + max(target - 1, 0) * self._token_delay
        await asyncio.sleep(due - self._loop.time())
        while self._produced < target:
            self._produced += 1
            self._observe(self._token())
        if self._produced == self._max_tokens:
            self.finished = True
            latency = self._loop.time() - self._start
            self._observe(Finished("", due, self._prompt_tokens, 0, self._produced, latency=latency, queued=0.0))
        return self._produced - before

    def _token(self) -> Event:
        if self._produced == 1:
            return FirstToken("", self._start, self._prompt_tokens, 0, self._first_delay)
        return Token("", self._start, self._token_delay)
