"""The composition root: builds everything from a configuration, binds, serves, drains."""

import asyncio
import contextlib
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from extproc import __version__, discovery
from extproc.access_log import AccessLog
from extproc.admin import AdminServer
from extproc.auth.jwks import JwksSource, key_sources
from extproc.auth.jwt import Authenticator
from extproc.config import GatewayConfig, Loaded
from extproc.config.surfaces import surfaces
from extproc.decisions import DecisionLog
from extproc.ended import Witness
from extproc.endpoints_file import EndpointsFile
from extproc.errors import GatewayError, no_ready_pod
from extproc.events import LogEntry
from extproc.ledger import Ledger
from extproc.logs import set_up
from extproc.metrics import Metrics
from extproc.outcomes import from_log
from extproc.pipeline import Pipeline
from extproc.reload import Watcher
from extproc.transport import Transport
from scheduler.builder import build
from scheduler.pool.scrape import Scraper
from scheduler.pool.store import PodStore
from scheduler.profile import Profile
from scheduler.registry import installed_registry
from scheduler.types import Pod

log = logging.getLogger(__name__)

#: Seconds between looks at readiness and at outcomes that do not come: a probe's own period is a second at the least.
TEND_INTERVAL = 0.05
#: Seconds that the start waits for the pods before requests are taken. Without them each would be refused; but somebody
#: who is to look into why they do not come wants to be answered.
FIRST_SYNC_WAIT = 5.0


#: Sections that a reload puts into force, the others wait for a restart.
RELOADED = frozenset({"scheduler", "logging"})


class StartError(GatewayError):
    """The gateway cannot start. `str()` says why, in one message."""


def run(loaded: Loaded, *, reload_path: str | None = None, reload: bool = False) -> None:
    """Serves until SIGTERM or SIGINT; a second signal ends it at once.

    With `reload`, the configuration at `reload_path` (as of `--config`) is watched.

    Raises:
        StartError: something cannot be bound or built.
    """
    set_up(loaded.config.logging.level, loaded.config.logging.format)
    for warning in loaded.warnings:
        log.warning("configuration: %s", warning)
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(loaded, reload_path, reload))
    else:
        uvloop.run(_serve(loaded, reload_path, reload))


async def _serve(loaded: Loaded, reload_path: str | None, reload: bool) -> None:
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
        if reload:
            gateway.watch(reload_path, loaded)
        await stopped.wait()
    finally:
        await gateway.stop()


def _transport(config: GatewayConfig) -> type[Transport]:
    # The other one is not imported: grpc brings threads and 20 MB of its own.
    if config.transport.lean:
        from extproc.transport.sidecar import SidecarServer

        return SidecarServer
    from extproc.transport.grpcio import GrpcServer

    return GrpcServer


