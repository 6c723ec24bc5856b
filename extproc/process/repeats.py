"""A warning that anybody can bring about is written once, then with a count: a log must not be filled by strangers."""

import logging
import time
from collections.abc import Callable

#: Seconds from one line to the next of the same cause.
INTERVAL = 60.0


class Repeats:
    """Warnings of one cause.

    Args:
        log: where they go.
        message: the text of all of them.
        clock: monotonic seconds.
    """

    __slots__ = ("_clock", "_due", "_log", "_message", "_unsaid")

    def __init__(self, log: logging.Logger, message: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._message = message
        self._clock = clock
        self._due: float | None = None
        self._unsaid = 0

    def warn(self, detail: str, times: int = 1) -> None:
        """Writes a line, or counts for the next one: its `repeated` is how many came since the last and have none."""
        now = self._clock()
        if self._due is not None and now < self._due:
            self._unsaid += times
            return
        repeated = self._unsaid + times - 1
        self._due, self._unsaid = now + INTERVAL, 0
        self._log.warning(self._message, extra={"detail": detail, **({"repeated": repeated} if repeated else {})})
