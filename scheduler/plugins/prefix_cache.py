"""`prefix-cache`: towards the pod that has seen most of the prompt's beginning."""

from collections.abc import Iterator, Mapping
from functools import partial
from secrets import randbits
from typing import ClassVar

import numpy as np
from pydantic import Field

from scheduler.framework import MAX_SCORE, Cycle, PluginParams, Tell
from scheduler.prefix import PrefixIndex, packed
from scheduler.types import FloatArray, Pod, Request, Snapshot, Undo

_STATE = "prefix-cache"
#: Blocks per pod that a process that was just started is told: the prompts of the last minutes, in a few milliseconds.
MAX_TOLD = 10_000


class PrefixCacheParams(PluginParams):
    #: Bytes of text per block.
    block_size: int = Field(64, ge=1, le=1 << 20, alias="blockSizeToHash")
    #: Blocks of a prompt's beginning that are looked at.
    max_blocks: int = Field(128, ge=1, le=1 << 20, alias="maxBlocksToMatch")
    #: Blocks remembered per pod.
    max_blocks_per_pod: int = Field(50_000, ge=1, alias="maxHashCacheSize")


class PrefixCache:
    """Score: longest contiguous prefix held, as share of the prompt's blocks. Equal shares score equal.

    Prepares `cycle.prefix_match` for all that read it. What the pod gets is recorded at the pick, so that a second
    request with the same prefix finds it before the first is answered.
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
        self._tell: Tell | None = None

    def prepare(self, request: Request, pods: Snapshot, cycle: Cycle) -> None:
        units, span = self.index.hashes(request.model, request.prompt)
        if units:
            cycle.state[_STATE] = units
            cycle.prefix_match = self.index.match(units, pods)
            cycle.prefix_span = span

    def score(self, request: Request, pods: Snapshot, cycle: Cycle) -> FloatArray:  # noqa: ARG002 - contract
        match = cycle.prefix_match
        return np.zeros(len(pods)) if match is None else match * MAX_SCORE

    def picked(self, request: Request, pod: Pod, cycle: Cycle) -> Undo | None:  # noqa: ARG002 - contract
        units = cycle.state.get(_STATE)
        if units is None:
            return None
        undo = self.index.record(units, pod.address)
        if self._tell is None:
            return undo
        return partial(_both, undo, self._tell(pod.address, packed(units)))

    def left(self, pod: Pod) -> None:
        self.index.forget(pod.address)

    # With other processes

    def share(self, secret: int, tell: Tell) -> None:
        self.index.reseed(secret)
        self._tell = tell

    def told(self, address: str, data: bytes) -> Undo:
        return self.index.record_packed(data, address)

    def memory(self) -> Iterator[tuple[str, bytes]]:
        return self.index.newest(MAX_TOLD)

    def statistics(self) -> Mapping[str, float]:
        """`entries`: blocks held, summed over pods; `blocks`: different ones."""
        return {"entries": self.index.entries, "blocks": self.index.hashes_known}


def _both(first: Undo, second: Undo) -> None:
    first()
    second()
