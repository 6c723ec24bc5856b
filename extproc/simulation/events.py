"""What happens, in the order of its time: the simulation's only clock."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Any


class Events:
    """Things to be done at moments. Those of one moment are done in the order in which they were asked for."""

    def __init__(self) -> None:
        #: Seconds since the beginning.
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._order = count()

    def at(self, moment: float, do: Callable[..., object], *arguments: Any) -> None:
        """`do(*arguments)` at `moment`, or now if that is past. Never, if it is infinite."""
        if moment < inf:
            heappush(self._heap, (max(moment, self.now), next(self._order), do, arguments))

    def after(self, seconds: float, do: Callable[..., object], *arguments: Any) -> None:
        self.at(self.now + seconds, do, *arguments)

    def step(self) -> bool:
        """Does the next thing. False: there is none."""
        if not self._heap:
            return False
        self.now, _, do, arguments = heappop(self._heap)
        do(*arguments)
        return True
