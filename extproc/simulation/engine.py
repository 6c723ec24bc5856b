"""The model of `modelsim.engine`, for discrete events: it computes only what a simulation needs, and skips equal steps.

An engine that decodes does the same step again and again until a request ends, one arrives, or a prompt is ready to be
computed. Such a run of steps is one event here, whatever its length; `modelsim`'s engine, which has to send every
token, is the oracle that the tests compare with, step by step.
"""

from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import count
from math import ceil, floor, inf
from typing import Final
from zlib import crc32

from extproc.simulation.kv_cache import KVCache, Lease, ends_of
from modelsim.lora import LoraSlots
from modelsim.profile import BLOCK_SIZE, EngineConfig

BEGAN: Final = "began"
FINISHED: Final = "finished"


class Job:
    """A request in an engine. Times are seconds of the simulation."""

    __slots__ = (
        "adapter", "admitted_at", "computed", "end_step", "finished_at", "first_at", "first_step", "lease",
        "output_tokens", "owner", "place", "prompt_tokens", "ready_at", "submitted_at",
    )  # fmt: skip

    def __init__(
        self,
        owner: object,
        prompt_tokens: int,
        output_tokens: int,
        blocks: Sequence[int],
        block_tokens: int,
        adapter: str = "",
    ) -> None:
        """Makes a job.

        Args:
            owner: whose it is; the engine hands it back.
            prompt_tokens: at least 1.
            output_tokens: at least 1.
            blocks: names of the prompt's blocks in their order; the last may be partly filled.
            block_tokens: tokens of a block, a multiple of `BLOCK_SIZE`.
            adapter: LoRA adapter, or empty.
        """
        self.owner = owner
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        self.adapter = adapter
        ends = ends_of(prompt_tokens, block_tokens, len(blocks))
        # A block is what it is by all before it, whatever the trace's names say; and by the adapter, which changes the
        # keys and values of every token. Hashes of numbers are the same in every process.
        name = crc32(adapter.encode())
        chain = [name := hash((name, block)) for block in blocks[: len(ends)]]
        self.lease = Lease(chain, ends)
        self.submitted_at = self.admitted_at = self.ready_at = 0.0
        self.first_at = self.finished_at = inf
        #: Number of its admission.
        self.place = 0
        #: Prompt tokens that are in the cache.
        self.computed = 0
        #: Decode steps of the engine by which the first and the last token are there.
        self.first_step = self.end_step = 0

    @property
    def cached_tokens(self) -> int:
        return self.lease.cached * BLOCK_SIZE

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens


def _place(job: Job) -> int:
    return job.place


