"""Which of the processes does what is to be done once: scraping the pods, and writing Envoy's endpoints file.

Whoever holds the lock on a file. The kernel gives it back when the process ends, however it ends.
"""

import asyncio
import fcntl
import os
from pathlib import Path

#: Seconds between tries to get the lock. So long at most nobody leads.
RETRY_AFTER = 0.1


class Lead:
    """The lock, for as long as this lives."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._fd: int | None = None

    async def taken(self) -> None:
        """Waits until this process leads.

        Raises:
            OSError: the file cannot be opened.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fd = self._fd = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(RETRY_AFTER)
            else:
                return

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
