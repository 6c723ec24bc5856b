"""`prefix-cache`: towards the pod that has seen most of the prompt's beginning."""

from collections.abc import Iterator, Mapping
from functools import partial
from secrets import randbits
from typing import ClassVar

import numpy as np
from pydantic import Field

from scheduler.framework import MAX_SCORE, Cycle, PluginParams, Tell
from scheduler.prefix.index import PrefixIndex
from scheduler.types import CHARS_PER_TOKEN, FloatArray, Pod, Request, Snapshot, Undo

_STATE = "prefix-cache"
#: Blocks per pod sent to a process that was just started: the prompts of the last minutes, in a few milliseconds.
MAX_TOLD = 10_000


class PrefixCacheParams(PluginParams):
    #: Bytes of text per block of a prompt's head.
    block_size: int = Field(64, ge=1, le=1 << 20, alias="blockSizeToHash")
    #: Blocks of the head: what is scored. Behind it, blocks grow with their distance from the prompt's beginning.
    max_blocks: int = Field(128, ge=1, le=1 << 20, alias="maxBlocksToMatch")
    #: Blocks of heads remembered per pod. Left out: as many as its KV cache has room for where the engine reports its
    #: size, else 50,000.
    max_blocks_per_pod: int | None = Field(None, ge=1, alias="maxHashCacheSize")


class PrefixCache:
    """Score: longest contiguous prefix held, as share of the blocks of the prompt's head. Equal shares score equal.

    Prepares `cycle.prefix_match` for all that read it, which is of the whole prompt. What the pod gets is recorded at
    the pick, so that a second request with the same prefix finds it before the first is answered.
    """

    name: ClassVar[str] = "prefix-cache"
    Params: ClassVar[type[PluginParams]] = PrefixCacheParams

    def __init__(self, params: PrefixCacheParams, *, seed: int | None = None) -> None:
        self.index = PrefixIndex(
            block_size=params.block_size,
            max_blocks=params.max_blocks,
            max_blocks_per_pod=params.max_blocks_per_pod,
            # Drawn once per configuration and never part of a decision but as a secret: not a die of the plugin's own.
            seed=randbits(64) if seed is None else seed,
        )
        self._head = params.block_size * params.max_blocks
        self._tell: Tell | None = None
        #: Sizes of the pods' KV caches as of the last decision.
        self._rooms = b""

    def prepare(self, request: Request, pods: Snapshot, cycle: Cycle) -> None:
        rooms = pods.kv_tokens.tobytes()
        if rooms != self._rooms:
            self._rooms = rooms
            for pod, tokens in zip(pods.pods, pods.kv_tokens.tolist(), strict=True):
                self.index.set_room(pod.address, 0 if tokens != tokens else int(tokens * CHARS_PER_TOKEN))
        units, span = self.index.hasher.hashes(request.model, request.prompt)
        if units:
            cycle.state[_STATE] = units
            cycle.prefix_match = self.index.match(units, pods)
            cycle.prefix_span = span

    def score(self, request: Request, pods: Snapshot, cycle: Cycle) -> FloatArray:  # noqa: ARG002 - contract
        match, units = cycle.prefix_match, cycle.state.get(_STATE)
        if match is None or units is None:
            return np.zeros(len(pods))
        text = sum([unit.size * unit.count for unit in units])
        if text <= self._head:
            whole: FloatArray = match * MAX_SCORE
            return whole
        scores: FloatArray = np.minimum(match * (text / self._head), 1.0) * MAX_SCORE
        return scores

    def picked(self, request: Request, pod: Pod, cycle: Cycle) -> Undo | None:  # noqa: ARG002 - contract
        units = cycle.state.get(_STATE)
        if units is None:
            return None
        if self._tell is None:
            return self.index.record(units, pod.address)
        note = self.index.news(units, pod.address)
        return partial(_both, self.index.record(units, pod.address), self._tell(pod.address, note))

    def left(self, pod: Pod) -> None:
        self.index.forget(pod.address)

    # With other processes

    def share(self, secret: int, tell: Tell) -> None:
        self.index.reseed(secret)
        self._tell = tell

    def told(self, address: str, data: bytes) -> Undo:
        return self.index.record_note(data, address)

    def memory(self) -> Iterator[tuple[str, bytes]]:
        return self.index.newest(MAX_TOLD)

    def statistics(self) -> Mapping[str, float]:
        """`entries`: blocks held, summed over pods; `blocks`: different ones."""
        return {"entries": self.index.entries, "blocks": self.index.hashes_known}


def _both(first: Undo, second: Undo) -> None:
    first()
    second()
