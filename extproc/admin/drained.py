"""A wait for the end of the last answer: what a container that is about to stop asks, and nothing that it changes."""

import asyncio
from collections.abc import Awaitable, Callable

#: Waits at one time. A pod that stops asks once, a compose stack once; any client that reaches the port may ask too.
MAX_WAITS = 16
#: Seconds that one wait may take, whatever is asked for: the longest grace period that the chart allows.
LONGEST = 3600.0
#: Seconds between looks. An answer takes seconds, and an end is waited for by a person at the most.
LOOK = 0.1


class TooManyWaits(Exception):
    """So many wait already that one more is refused."""


class Drained:
    """Waits until no ext_proc stream is open: each stays open until its request's answer is over.

    Args:
        streams: counts the open ones.
        sleep: of asyncio's.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        streams: Callable[[], Awaitable[int]],
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float],
        max_waits: int = MAX_WAITS,
    ) -> None:
        self._streams = streams
        self._sleep = sleep
        self._clock = clock
        self._max_waits = max_waits
        self._waits = 0

    async def wait(self, after: float, within: float) -> int:
        """Returns the number of streams that are open then: 0, or more once `within` seconds have passed.

        Args:
            after: seconds that pass in any case, until the load balancers have noticed.
            within: seconds after which the wait is given up, at most `LONGEST`.

        Raises:
            TooManyWaits: `max_waits` are under way.
        """
        if self._waits >= self._max_waits:
            raise TooManyWaits
        self._waits += 1
        try:
            until = self._clock() + min(within, LONGEST)
            await self._sleep(min(after, within, LONGEST))
            while (left := await self._streams()) and self._clock() < until:
                await self._sleep(LOOK)
            return left
        finally:
            self._waits -= 1
