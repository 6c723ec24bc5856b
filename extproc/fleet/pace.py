"""How much of the deciding process reading metrics may take: pods take turns, and wait for them when there are many.

A page takes a third of a millisecond of the one thread that decides. Each pod is asked after its interval as long as
all of them together stay within a share of that thread, one page at a time; else turns lie further apart, so that the
interval in force grows, up to `MAX_INTERVAL`. They also do when the thread is late for a turn: then requests keep it
busy, and they go first. Pods with requests in flight get their turns before the others, of which less changes.
"""

import asyncio
import heapq
import itertools
import logging
import time
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

#: Share of the thread that pages may take. At 2,000 pods that is one turn a 1.7 ms, and a round of 3.4 s.
SHARE: Final = 0.2
#: … as long as not every pod was asked: only requests wait for that.
STARTING_SHARE: Final = 0.8
#: Seconds between two pages of a pod to which turns may stretch it. It is kept to, whatever the share: signals that are
#: older steer worse than none.
MAX_INTERVAL: Final = 5.0
#: Seconds that a page takes, before any was read, and the weight of each new one in the mean.
FIRST_COST: Final = 0.0003
WEIGHT: Final = 0.02
#: Seconds by which a turn may be late before pages give way, and how fast they do and come back, a turn.
LATE: Final = 0.005
GIVE_WAY: Final = 1.05
COME_BACK: Final = 0.98
#: Interval, as a multiple of the wanted one, above which a warning is logged.
TELL: Final = 1.5
#: Seconds that a turn of a pod without requests in flight may be put off at most, for those with.
IDLE_WAIT: Final = 2.0


class Pace:
    """The turns of all pods of a process. One thread only.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: Pods that are asked, and the interval that each wants.
        self._pods = 0
        self._wanted = 0.0
        self._cost = FIRST_COST
        self._stretch = 1.0
        self._starting = True
        self._queue: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._next = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._told = False

    @property
    def gap(self) -> float:
        """Seconds from one turn to the next."""
        gap = self._cost / (STARTING_SHARE if self._starting else SHARE) * self._stretch
        return min(gap, MAX_INTERVAL / self._pods) if self._pods else gap

    @property
    def interval(self) -> float:
        """Seconds from one page of a pod to the next that are in force: at least those that are asked for."""
        return max(self._wanted, self._pods * self.gap)

    def pods(self, count: int, interval: float) -> None:
        """There are `count` pods, each of which is to be asked every `interval` seconds; it may be more."""
        self._pods, self._wanted = count, interval
        self._tell()

    def started(self) -> None:
        """Every pod was asked."""
        self._starting = False

    async def turn(self, *, busy: bool) -> None:
        """Returns when the next page may be asked for. `busy`: of a pod with requests in flight."""
        now = self._clock()
        if not self._queue and now >= self._next:
            self._next = now + self.gap
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        due = now if busy else now + IDLE_WAIT
        heapq.heappush(self._queue, (due, next(self._numbers), future))
        self._schedule()
        await future

    def took(self, cost: float) -> None:
        """A page took `cost` seconds of the thread."""
        self._cost += (cost - self._cost) * WEIGHT

    def _schedule(self) -> None:
        if self._timer is None and self._queue:
            delay = max(self._next - self._clock(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay, self._grant)

    def _grant(self) -> None:
        self._timer = None
        now = self._clock()
        late = now - self._next
        if late > LATE:
            self._stretch = min(self._stretch * GIVE_WAY, MAX_INTERVAL / self._cost)
        else:
            self._stretch = max(self._stretch * COME_BACK, 1.0)
        while self._queue:
            _, _, future = heapq.heappop(self._queue)
            if not future.done():  # else it was cancelled: its pod has left
                future.set_result(None)
                # What was late is made up for, but for one turn no more than one: requests come in between.
                self._next = max(self._next, now - LATE) + self.gap
                break
        self._tell()
        self._schedule()

    def _tell(self) -> None:
        stretched = self._wanted > 0 and self.interval > TELL * self._wanted
        if stretched and not self._told and not self._starting:
            self._told = True
            log.warning(
                "metrics are read more rarely: there are more pods than this process reads in time",
                extra={"pods": self._pods, "wanted": self._wanted, "interval": round(self.interval, 3)},
            )