class Gateway:
    """The sidecar: start it, stop it.

    Raises:
        StartError: a source of pods cannot work here.
    """

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        endpoints = config.endpoints
        self._store = PodStore(endpoints.effective_stale_after(), on_left=self._pod_left)
        self._metrics = Metrics(self._rows)
        self._profile, warnings = self._build_profile(config)
        # Of whichever profile is in force when it is asked.
        self._metrics.watch_plugins(lambda: self._profile.statistics())  # noqa: PLW0108
        for warning in warnings:
            log.warning("configuration: %s", warning)
        try:
            self._discovery = discovery.build(endpoints)
        except discovery.DiscoveryError as error:
            raise StartError(f"cannot start: {error}") from error
        dialect = endpoints.dialect()
        self._scraper = Scraper(
            self._store,
            lambda _pod: dialect,
            interval=endpoints.scrape.interval,
            timeout=endpoints.scrape.timeout,
            scheme=endpoints.scrape.scheme,
            observer=self._metrics,
        )
        self._decisions = DecisionLog(config.debug.decisions)
        self._ledger = Ledger()
        self._endpoints_file = EndpointsFile(Path(config.envoy.endpoints_file))
        self._admin = AdminServer(
            host=config.admin.host,
            port=config.admin.port,
            metrics=self._metrics,
            not_ready=self.not_ready,
            pods=self._rows,
            decisions=self._decisions,
            explain=self._explain,
        )
        self._key_sources: tuple[JwksSource, ...] = ()
        self._transport: Transport | None = None
        self._pipeline: Pipeline | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._cleanup = contextlib.AsyncExitStack()
        self._draining = False

    def _build_profile(self, config: GatewayConfig, before: Profile | None = None) -> tuple[Profile, list[str]]:
        return build(
            config.scheduler_config(),
            installed_registry(),
            observe=self._metrics.plugin,
            on_fault=self._plugin_fault,
            clock=time.perf_counter,
            before=before,
        )

    def _rows(self) -> list[dict[str, Any]]:
        return self._store.statistics(time.monotonic())

    def _witnesses(self) -> list[Witness]:
        config = self._config
        witnesses: list[Witness] = []
        if config.logging.access:
            witnesses.append(AccessLog(partial(os.write, sys.stdout.fileno())))
        if config.tracing.endpoint is not None:
            try:
                from extproc.tracing import Tracing
            except ImportError as error:
                raise StartError("cannot start: tracing needs pip install 'infer-gateway[otel]'") from error
            tracing = Tracing(config.tracing.endpoint, config.tracing.sample_ratio, random.random)
            self._cleanup.push_async_callback(asyncio.to_thread, tracing.close)
            witnesses.append(tracing)
        return witnesses

    def _build_transport(self, authenticator: Authenticator | None) -> Transport:
        config = self._config
        pipeline = self._pipeline = Pipeline(
            profile=self._profile,
            store=self._store,
            authenticator=authenticator,
            metrics=self._metrics,
            decisions=self._decisions,
            ledger=self._ledger,
            witnesses=self._witnesses(),
            max_body=config.listener.max_body_bytes,
            forward_token=config.auth is not None and config.auth.forward_token,
            explain_to_clients=config.debug.response_header,
            identity_headers=config.identity_headers(),
            clock=time.monotonic,
            wall_clock=time.time,
            rng=random.Random(),  # noqa: S311 - ties between pods are no secret
        )
        server = _transport(config)
        return server(
            pipeline.open,
            self._metrics,
            self._log_entry,
            address=config.transport.address,
            max_body=config.listener.max_body_bytes,
            max_streams=config.transport.max_concurrent_streams,
        )

    def not_ready(self) -> str:
        """Why the gateway is not ready; empty when it is."""
        if self._draining:
            return "draining"
        if not self._discovery.first_sync.is_set():
            return "endpoints are not known yet"
        if not self._scraper.ready.is_set():
            return "not every pod was asked for its metrics yet"
        if not all(source.ready for source in self._key_sources):
            return "not every issuer's keys were fetched yet"
        return ""

    async def start(self) -> None:
        """Binds and begins to serve. Readiness follows by itself.

        Raises:
            StartError: an address or a file is not to be had.
        """
        policy = self._config.auth_policy()
        authenticator = None
        if policy is not None:
            self._key_sources = await self._cleanup.enter_async_context(key_sources(policy))
            authenticator = Authenticator(policy, self._key_sources)
            self._metrics.watch_keys(lambda: [source.statistics(time.time()) for source in self._key_sources])
        try:
            self._endpoints_file.keep_or_create()
            admin = await self._admin.start()
            await self._cleanup.enter_async_context(self._scraper)
            self._tasks.append(asyncio.create_task(self._discovery.run(self._publish)))
            # Envoy calls as soon as it can: a request that comes before the pods are known would be refused.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FIRST_SYNC_WAIT):
                    await self._discovery.first_sync.wait()
            transport = self._build_transport(authenticator)
            address = await transport.start()
        except OSError as error:
            raise StartError(f"cannot start: {error}") from error
        self._transport = transport
        self._tasks.append(asyncio.create_task(self._tend(transport)))
        # Every open surface, by name: this line is the first that an operator wants to see.
        opened = surfaces(self._config, extproc=address, admin=admin)
        log.info(
            "serving",
            extra={
                "version": __version__,
                "extproc": address,
                "admin": admin,
                "endpoints_file": self._config.envoy.endpoints_file,
                "auth": authenticator is not None,
                "surfaces": [str(surface) for surface in opened],
            },
        )
        for surface in opened:
            if surface.exposed:
                log.warning("open to other machines", extra={"surface": str(surface)})

    def watch(self, path: str | None, loaded: Loaded) -> None:
        """Follows the configuration at `path` from now on."""
        watcher = Watcher(path, os.environ, loaded, self._reconfigure, self._metrics)
        self._tasks.append(asyncio.create_task(watcher.run()))

    async def _reconfigure(self, loaded: Loaded) -> None:
        """Puts into force what can be changed while requests are under way: the scheduler, and the level of logs."""
        config = loaded.config
        profile, warnings = self._build_profile(config, before=self._profile)
        for warning in warnings:
            log.warning("configuration: %s", warning)
        if self._pipeline is not None:
            # One assignment on the one thread: a decision is made by the old plugins or by the new.
            self._profile = self._pipeline.profile = profile
        logging.getLogger().setLevel(config.logging.level.upper())
        changed = [
            name
            for name in GatewayConfig.model_fields
            if name not in RELOADED and getattr(config, name) != getattr(self._config, name)
        ]
        if changed:
            # Envoy was started with these, or sockets were bound by them.
            log.warning("these sections wait for a restart", extra={"sections": changed})

    async def stop(self) -> None:
        """Readiness off, the open streams get `drainTimeout`, then everything ends."""
        self._draining = True
        if self._transport is not None:
            await self._transport.set_ready(False)
            await self._transport.stop(self._config.transport.drain_timeout)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._cleanup.aclose()
        await self._admin.stop()
        log.info("stopped")

    def _publish(self, pods: Sequence[Pod]) -> None:
        _, left = self._store.set_pods(pods, time.monotonic())
        for pod in left:
            self._metrics.pod_left(pod.address)
        self._scraper.set_pods(pods)
        try:
            self._endpoints_file.write(pods)
        except OSError:
            # Envoy goes on with what it has; the scheduler must not be stopped by a full disk.
            log.exception("endpoints file not written")

    def _explain(self, path: str, body: bytes) -> dict[str, Any]:
        if self._pipeline is None:
            raise no_ready_pod("not started")
        return self._pipeline.explain(path, body)

    def _log_entry(self, entry: LogEntry) -> None:
        self._ledger.arrived(entry.key, from_log(entry), time.monotonic())

    async def _tend(self, transport: Transport) -> None:
        """Looks after what only time changes: readiness, and outcomes that do not come."""
        told = False
        while True:
            ready = not self.not_ready()
            if ready != told:
                told = ready
                await transport.set_ready(ready)
                log.info("ready" if ready else "not ready", extra={} if ready else {"reason": self.not_ready()})
            self._ledger.expire(time.monotonic())
            await asyncio.sleep(TEND_INTERVAL)

    def _pod_left(self, pod: Pod) -> None:
        self._profile.left(pod)

    def _plugin_fault(self, name: str, phase: str, error: Exception) -> None:
        self._metrics.plugin_fault(name, phase)
        log.error("plugin fault", extra={"plugin": name, "phase": phase, "detail": str(error)})
