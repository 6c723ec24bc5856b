# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""Prefill that was sent to a pod and has not produced a first token, in seconds.

An engine computes prompts in the order in which they came, so a request waits for the prompts ahead of it. What is
ahead shrinks with whatever is known first of each request:

- its first token, by a signal of the data plane (`begin`);
- the engine's own count of first tokens on a page of metrics (`counted`), which takes the oldest;
- a model of the pod, which works off the oldest at `DRAIN` times the pace that was learnt for it (`by`);
- its end (`begin` again), whatever it was: with nothing in flight, the backlog is 0.
"""

from collections import deque
from math import floor

from scheduler.cost import DRAIN

#: Requests that ended and may still be in the queues beyond as many as wait: their removal is then one pass.
_SLACK = 64


class Waiting:
    """A request's part of a backlog."""

    __slots__ = ("ahead", "left", "sent_at", "waits")

    def __init__(self) -> None:
        #: Seconds of its prefill that are still to be done, as far as is known.
        self.left = 0.0
        #: Prompt tokens of others that the pod had to compute before its own, when it was sent.
        self.ahead = 0.0
        self.sent_at = 0.0
        #: Whether its first token is still to come.
        self.waits = False


class Backlog:
    """The prefill that waits at one pod. All times are monotonic seconds."""

    __slots__ = ("_begun", "_part", "_undone", "_waiting", "at", "seconds", "waiting")

    def __init__(self) -> None:
        #: Requests without a first token.
        self.waiting = 0
        #: What is to be done as of `at`, up to when the model has worked; from then on, it shrinks by `DRAIN` a second.
        self.seconds = 0.0
        self.at = 0.0
        #: Oldest first: those without a first token; those which the model has not worked off. Others may be in there.
        self._waiting: deque[Waiting] = deque()
        self._undone: deque[Waiting] = deque()
        #: First tokens known since the last page, and the fraction that the pages gave beyond whole ones.
        self._begun = 0
        self._part = 0.0

    def by(self, now: float) -> float:
        """The backlog at `now` in seconds, 0 or more."""
        return max(self.seconds - max(now - self.at, 0.0) * DRAIN, 0.0)

    def add(self, request: Waiting, tokens: float, pace: float, now: float) -> None:
        """A request was sent, with so many `tokens` to compute; `pace` is in seconds per token."""
        self._work(now)
        seconds = tokens * pace
        request.left = seconds
        request.ahead = self.seconds / pace
        request.sent_at = now
        request.waits = True
        self.waiting += 1
        self.seconds += seconds
        self._waiting.append(request)
        self._undone.append(request)

    def begin(self, request: Waiting, now: float) -> None:
        """The first token of a request came, or will not come any more. Further calls do nothing."""
        if request.waits:
            self._work(now)
            self._begun += 1
            self._take(request)

    def counted(self, count: float, share: float, before: float) -> list[Waiting]:
        """The engine reported `count` first tokens since its last page: releases the oldest, and returns them.

        Args:
            count: first tokens.
            share: of the requests there that are known here, 0-1. The engine may serve others.
            before: when the page was asked for; requests that were sent later are not on it.
        """
        told = count * share + self._part
        whole = floor(told)
        # Which of them began is not reported. Those that are known to have begun are among them; one that was given up
        # before its first token is not, but is taken for it: the backlog then shrinks too late, never too early.
        self._part = told - whole
        left = whole - self._begun
        self._begun = 0
        released: list[Waiting] = []
        queue = self._waiting
        while left > 0 and queue and (not queue[0].waits or queue[0].sent_at <= before):
            request = queue.popleft()
            if request.waits:
                left -= 1
                self._take(request)
                released.append(request)
        if not self.waiting:
            self._part = 0.0
        return released

    def clear(self) -> None:
        """Nothing waits any more: the engine is gone."""
        for request in self._waiting:
            request.waits = False
            request.left = 0.0
        self._waiting.clear()
        self._undone.clear()
        self.waiting = self._begun = 0
        self.seconds = self._part = 0.0

    def _take(self, request: Waiting) -> None:
        request.waits = False
        self.waiting -= 1
        if self.waiting:
            # Rounding must not leave less than nothing.
            self.seconds = max(self.seconds - request.left, 0.0)
            request.left = 0.0
            if len(self._waiting) > 2 * self.waiting + _SLACK:
                self._waiting = deque([one for one in self._waiting if one.waits])
                self._undone = deque([one for one in self._undone if one.left > 0.0])
        else:
            self.seconds = request.left = 0.0
            self._waiting.clear()
            self._undone.clear()

    def _work(self, now: float) -> None:
        """Lets the model work off what it has by `now`."""
        done = (now - self.at) * DRAIN
        self.at = max(now, self.at)
        if done <= 0.0 or self.seconds == 0.0:
            return
        if done >= self.seconds:
            for request in self._undone:
                request.left = 0.0
            self._undone.clear()
            self.seconds = 0.0
            return
        self.seconds -= done
        undone = self._undone
        while done > 0.0 and undone:
            first = undone[0]
            if first.left > done:
                first.left -= done
                return
            done -= first.left
            first.left = 0.0
            undone.popleft()
