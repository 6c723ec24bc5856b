"""Keeps the API keys of a file at hand: read again now and then, never in the way of a request."""

import asyncio
import logging
from pathlib import Path

from extproc.auth.apikeys import MAX_FILE, ApiKeys, ApiKeysError, read_api_keys
from extproc.process.background import Background

#: Seconds between two looks at the file. Kubernetes takes about a minute to bring a changed Secret to a pod anyway.
FILE_POLL = 10.0

logger = logging.getLogger(__name__)


class ApiKeyFile:
    """The keys of the file at `path`. `start` it; `stop` ends it."""

    def __init__(self, path: str, *, poll: float = FILE_POLL, background: Background | None = None) -> None:
        self._background = background or Background()
        self._path = Path(path)
        self._poll = poll
        self._data: bytes | None = None
        self._why = ""
        self._task: asyncio.Task[None] | None = None
        #: None until the file was read once. A file with a mistake in it leaves the keys as they were.
        self.keys: ApiKeys | None = None

    @property
    def ready(self) -> bool:
        return self.keys is not None

    async def start(self) -> None:
        """Reads the file, and from then on in the background."""
        await self._look()
        self._task = self._background.start("api keys", self._run)

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._poll)
            await self._look()

    async def _look(self) -> None:
        try:
            data = await asyncio.to_thread(_read, self._path)
            if data == self._data:
                self._failed("")
                return
            keys = await asyncio.to_thread(read_api_keys, data)
        except (OSError, ApiKeysError) as error:
            self._failed(str(error))
            return
        self._data, self.keys = data, keys
        self._failed("")
        logger.info("API keys read", extra={"path": str(self._path), "keys": len(keys)})

    def _failed(self, why: str) -> None:
        if why and why != self._why:
            logger.error("API keys stay as they were", extra={"path": str(self._path), "detail": why})
        self._why = why


def _read(path: Path) -> bytes:
    if not path.is_file():
        # Also a pipe or a device, which would block or never end.
        raise ApiKeysError("no such file")
    with path.open("rb") as file:
        return file.read(MAX_FILE + 1)
