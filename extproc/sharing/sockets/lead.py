"""Leader election: one process scrapes the pods and writes Envoy's endpoints file.

The leader holds the lock on a file. The kernel releases the lock when the process ends, however the process ends.
"""

import asyncio
import fcntl
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

#: Seconds between tries to get the lock. So long at most no process leads.
RETRY_AFTER = 0.1


class Lead:
    """The lock, for as long as this lives."""

    def __init__(self, path: str, retry_after: float = RETRY_AFTER) -> None:
        self._path = Path(path)
        self._retry_after = retry_after
        self._fd: int | None = None

    async def taken(self) -> None:
        """Waits until this process leads. An error that keeps it from trying is logged when it comes, not each time."""
        trouble = ""
        while True:
            try:
                if self._take():
                    return
                trouble = ""
            except OSError as error:
                # No disk, memory or descriptors left: where that passes, somebody must lead again.
                if str(error) != trouble:
                    trouble = str(error)
                    log.error("process cannot lead", extra={"detail": trouble})  # noqa: TRY400 - a traceback adds nothing
            await asyncio.sleep(self._retry_after)

    def _take(self) -> bool:
        """Whether this process has the lock now.

        Raises:
            OSError: the file cannot be opened or locked.
        """
        if self._fd is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
