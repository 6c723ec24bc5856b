"""Watches the configuration, for `serve --reload`.

A ConfigMap volume changes by the switch of one link, so a read never finds half of it. A configuration with
mistakes is reported and changes nothing: the last good configuration stays in force.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from extproc.config import ConfigError, GatewayConfig, Loaded, load
from extproc.config.locate import DEFAULT_DIRECTORY, locate
from extproc.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

#: Seconds between looks. The kubelet takes up to a minute to bring a changed ConfigMap to its volume.
INTERVAL = 1.0

#: Puts into force what can be, and names the sections that wait for a restart.
Apply = Callable[[Loaded], Awaitable[Sequence[str]]]

#: Sections that a reload puts into force; the others wait for a restart.
RELOADED = frozenset({"scheduler", "logging", "routes"})


def in_force(started: GatewayConfig, new: GatewayConfig) -> tuple[GatewayConfig, tuple[str, ...]]:
    """What is in force in a gateway that started with one configuration and was given another; and what of that waits.

    Envoy was started with the rest, or sockets were bound by it.
    """
    reloaded = RELOADED - {"routes"} if _routes_wait(started, new) else RELOADED
    differ = changed(started, new)
    config = started.model_copy(update={name: getattr(new, name) for name in differ if name in reloaded})
    return config, tuple([name for name in differ if name not in reloaded])


def _routes_wait(started: GatewayConfig, new: GatewayConfig) -> bool:
    """Whether new routing needs a restart.

    What Envoy does without a decision, and with answers, is configured at the start; sources of pods are not added
    later.
    """
    before, after = started.routing(), new.routing()
    return (
        (before is None) != (after is None)
        or new.rewrites_answers() > started.rewrites_answers()
        or (after is not None and not after.pools <= started.all_pools().keys())
    )


def changed(started: GatewayConfig, new: GatewayConfig) -> tuple[str, ...]:
    """Sections that differ."""
    return tuple([name for name in GatewayConfig.model_fields if getattr(new, name) != getattr(started, name)])


class Watcher:
    """Loads the configuration again and again, and hands on changes.

    Args:
        path: as of `--config`.
        env: the environment, as of `load`.
        loaded: what is in force.
        apply: puts a configuration into force.
        metrics: receives the results of reloads.
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
        #: What was last looked into.
        self._text: str | None = loaded.text
        #: Sections of what is known that are not in force.
        self._waiting: tuple[str, ...] = ()

    async def run(self) -> None:
        """Watches until it is cancelled."""
        while True:
            await self._sleep(INTERVAL)
            await self.look()

    async def look(self) -> None:
        """One look. Raises nothing: an error is logged, once as long as it stays the same."""
        try:
            loaded = await asyncio.to_thread(self._load)
        except ConfigError as error:
            self._text = None
            self._metrics.on_disk("rejected")
            if str(error) != self._error:
                self._error = str(error)
                self._metrics.reloaded("rejected")
                # The error lists all mistakes, one a line; a traceback would only hide them.
                log.error("configuration rejected, the last good one stays", extra={"detail": str(error)})  # noqa: TRY400
            return
        if loaded is None:
            return
        self._error = ""
        self._text = loaded.text
        if loaded.config == self._known:
            self._metrics.on_disk("pending" if self._waiting else "")
            return
        self._known = loaded.config
        for warning in loaded.warnings:
            log.warning("configuration: %s", warning)
        try:
            self._waiting = tuple(await self._apply(loaded))
        except Exception:
            self._waiting = ("all",)
            self._metrics.reloaded("failed")
            log.exception("configuration not applied, the last good one stays")
        else:
            self._metrics.reloaded("pending" if self._waiting else "applied")
            if self._waiting:
                extra = {"source": loaded.source, "sections": self._waiting}
                log.warning("configuration pending: these sections wait for a restart", extra=extra)
            else:
                log.info("configuration applied", extra={"source": loaded.source})
        self._metrics.on_disk("pending" if self._waiting else "")

    def _load(self) -> Loaded | None:
        """The configuration on disk; None where it was read already."""
        found = locate(self._path, self._env, DEFAULT_DIRECTORY)
        if found is not None and found.text == self._text:
            return None
        return load(self._path, self._env)
