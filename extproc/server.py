"""The composition root: builds everything from a configuration, binds, serves, drains."""

import asyncio
import contextlib
import logging
import random
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from extproc import __version__
from extproc.admin import AdminServer
from extproc.auth import build_authenticator
from extproc.config import GatewayConfig, Loaded
from extproc.decisions import DecisionLog
from extproc.endpoints_file import EndpointsFile
from extproc.errors import GatewayError
from extproc.logs import set_up
from extproc.metrics import Metrics
from extproc.pipeline import Pipeline
from extproc.transport.grpcio import GrpcServer
from scheduler.builder import build
from scheduler.pool.discovery import build_discovery
from scheduler.pool.scrape import Scraper
from scheduler.pool.store import PodStore
from scheduler.registry import in_tree_registry
from scheduler.types import Pod

log = logging.getLogger(__name__)

#: How often readiness is looked at, seconds: a probe's own period is a second at the least.
READINESS_INTERVAL = 0.05


class StartError(GatewayError):
    """The gateway cannot start. `str()` says why, in one message."""


def run(loaded: Loaded) -> None:
    """Serves until SIGTERM or SIGINT; a second signal ends it at once.

    Raises:
        StartError: something cannot be bound or built.
    """
    set_up(loaded.config.logging.level, loaded.config.logging.format)
    for warning in loaded.warnings:
        log.warning("configuration: %s", warning)
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(loaded))
    else:
        uvloop.run(_serve(loaded))


async def _serve(loaded: Loaded) -> None:
    gateway = Gateway(loaded.config)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        # The second one finds the default handler again.
        loop.remove_signal_handler(number)
        log.info("signal", extra={"signal": number.name})
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, partial(on_signal, number))
    try:
        await gateway.start()
        await stopped.wait()
    finally:
        await gateway.stop()


class Gateway:
    """The sidecar: start it, stop it."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        endpoints = config.endpoints
        clock = time.monotonic
        self._store = PodStore(stale_after=endpoints.effective_stale_after(), on_left=self._pod_left)
        self._metrics = Metrics(lambda: self._store.statistics(clock()))
        profile, warnings = build(
            config.scheduler_config(),
            in_tree_registry(),
            observe=self._metrics.plugin,
            on_fault=self._plugin_fault,
            clock=time.perf_counter,
        )
        self._profile = profile
        for warning in warnings:
            log.warning("configuration: %s", warning)
        self._discovery = build_discovery(endpoints)
        self._scraper = Scraper(self._store, endpoints, self._metrics)
        policy = config.auth_policy()
        self._auth = None if policy is None else build_authenticator(policy)
        self._decisions = DecisionLog(config.debug.decisions)
        self._endpoints_file = EndpointsFile(Path(config.envoy.endpoints_file))
        pipeline = Pipeline(
            profile=profile,
            store=self._store,
            authenticator=self._auth,
            metrics=self._metrics,
            decisions=self._decisions,
            max_body=config.listener.max_body_bytes,
            forward_token=config.auth is not None and config.auth.forward_token,
            clock=clock,
            wall_clock=time.time,
            rng=random.Random(),  # noqa: S311 - ties between pods are no secret
        )
        self._transport = GrpcServer(
            pipeline.open,
            self._metrics,
            address=config.transport.address,
            max_body=config.listener.max_body_bytes,
            max_streams=config.transport.max_concurrent_streams,
        )
        self._admin = AdminServer(
            host=config.admin.host,
            port=config.admin.port,
            metrics=self._metrics,
            not_ready=self.not_ready,
            pods=lambda: self._store.statistics(clock()),
            decisions=self._decisions,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._draining = False

    def not_ready(self) -> str:
        """Why the gateway is not ready; empty when it is."""
        if self._draining:
            return "draining"
        if not self._discovery.synced:
            return "endpoints are not known yet"
        if not self._scraper.ready:
            return "not every pod was asked for its metrics yet"
        if self._auth is not None and not self._auth.ready:
            return "no key set yet"
        return ""

    async def start(self) -> None:
        """Binds and begins to serve. Readiness follows by itself.

        Raises:
            StartError: an address or a file is not to be had.
        """
        try:
            self._endpoints_file.keep_or_create()
            admin = await self._admin.start()
            address = await self._transport.start()
        except OSError as error:
            raise StartError(f"cannot start: {error}") from error
        if self._auth is not None:
            self._auth.start()
        self._tasks.append(asyncio.create_task(self._discovery.run(self._publish)))
        self._tasks.append(asyncio.create_task(self._announce()))
        # Every open surface, by name: this line is the first that an operator wants to see.
        log.info(
            "serving",
            extra={
                "version": __version__,
                "extproc": address,
                "admin": admin,
                "endpoints_file": self._config.envoy.endpoints_file,
                "auth": self._auth is not None,
            },
        )

    async def stop(self) -> None:
        """Readiness off, the open streams get `drainTimeout`, then everything ends."""
        self._draining = True
        with contextlib.suppress(asyncio.CancelledError):
            await self._transport.set_ready(False)
            await self._transport.stop(self._config.transport.drain_timeout)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._scraper.stop()
        if self._auth is not None:
            await self._auth.stop()
        await self._admin.stop()
        log.info("stopped")

    def _publish(self, pods: Sequence[Pod]) -> None:
        self._store.set_pods(pods, time.monotonic())
        self._scraper.follow(pods)
        try:
            self._endpoints_file.write(pods)
        except OSError:
            # Envoy goes on with what it has; the scheduler must not be stopped by a full disk.
            log.exception("endpoints file not written")

    async def _announce(self) -> None:
        """Tells gateways and the log when readiness changes."""
        told = False
        while True:
            ready = not self.not_ready()
            if ready != told:
                told = ready
                await self._transport.set_ready(ready)
                log.info("ready" if ready else "not ready", extra={} if ready else {"reason": self.not_ready()})
            await asyncio.sleep(READINESS_INTERVAL)

    def _pod_left(self, pod: Pod) -> None:
        self._profile.left(pod)

    def _plugin_fault(self, name: str, phase: str, error: Exception | str) -> None:
        self._metrics.plugin_fault(name, phase)
        log.error("plugin fault", extra={"plugin": name, "phase": phase, "detail": str(error)})
