"""`lora-affinity`: requests for a LoRA adapter go where it is loaded, or where there is room to load it."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from scheduler.framework import Cycle, PluginParams
from scheduler.types import BoolArray, Request, Snapshot


class LoraAffinityParams(PluginParams):
    #: Models that are not adapters: their requests may go anywhere.
    base_models: tuple[str, ...] = Field((), strict=False, alias="baseModels")


class LoraAffinity:
    """Filter: pods that run or wait for the adapter; if there are none, those with a free place; if none, all.

    A name that no pod has among its adapters is taken for one that is yet to be loaded, unless it is one of
    `baseModels`.
    """

    name: ClassVar[str] = "lora-affinity"
    Params: ClassVar[type[PluginParams]] = LoraAffinityParams

    def __init__(self, params: LoraAffinityParams) -> None:
        self._base_models = frozenset(params.base_models)

    def keep(self, request: Request, pods: Snapshot, cycle: Cycle) -> BoolArray:  # noqa: ARG002 - contract
        homes: dict[str | None, BoolArray] = pods.derive(LoraAffinity, _homes)
        model = request.model
        if not model or model in self._base_models:
            return homes[None]
        return homes.get(model, homes[""])


def _homes(pods: Snapshot) -> dict[str | None, BoolArray]:
    """Masks by adapter; "" is where an adapter that is nowhere may go, None is everywhere."""
    everywhere = np.ones(len(pods), np.bool_)
    rooms = [
        bool(adapters.capacity) and len(adapters.running | adapters.waiting) < adapters.capacity
        for adapters in pods.adapters
    ]
    homes: dict[str | None, BoolArray] = {None: everywhere, "": np.array(rooms, np.bool_) if any(rooms) else everywhere}
    for row, adapters in enumerate(pods.adapters):
        for adapter in adapters.running | adapters.waiting:
            if adapter:
                homes.setdefault(adapter, np.zeros(len(pods), np.bool_))[row] = True
    return homes
