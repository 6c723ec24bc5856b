"""Watches the configuration, for `serve --reload`.

A ConfigMap volume changes by the switch of one link, so what is read is never half of it. What is wrong is told and
changes nothing: the last good configuration goes on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from extproc.config import ConfigError, Loaded, load
from extproc.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

#: Seconds between looks. The kubelet takes up to a minute to bring a changed ConfigMap to its volume.
INTERVAL = 1.0

Apply = Callable[[Loaded], Awaitable[None]]


class Watcher:
    """Loads the configuration again and again, and hands on what changed.

    Args:
        path: as of `--config`.
        env: the environment, as of `load`.
        loaded: what is in force.
        apply: puts a configuration into force.
        metrics: told how reloads went.
        sleep: waits between looks.
    """

    def __init__(
        self,
        path: str | None,
        env: Mapping[str, str],
        loaded: Loaded,
        apply: Apply,
        metrics: Metrics,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._path, self._env = path, env
        self._known = loaded.config
        self._apply = apply
        self._metrics = metrics
        self._sleep = sleep
        self._error = ""

    async def run(self) -> None:
        """Watches until it is cancelled."""
        while True:
            await self._sleep(INTERVAL)
            await self.look()

    async def look(self) -> None:
        """One look. Raises nothing: what goes wrong is logged, once as long as it stays the same."""
        try:
            loaded = await asyncio.to_thread(load, self._path, self._env)
        except ConfigError as error:
            if str(error) != self._error:
                self._error = str(error)
                self._metrics.reloaded("rejected")
                # The error says it all, one mistake a line; where it was raised would only hide that.
                log.error("configuration rejected, the last good one stays", extra={"detail": str(error)})  # noqa: TRY400
            return
        self._error = ""
        if loaded.config == self._known:
            return
        self._known = loaded.config
        for warning in loaded.warnings:
            log.warning("configuration: %s", warning)
        try:
            await self._apply(loaded)
        except Exception:
            self._metrics.reloaded("failed")
            log.exception("configuration not applied, the last good one stays")
        else:
            self._metrics.reloaded("applied")
            log.info("configuration applied", extra={"source": loaded.source})
