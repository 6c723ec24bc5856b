"""Small plugins that do as they are told, good and bad ones."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from scheduler.framework import Cycle, NoParams, PluginParams
from scheduler.types import Pod, Request, Snapshot


class Scores:
    """A scorer of fixed scores by row, or of whatever a function of the snapshot answers."""

    name: ClassVar[str] = "scores"
    Params: ClassVar[type[PluginParams]] = NoParams
    scraped_only = False

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def score(self, request: Request, pods: Snapshot, cycle: Cycle) -> Any:
        return self._answer(pods) if callable(self._answer) else np.array(self._answer, np.float64)


class Keeps:
    """A filter of a fixed mask, or of whatever a function of the snapshot answers."""

    name: ClassVar[str] = "keeps"
    Params: ClassVar[type[PluginParams]] = NoParams

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def keep(self, request: Request, pods: Snapshot, cycle: Cycle) -> Any:
        return self._answer(pods) if callable(self._answer) else np.array(self._answer, np.bool_)


class Prepares:
    """Sets `cycle.prefix_match`, and remembers for which pods."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self.seen: Snapshot | None = None

    def prepare(self, request: Request, pods: Snapshot, cycle: Cycle) -> None:
        self.seen = pods
        cycle.prefix_match = self._answer(pods) if callable(self._answer) else self._answer


class Records:
    """Remembers picks, and pods that left."""

    def __init__(self, *, undo: bool = True) -> None:
        self._undo = undo
        self.pods: list[str] = []
        self.gone: list[str] = []

    def picked(self, request: Request, pod: Pod, cycle: Cycle) -> Callable[[], None] | None:
        self.pods.append(pod.address)
        return (lambda: self.pods.remove(pod.address)) if self._undo else None

    def left(self, pod: Pod) -> None:
        self.gone.append(pod.address)


def broken(*_: object) -> Any:
    """Raises, whatever it is given."""
    raise RuntimeError("broken")


class Clock:
    """Moves on by the next of `steps` at each reading after the first; stands still when they are used up."""

    def __init__(self, *steps: float) -> None:
        self.now = 100.0
        self._steps = list(steps)
        self._read = False

    def __call__(self) -> float:
        if self._read and self._steps:
            self.now += self._steps.pop(0)
        self._read = True
        return self.now


class Faults:
    """What a profile reports."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []
        self.errors: list[Exception] = []

    def __call__(self, name: str, phase: str, error: Exception, /) -> None:
        self.seen.append((name, phase))
        self.errors.append(error)
