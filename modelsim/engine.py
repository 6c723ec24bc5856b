"""A model of an inference engine with continuous batching, driven by `now`: no I/O, no clock, no dice.

    submit ──► waiting ──admission──► running: overhead ► prefill, in chunks ► decode ──► Finished
                  └───────────────────── abort ────────────────┘

Work is done in steps, as in vLLM: a step decodes one token of every sequence that has its first, and spends what is
left of the token budget on prompts, first come first served. What arrives during a step takes part in the next one. A
request is admitted when a sequence, an adapter slot and all the blocks it will ever need are free; so nothing is ever
preempted.

Call `advance(now)` when `next_event` says. Later is allowed: events carry their own moment, and nothing shifts.
"""

import msgspec

from modelsim.errors import RequestTooLong
from modelsim.events import Event, Finished, FirstToken, Token
from modelsim.kv_cache import KVCache, Lease
from modelsim.lora import LoraSlots
from modelsim.profile import BLOCK_SIZE, EngineConfig
from modelsim.prompt import block_hashes, count_tokens


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine is asked."""

    id: str
    prompt: str
    #: Tokens of the answer, exactly; 0 ends with the prefill (embeddings).
    max_tokens: int
    #: A LoRA adapter, or empty for the base model.
    adapter: str = ""


class _Sequence:
    __slots__ = (
        "adapter", "admitted_at", "computed", "hashes", "id", "last_at", "lease", "max_tokens", "produced",
        "prompt_tokens", "ready_at", "submitted_at",
    )  # fmt: skip

    def __init__(self, request: Request, now: float) -> None:
        self.id = request.id
        self.adapter = request.adapter
        self.max_tokens = request.max_tokens
        self.prompt_tokens = count_tokens(request.prompt)
        self.hashes = block_hashes(request.prompt, adapter=request.adapter)
        self.submitted_at = now
        self.admitted_at = now
        #: Moment from which prefill may begin.
        self.ready_at = now
        self.last_at = now
        #: Tokens of the prompt whose keys and values are there.
        self.computed = 0
        self.produced = 0
        #: None before admission and after the end.
        self.lease: Lease | None = None

    @property
    def cached_tokens(self) -> int:
        return self.lease.cached * BLOCK_SIZE if self.lease else 0


class Engine:
    """One replica's engine. All methods take `now` in seconds, which must never go backwards (ValueError)."""

    def __init__(self, config: EngineConfig | None = None) -> None:
        self.config = config or EngineConfig()
        self._profile = self.config.profile
        self._kv = KVCache(self.config.num_blocks)
        self._lora = LoraSlots(self.config.max_loras, self._profile.adapter_load)
        # In order of arrival and of admission.
        self._waiting: dict[str, _Sequence] = {}
        self._running: dict[str, _Sequence] = {}
        self._events: list[Event] = []
        self._now = float("-inf")
        # The step in progress; no step where the end is None.
        self._step_end: float | None = None
        self._prefills: list[tuple[_Sequence, int]] = []
        self._decodes: list[_Sequence] = []
        #: Tokens of prompts that were looked up in the prefix cache, and those found, since the start.
        self.prefix_queries = 0
        self.prefix_hits = 0

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def kv_usage(self) -> float:
        """Share of the KV blocks that requests hold, 0-1."""
        return self._kv.usage

    @property
    def kv_cache(self) -> KVCache:
        """For reading."""
        return self._kv

    @property
    def lora_slots(self) -> LoraSlots:
        """For reading."""
        return self._lora

    @property
    def running_adapters(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(sequence.adapter for sequence in self._running.values() if sequence.adapter))

    @property
    def waiting_adapters(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(sequence.adapter for sequence in self._waiting.values() if sequence.adapter))

    def submit(self, request: Request, now: float) -> None:
        """Queues a request.

        Raises:
            RequestTooLong: It could never be held.
            ValueError: Its id is in use, `max_tokens` is negative, or it names an adapter and there are no slots.
        """
        if request.id in self._waiting or request.id in self._running:
            raise ValueError(f"request id {request.id!r} is in use")
        if request.max_tokens < 0:
            raise ValueError("max_tokens must not be negative")
        if request.adapter and not self.config.max_loras:
            raise ValueError("this engine serves no adapters")
        tokens = count_tokens(request.prompt) + request.max_tokens
        if tokens > self.config.longest:
            raise RequestTooLong(tokens, self.config.longest)
        self._run_until(now)
        self._waiting[request.id] = _Sequence(request, now)
        self._admit(now)

    def abort(self, request_id: str, now: float) -> bool:
        """Ends a request and frees all it held. False where there is no such request, or not any more."""
        self._run_until(now)
        if self._waiting.pop(request_id, None) is not None:
            return True
        sequence = self._running.get(request_id)
        if sequence is None or sequence.lease is None:
            return False
        self._end(sequence, sequence.lease)
        self._admit(now)
        return True

    def next_event(self, now: float) -> float | None:
        """When `advance` has something to do: `now` where events are due already, None where nothing is in progress."""
        if self._events:
            return now
        moment = self._next_moment()
        return None if moment is None else max(moment, now)

    def advance(self, now: float) -> list[Event]:
        """Does what is due up to and including `now`. Returns what happened since the last call, in order."""
        self._run_until(now)
        events, self._events = self._events, []
        return events

    def _next_moment(self) -> float | None:
        if self._step_end is not None:
            return self._step_end
        # Between steps nothing decodes: there are only prompts whose overhead is not over.
        return min((sequence.ready_at for sequence in self._running.values()), default=None)

    def _run_until(self, now: float) -> None:
        if not now >= self._now:
            raise ValueError(f"time ran backwards, from {self._now} to {now}")
        self._now = now
        while (moment := self._next_moment()) is not None and moment <= now:
            if self._step_end is not None:
                self._finish_step(moment)
            self._start_step(moment)

    def _start_step(self, at: float) -> None:
        decodes = [sequence for sequence in self._running.values() if sequence.produced]
        prefills: list[tuple[_Sequence, int]] = []
        # Never less than 0: the budget is at least the number of sequences.
        budget = self.config.max_num_batched_tokens - len(decodes)
        prefilled = 0
        for sequence in self._running.values():
            if sequence.produced or sequence.ready_at > at:
                continue
            tokens = min(sequence.prompt_tokens - sequence.computed, budget - prefilled)
            if not tokens:
                break
            prefills.append((sequence, tokens))
            prefilled += tokens
        self._decodes, self._prefills = decodes, prefills
        if not decodes and not prefills:
            self._step_end = None
            return
        duration = prefilled * self._profile.per_prompt_token
        if decodes:
            duration += self._profile.inter_token + len(decodes) * self._profile.per_sequence
        self._step_end = at + duration

    def _finish_step(self, at: float) -> None:
        for sequence in self._decodes:
            if sequence.lease is None:
                continue
            sequence.produced += 1
            self._events.append(Token(sequence.id, at, at - sequence.last_at))
            self._produced(sequence, sequence.lease, at)
        for sequence, tokens in self._prefills:
            if sequence.lease is None:
                continue
            sequence.computed += tokens
            self._kv.publish(sequence.lease, sequence.computed // BLOCK_SIZE)
            if sequence.computed < sequence.prompt_tokens:
                continue
            if not sequence.max_tokens:
                self._finish(sequence, sequence.lease, at)
                continue
            sequence.produced = 1
            ttft = at - sequence.submitted_at
            self._events.append(FirstToken(sequence.id, at, sequence.prompt_tokens, sequence.cached_tokens, ttft))
            self._produced(sequence, sequence.lease, at)
        self._admit(at)

    def _produced(self, sequence: _Sequence, lease: Lease, at: float) -> None:
        sequence.last_at = at
        # The new token is the first of a block when those before it filled theirs.
        if (sequence.prompt_tokens + sequence.produced - 1) % BLOCK_SIZE == 0:
            self._kv.grow(lease)
        if sequence.produced == sequence.max_tokens:
            self._finish(sequence, lease, at)

    def _finish(self, sequence: _Sequence, lease: Lease, at: float) -> None:
        self._events.append(
            Finished(
                sequence.id,
                at,
                prompt_tokens=sequence.prompt_tokens,
                cached_tokens=sequence.cached_tokens,
                completion_tokens=sequence.produced,
                latency=at - sequence.submitted_at,
                queued=sequence.admitted_at - sequence.submitted_at,
            )
        )
        self._end(sequence, lease)

    def _end(self, sequence: _Sequence, lease: Lease) -> None:
        """Frees what a running sequence holds. One that is part of the step in progress is passed over at its end."""
        del self._running[sequence.id]
        self._kv.release(lease)
        sequence.lease = None
        if sequence.adapter:
            self._lora.release(sequence.adapter)

    def _admit(self, at: float) -> None:
        admitted: list[_Sequence] = []
        for sequence in self._waiting.values():
            if len(self._running) >= self.config.max_num_seqs:
                break
            # As in vLLM: a request without a slot for its adapter is passed over, one without blocks holds up the rest.
            if sequence.adapter and not self._lora.fits(sequence.adapter):
                continue
            sequence.lease = self._reserve(sequence)
            if sequence.lease is None:
                break
            self._running[sequence.id] = sequence
            admitted.append(sequence)
            sequence.admitted_at = at
            sequence.ready_at = at + self._profile.overhead
            if sequence.adapter:
                sequence.ready_at = max(sequence.ready_at, self._lora.acquire(sequence.adapter, at))
            sequence.computed = sequence.cached_tokens
            self.prefix_queries += sequence.prompt_tokens
            self.prefix_hits += sequence.cached_tokens
        for sequence in admitted:
            del self._waiting[sequence.id]

    def _reserve(self, sequence: _Sequence) -> Lease | None:
        prompt = -(-sequence.prompt_tokens // BLOCK_SIZE)
        in_all = -(-(sequence.prompt_tokens + sequence.max_tokens) // BLOCK_SIZE)
        # At least the prompt's last token is computed in any case: its output is the first token of the answer.
        matchable = (sequence.prompt_tokens - 1) // BLOCK_SIZE
        return self._kv.reserve(sequence.hashes, matchable=matchable, prompt=prompt, answer=in_all - prompt)
