# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""Requests that are over, and of which the access log is still to say how they ended. No I/O: time is an argument."""

from collections import OrderedDict
from collections.abc import Callable
from math import inf
from typing import NamedTuple

from extproc.outcome.outcome import UNKNOWN, Outcome

#: Seconds to wait for an entry. Envoy sends what it has every 50 ms (envoy/gateway.yaml); machines may be busy.
PATIENCE = 2.0
#: Requests waited for, and entries that came first. Past it the oldest is given up: each may hold its prompt.
MAX_WAITING = 10_000

Finish = Callable[[Outcome], None]


class _Waiting(NamedTuple):
    until: float
    finish: Finish


class _Early(NamedTuple):
    until: float
    outcome: Outcome


class Ledger:
    """Brings requests and their entries together, whichever comes first."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._early: OrderedDict[str, _Early] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(self, key: str, finish: Finish, now: float) -> None:
        """Calls `finish` once: with the entry's outcome, or with `UNKNOWN` when none comes in time."""
        early = self._early.pop(key, None)
        if early is not None:
            finish(early.outcome)
            return
        self._waiting[key] = _Waiting(now + PATIENCE, finish)
        if len(self._waiting) > MAX_WAITING:
            self._waiting.popitem(last=False)[1].finish(UNKNOWN)

    def arrived(self, key: str, outcome: Outcome, now: float) -> None:
        """An entry of the access log."""
        waiting = self._waiting.pop(key, None)
        if waiting is not None:
            waiting.finish(outcome)
            return
        # Envoy writes its log before or after it ends the stream, as it happens.
        self._early[key] = _Early(now + PATIENCE, outcome)
        if len(self._early) > MAX_WAITING:
            self._early.popitem(last=False)

    def give_up(self) -> None:
        """Nothing will come any more."""
        self.expire(inf)

    def expire(self, now: float) -> None:
        """Gives up what was waited for long enough. Call it now and then."""
        waiting, early = self._waiting, self._early
        while waiting and next(iter(waiting.values())).until <= now:
            waiting.popitem(last=False)[1].finish(UNKNOWN)
        while early and next(iter(early.values())).until <= now:
            early.popitem(last=False)