class Engine:
    """One pod's engine. `now` never goes backwards. Ask `next_event` after each call, and `advance` then."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self._profile = config.profile
        self.kv = KVCache(config.num_blocks)
        self._lora = LoraSlots(config.max_loras, self._profile.adapter_load)
        self._waiting: dict[Job, None] = {}
        #: Admitted, in that order, and not at the first token yet.
        self._prefilling: dict[Job, None] = {}
        self._decoding: dict[Job, None] = {}
        self._events: list[tuple[str, Job, float]] = []
        # The run of equal steps that is under way: none where the duration is 0.
        self._start = 0.0
        self._duration = 0.0
        self._planned = 0
        self._done = 0
        self._prefills: list[tuple[Job, int]] = []
        #: Decode steps ever done.
        self._step = 0
        #: When which decoding job ends, in decode steps. Of aborted ones too, which are passed over.
        self._ends: list[tuple[int, int, Job]] = []
        self._order = count()
        #: Decoding jobs by the remainder of the step at which their answer begins a block.
        self._growth = [0] * BLOCK_SIZE
        # What a scrape asks for, sums since the start.
        self.prefix_queries = self.prefix_hits = 0
        self.ttft_count = self.tpot_count = 0
        self.ttft_sum = self.tpot_sum = 0.0
        self.prompt_tokens_computed = 0

    @property
    def running(self) -> int:
        return len(self._prefilling) + len(self._decoding)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def adapters(self) -> tuple[list[str], list[str]]:
        """Those that run and those that wait, each once, in order."""
        running = [job.adapter for jobs in (self._prefilling, self._decoding) for job in jobs if job.adapter]
        waiting = [job.adapter for job in self._waiting if job.adapter]
        return list(dict.fromkeys(running)), list(dict.fromkeys(waiting))

    def fits(self, job: Job) -> bool:
        """Whether the engine could ever hold it."""
        return job.tokens <= self.config.longest

    def submit(self, job: Job, now: float) -> None:
        """Queues a job, which fits."""
        self._run_until(now)
        job.submitted_at = now
        self._waiting[job] = None
        self._admit(now)

    def abort(self, job: Job, now: float) -> None:
        """Ends a job and frees all that it held. Nothing if it has ended."""
        self._run_until(now)
        if job in self._waiting:
            del self._waiting[job]
            return
        if job in self._decoding:
            del self._decoding[job]
            self._growth[(job.first_step - job.prompt_tokens) % BLOCK_SIZE] -= 1
            self._settle_growth(job)
            job.end_step = -1
            if self._duration and not self._prefills:
                # The step under way ends as it was begun; the next has one job less.
                self._planned = self._done + 1
        elif job in self._prefilling:
            del self._prefilling[job]
        else:
            return
        self._free(job)
        self._admit(now)

    def next_event(self) -> float:
        """When `advance` has something to do; infinity where nothing is in progress."""
        if self._duration:
            return self._start + self._planned * self._duration
        return min((job.ready_at for job in self._prefilling), default=inf)

    def advance(self, now: float) -> list[tuple[str, Job, float]]:
        """Does what is due up to and including `now`. Returns what happened since the last call: what, whose, when."""
        self._run_until(now)
        events, self._events = self._events, []
        return events

    def settle(self, now: float) -> None:
        """Brings what a scrape reads up to `now`."""
        self._run_until(now)

    def _run_until(self, now: float) -> None:
        while (moment := self.next_event()) <= now:
            if self._duration:
                self._finish_run(moment)
            self._start_run(moment)
        if self._duration and not self._prefills:
            # Between: count the steps that are over.
            done = min(floor((now - self._start) / self._duration), self._planned - 1)
            if done > self._done:
                self._decoded(done - self._done)
                self._done = done

    def _start_run(self, at: float) -> None:
        decoding = len(self._decoding)
        budget = self.config.max_num_batched_tokens - decoding
        prefills: list[tuple[Job, int]] = []
        prefilled = 0
        ready = inf
        for job in self._prefilling:
            if job.ready_at > at:
                ready = min(ready, job.ready_at)
                continue
            tokens = min(job.prompt_tokens - job.computed, budget - prefilled)
            if not tokens:
                ready = at
                break
            prefills.append((job, tokens))
            prefilled += tokens
        self._prefills = prefills
        self._start, self._done, self._planned = at, 0, 1
        duration = prefilled * self._profile.per_prompt_token
        if decoding:
            duration += self._profile.inter_token + decoding * self._profile.per_sequence
        self._duration = duration
        if decoding and not prefills:
            self._planned = self._first_end() - self._step
            self._not_beyond(ready)

    def _first_end(self) -> int:
        ends = self._ends
        while ends[0][0] <= self._step or ends[0][2].end_step < 0:
            heappop(ends)
        return ends[0][0]

    def _not_beyond(self, ready: float) -> None:
        """The run ends with the first step at whose end a prompt that is ready by then can be computed."""
        if ready < inf and self._duration and not self._prefills:
            steps = max(ceil((ready - self._start) / self._duration), self._done + 1)
            self._planned = min(self._planned, steps)

    def _finish_run(self, at: float) -> None:
        prefills, self._prefills = self._prefills, []
        if self._decoding:
            self._decoded(self._planned - 1 - self._done)
            self._last_step(at)
        self._duration = 0.0
        for job, tokens in prefills:
            if job not in self._prefilling:
                continue
            job.computed += tokens
            self.prompt_tokens_computed += tokens
            self.kv.publish(job.lease, job.computed // BLOCK_SIZE)
            if job.computed == job.prompt_tokens:
                self._first_token(job, at)
        self._admit(at)

    def _first_token(self, job: Job, at: float) -> None:
        job.first_at = at
        self.ttft_count += 1
        self.ttft_sum += at - job.submitted_at
        self._events.append((BEGAN, job, at))
        del self._prefilling[job]
        if job.prompt_tokens % BLOCK_SIZE == 0:
            self.kv.grow(job.lease)
        job.first_step = self._step
        job.end_step = self._step + job.output_tokens - 1
        if job.output_tokens == 1:
            self._finish(job, at)
            return
        self._decoding[job] = None
        self._growth[(job.first_step - job.prompt_tokens) % BLOCK_SIZE] += 1
        heappush(self._ends, (job.end_step, next(self._order), job))

    def _decoded(self, steps: int) -> None:
        """Counts steps at whose end no job ended."""
        if steps <= 0:
            return
        jobs = len(self._decoding)
        self.tpot_count += jobs * steps
        self.tpot_sum += jobs * steps * self._duration
        whole, rest = divmod(steps, BLOCK_SIZE)
        blocks = whole * jobs
        for step in range(self._step + 1, self._step + rest + 1):
            blocks += self._growth[step % BLOCK_SIZE]
        self._step += steps
        if blocks:
            self.kv.grown(blocks)

    def _last_step(self, at: float) -> None:
        """The step that ends a run, of which jobs may end with it: one after the other, as each frees blocks."""
        if self._first_end() > self._step + 1:
            self._decoded(1)
            return
        # In the order of their admission: with adapters, that is not the order of their first tokens.
        jobs = sorted(self._decoding, key=_place)
        self.tpot_count += len(jobs)
        self.tpot_sum += len(jobs) * self._duration
        self._step += 1
        step = self._step
        for job in jobs:
            slot = (job.first_step - job.prompt_tokens) % BLOCK_SIZE
            if slot == step % BLOCK_SIZE:
                self.kv.grown(1)
            if job.end_step == step:
                del self._decoding[job]
                self._growth[slot] -= 1
                self._settle_growth(job)
                self._finish(job, at)

    def _settle_growth(self, job: Job) -> None:
        """Assigns this job its blocks, of all blocks that answers have begun."""
        first = job.prompt_tokens // BLOCK_SIZE + (job.prompt_tokens % BLOCK_SIZE > 0)
        # The first token's own block was counted when it came.
        already = job.prompt_tokens % BLOCK_SIZE == 0
        produced = self._step - job.first_step + 1
        blocks = ceil((job.prompt_tokens + produced) / BLOCK_SIZE) - first - already
        job.lease.private += blocks
        job.lease.promised -= blocks

    def _finish(self, job: Job, at: float) -> None:
        job.finished_at = at
        self._events.append((FINISHED, job, at))
        self._free(job)

    def _free(self, job: Job) -> None:
        self.kv.release(job.lease)
        if job.adapter:
            self._lora.release(job.adapter)

    def _admit(self, at: float) -> None:
        if not self._waiting:
            return
        admitted: list[Job] = []
        for job in self._waiting:
            if self.running >= self.config.max_num_seqs:
                break
            # As in vLLM: a job without a slot for its adapter is passed over, one without blocks holds up the rest.
            if job.adapter and not self._lora.fits(job.adapter):
                continue
            if not self._reserve(job):
                break
            self._prefilling[job] = None
            admitted.append(job)
            job.admitted_at = at
            job.place = next(self._order)
            job.ready_at = at + self._profile.overhead
            if job.adapter:
                job.ready_at = max(job.ready_at, self._lora.acquire(job.adapter, at))
            job.computed = job.cached_tokens
            self.prefix_queries += job.prompt_tokens
            self.prefix_hits += job.computed
        for job in admitted:
            del self._waiting[job]
            self._not_beyond(job.ready_at)

    def _reserve(self, job: Job) -> bool:
        prompt = -(-job.prompt_tokens // BLOCK_SIZE)
        in_all = -(-(job.prompt_tokens + job.output_tokens) // BLOCK_SIZE)
        matchable = (job.prompt_tokens - 1) // BLOCK_SIZE
        return self.kv.reserve(job.lease, matchable=matchable, prompt=prompt, answer=in_all - prompt)
