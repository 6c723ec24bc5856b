"""`lora-affinity`: requests for a LoRA adapter go where it is loaded, or where there is room to load it."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from pydantic import Field

from scheduler.framework import Cycle, PluginParams, Tell
from scheduler.types import Adapters, BoolArray, Pod, Request, Snapshot, Undo

#: Names of adapters that are remembered, and those of one pod whose engine does not give the capacity: clients make up
#: names, though only what an engine reported counts.
MOST_ADAPTERS = 10_000
MOST_LOADED = 256


class LoraAffinityParams(PluginParams):
    #: Models that are not adapters: their requests may go anywhere.
    base_models: tuple[str, ...] = Field((), strict=False, alias="baseModels")


class LoraAffinity:
    """Filter: pods that run or wait for the adapter, or have it loaded; if there are none, those with a free place.

    Engines report adapters of requests that are under way. One that is idle stays loaded until its place is wanted: so
    a pod is taken to have the adapters that were sent there last, as many as it has places for. A name that no pod has
    among its adapters is taken for one that is yet to be loaded, unless it is one of `baseModels`.
    """

    name: ClassVar[str] = "lora-affinity"
    Params: ClassVar[type[PluginParams]] = LoraAffinityParams
    prefers: ClassVar[bool] = True

    def __init__(self, params: LoraAffinityParams) -> None:
        self._base_models = frozenset(params.base_models)
        #: Names that some engine reported among its adapters.
        self._adapters: set[str] = set()
        #: By pod: adapters that were sent there, the last one last.
        self._sent: dict[str, dict[str, None]] = {}
        self._tell: Tell | None = None

    def keep(self, request: Request, pods: Snapshot, cycle: Cycle) -> BoolArray:  # noqa: ARG002 - contract
        homes: dict[str | None, BoolArray] = pods.derive((self, "homes"), self._homes)
        model = request.model
        if not model or model in self._base_models:
            return homes[None]
        home = homes.get(model)
        sent = [model in self._sent.get(pod.address, ()) for pod in pods.pods]
        if not any(sent):
            return homes[""] if home is None else home
        loaded = np.array(sent, np.bool_)
        return loaded if home is None else loaded | home

    def picked(self, request: Request, pod: Pod, cycle: Cycle) -> Undo | None:  # noqa: ARG002 - contract
        model = request.model
        if model not in self._adapters:
            return None
        self._note(pod.address, model)
        # Sent in vain, it may be loaded all the same: nothing is taken back.
        return None if self._tell is None else self._tell(pod.address, model.encode("utf-8", "surrogatepass"))

    def left(self, pod: Pod) -> None:
        self._sent.pop(pod.address, None)

    # With other processes

    def share(self, secret: int, tell: Tell) -> None:  # noqa: ARG002 - contract
        self._tell = tell

    def told(self, address: str, data: bytes) -> Undo:
        self._note(address, data.decode("utf-8", "surrogatepass"))
        return _nothing

    def memory(self) -> Iterator[tuple[str, bytes]]:
        for address, sent in list(self._sent.items()):
            for model in list(sent):
                yield address, model.encode("utf-8", "surrogatepass")

    def _note(self, address: str, model: str) -> None:
        sent = self._sent.setdefault(address, {})
        sent.pop(model, None)
        sent[model] = None
        if len(sent) > MOST_LOADED:
            del sent[next(iter(sent))]

    def _homes(self, pods: Snapshot) -> dict[str | None, BoolArray]:
        """Masks by adapter; "" is where an adapter that is nowhere may go, None is everywhere."""
        everywhere = np.ones(len(pods), np.bool_)
        rooms = [
            bool(adapters.capacity) and len(adapters.running | adapters.waiting) < adapters.capacity
            for adapters in pods.adapters
        ]
        homes: dict[str | None, BoolArray] = {
            None: everywhere,
            "": np.array(rooms, np.bool_) if any(rooms) else everywhere,
        }
        for row, adapters in enumerate(pods.adapters):
            for adapter in adapters.running | adapters.waiting:
                if adapter:
                    homes.setdefault(adapter, np.zeros(len(pods), np.bool_))[row] = True
                    if len(self._adapters) < MOST_ADAPTERS:
                        self._adapters.add(adapter)
            if adapters.capacity:
                self._trim(pods.pods[row].address, adapters)
        return homes

    def _trim(self, address: str, adapters: Adapters) -> None:
        """Running adapters have their places; the adapters sent last get the rest."""
        sent = self._sent.get(address)
        if sent is not None:
            idle = [model for model in sent if model not in adapters.running]
            for model in idle[: max(len(idle) - max(adapters.capacity - len(adapters.running), 0), 0)]:
                del sent[model]


def _nothing() -> None:
    pass
