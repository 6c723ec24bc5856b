"""Brings Envoy's endpoints file up to date: soon after a change, and again and again until it is written."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from math import inf

from extproc.envoy.endpoints_file import EndpointsFile
from scheduler.types import Pod

log = logging.getLogger(__name__)

#: Seconds between two writes of the file. Each waits for the disk and makes Envoy read it all; pods that come by the
#: dozen are one change.
WRITE_INTERVAL = 0.05
#: Seconds until a write that failed is tried again: the first time, doubled each time, and at most. A disk that was
#: full for a moment costs no time; one that stays full costs little.
FIRST_RETRY, LAST_RETRY = 0.1, 2.0
#: Seconds for which Envoy may not know of a change. Then it sends requests to pods that are gone, or knows no pod: this
#: process should not be the one that is asked.
NOT_READY_AFTER = 5.0

#: All pods, and by their address the names of their pools, which may be nothing.
Content = tuple[Sequence[Pod], Mapping[str, Sequence[str]]]


class EndpointsWriter:
    """Writes `content()` to `file`, once for all changes that are near each other.

    Args:
        file: of Envoy's endpoints.
        content: what is to stand there now.
        on_failure: is called at each write that fails.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        file: EndpointsFile,
        content: Callable[[], Content],
        on_failure: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._file = file
        self._content = content
        self._on_failure = on_failure
        self._tried_at = -inf
        self._due: asyncio.TimerHandle | None = None
        self._failures = 0
        self._failing_since: float | None = None
        self._error = ""

    def changed(self) -> None:
        """The content may have changed: it is written now, or soon."""
        if self._due is not None:
            return
        wait = self._tried_at + WRITE_INTERVAL - self._clock()
        if wait <= 0:
            self._write()
        else:
            self._due = asyncio.get_running_loop().call_later(wait, self._write)

    def stop(self) -> None:
        if self._due is not None:
            self._due.cancel()

    def behind(self) -> float:
        """Seconds for which what Envoy should know could not be written; 0: it is."""
        return 0.0 if self._failing_since is None else self._clock() - self._failing_since

    def not_ready(self) -> str:
        """Why this process should get no requests; "": Envoy knows the pods, or will in a moment."""
        return f"Envoy's endpoints cannot be written: {self._error}" if self.behind() >= NOT_READY_AFTER else ""

    def _write(self) -> None:
        self._due = None
        self._tried_at = self._clock()
        try:
            self._file.write(*self._content())
        except Exception as error:  # noqa: BLE001 - whatever it is, Envoy has to learn of the pods in the end
            self._failed(error)
            wait = min(FIRST_RETRY * 2.0 ** min(self._failures - 1, 16), LAST_RETRY)
            self._due = asyncio.get_running_loop().call_later(wait, self._write)
            return
        if self._failures:
            log.info("endpoints file is written again", extra={"failures": self._failures})
        self._failures, self._failing_since, self._error = 0, None, ""

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if self._failing_since is None:
            self._failing_since = self._tried_at
        strerror = error.strerror if isinstance(error, OSError) else None
        text = strerror or str(error) or type(error).__name__
        if text != self._error:
            # Envoy goes on with what it has, and so does the scheduler.
            self._error = text
            log.error("endpoints file not written", extra={"detail": text}, exc_info=error)
        self._on_failure()
