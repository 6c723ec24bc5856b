"""The composition root: builds everything from a configuration, binds, serves, drains."""

import asyncio
import contextlib
import gc
import logging
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from extproc import __version__
from extproc.admin.pages import doubts
from extproc.admin.server import AdminServer
from extproc.auth.credentials import Credentials
from extproc.auth.jwks import JwksSource, key_sources
from extproc.auth.jwt import Authenticator
from extproc.auth.key_file import ApiKeyFile
from extproc.config import EndpointsConfig, GatewayConfig, Loaded
from extproc.config.reload import Watcher, changed, in_force
from extproc.config.sections.routing import DEFAULT_POOL
from extproc.config.surfaces import surfaces
from extproc.envoy import secrets_file
from extproc.envoy.endpoints_file import EndpointsFile
from extproc.envoy.files import replace
from extproc.errors import GatewayError, no_ready_pod
from extproc.fleet.feeds import Feed, Feeds
from extproc.fleet.pace import Pace
from extproc.fleet.sources import DiscoveryError, objectives
from extproc.models.catalogue import Catalogue
from extproc.models.poll import ModelsPoll
from extproc.outcome.ledger import Ledger
from extproc.outcome.outcome import from_log
from extproc.process.background import Background
from extproc.process.build_info import compiled
from extproc.protocol.events import LogEntry
from extproc.request.context import Context
from extproc.request.pipeline import Pipeline
from extproc.routing.choice import Router
from extproc.routing.objectives import Objectives
from extproc.routing.pool import Pool
from extproc.sharing.share import Nearby, Shared
from extproc.telemetry.access_log import AccessLog
from extproc.telemetry.decision_log import DecisionLog
from extproc.telemetry.finished import Witness
from extproc.telemetry.metrics import Metrics
from extproc.telemetry.trace_context import Sampler
from extproc.telemetry.trace_log import TraceFile, TraceLog, read_key
from extproc.tenancy.bodies import Bodies
from extproc.transport import Transport
from extproc.workers.control import Line
from extproc.workers.place import Place
from scheduler.builder import build
from scheduler.pool.store import PodStore
from scheduler.profile import Profile, SlowPlugin
from scheduler.registry import installed_registry
from scheduler.types import Pod

log = logging.getLogger(__name__)

#: Seconds that a process which ends waits for outcomes: ten times what Envoy collects its log for. Between looks: less.
LAST_OUTCOMES = 0.5
LOG_LOOK = 0.01
#: Seconds between looks at readiness and at outcomes that do not come: a probe's own period is a second at the least.
TEND_INTERVAL = 0.05
#: Seconds that the start waits for the pods before requests are taken. Without them each would be refused; but an
#: operator who looks into why they do not come needs an answer.
FIRST_SYNC_WAIT = 5.0


class StartError(GatewayError):
    """The gateway cannot start. `str()` gives the reason, in one message."""


def _transport(config: GatewayConfig, background: Background) -> Callable[..., Transport]:
    from extproc.transport.tls import Tls

    given = config.transport.tls
    tls = None if given is None else Tls(given.cert_file, given.key_file, given.client_ca_file)
    # The other one is not imported: grpc brings threads and 20 MB of its own.
    if config.transport.lean:
        from extproc.transport.http2.server import Http2Server

        return partial(Http2Server, tls=tls, background=background)
    from extproc.transport.grpcio import GrpcServer

    return partial(GrpcServer, tls=tls)


def _bodies(config: GatewayConfig, place: Place | None) -> Bodies | None:
    """What of Envoy's memory is for bodies that this process decides on; None: it is another gateway's Envoy."""
    if not config.transport.own_envoy:
        return None
    # The one that stands by decides where the others do not.
    total = config.envoy.body_bytes // (1 if place is None or place.stands_by else config.transport.workers)
    total = max(total, 2 * config.listener.max_body_bytes)
    return Bodies(total, max(total // 3, config.listener.max_body_bytes))


class Gateway:
    """The sidecar: start it, stop it.

    Args:
        config: of the whole gateway.
        shared: what this process shares with others; None: it is the only one.
        line: to the supervisor of several processes.
        background: starts what dies again.
        first_sync_wait: seconds that the start waits for the pods before requests are taken.

    Raises:
        StartError: a source of pods cannot work here.
    """

    def __init__(
        self,
        config: GatewayConfig,
        shared: Shared | None = None,
        line: Line | None = None,
        *,
        background: Background | None = None,
        first_sync_wait: float = FIRST_SYNC_WAIT,
    ) -> None:
        self._config = config
        self._background = background or Background()
        self._first_sync_wait = first_sync_wait
        self._shared = shared
        #: The other processes of this gateway, where there are any.
        self._nearby = None if shared is None else shared.nearby
        self._place = None if self._nearby is None else self._nearby.place
        self._line = line
        sections = config.all_pools()
        self._pools: dict[str, Pool] = {}
        self._metrics = Metrics(self._own_rows, tuple(sections))
        for name, section in sections.items():
            self._pools[name] = self._pool(name, section)
        self._metrics.watch_plugins(self._plugin_statistics)
        if config.admin.reference_metrics:
            self._metrics.as_reference(config.reference_names())
        if shared is not None and shared.gateways is not None:
            self._metrics.watch_sharing(shared.statistics)
        pace = Pace()
        try:
            feeds = [
                Feed(
                    self._pools[name], section, self._metrics,
                    section="endpoints" if name == DEFAULT_POOL else f"pools.{name}", background=self._background,
                    pace=pace,
                )
                for name, section in sections.items()
            ]  # fmt: skip
            self._objective_watch = objectives(config.endpoints) if config.objectives.watch else None
        except DiscoveryError as error:
            raise StartError(f"cannot start: {error}") from error
        self._objectives = Objectives(config.objectives.priorities)
        self._decisions = DecisionLog(config.debug.decisions)
        self._ledger = Ledger()
        self._bodies = _bodies(config, self._place)
        if self._bodies is not None:
            self._metrics.watch_bodies(self._bodies)
        self._endpoints_file = EndpointsFile(Path(config.envoy.endpoints_file))
        self._feeds = Feeds(
            feeds, self._endpoints_file, self._metrics, leads=self._nearby is None, background=self._background,
            pace=pace,
        )  # fmt: skip
        self._metrics.watch_pace(lambda: pace.interval)
        self._metrics.watch_health(self._background.deaths, self._feeds.contacts, self._feeds.behind)
        self._admin = AdminServer(
            host=config.admin.host,
            port=config.admin.port,
            hosts=config.admin.hosts,
            metrics=self._metrics,
            not_ready=self.not_ready,
            pods=self._rows,
            sources=self._feeds.contacts,
            decisions=self._decisions,
            explain=self._explain,
            path=None if self._place is None else self._place.admin_socket,
        )
        self._key_sources: tuple[JwksSource, ...] = ()
        self._api_keys: ApiKeyFile | None = None
        first = next(iter(sections))
        self._catalogue = Catalogue(first, time.time()) if config.listener.models_api == "gateway" else None
        self._transport: Transport | None = None
        self._pipeline: Pipeline | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._cleanup = contextlib.AsyncExitStack()
        self._draining = False

    def _pool(self, name: str, endpoints: EndpointsConfig) -> Pool:
        def left(pod: Pod) -> None:
            # Of whichever profile is in force then.
            self._pools[name].profile.left(pod)

        profile = self._build_profile(self._config, warn=not self._pools)
        stale_after = endpoints.effective_stale_after()
        accepts = frozenset(endpoints.accepts_encodings)
        if self._shared is None:
            return Pool(name, PodStore(stale_after, on_left=left, follows=endpoints.stale_follows()), profile, accepts)
        store = self._shared.store(name, stale_after, left, follows=endpoints.stale_follows())
        self._shared.plugins(name, profile)
        return Pool(name, store, profile, accepts)

    def _build_profile(self, config: GatewayConfig, before: Profile | None = None, *, warn: bool) -> Profile:
        profile, warnings = build(
            config.scheduling(),
            installed_registry(),
            observe=self._metrics.plugin,
            on_fault=self._plugin_fault,
            clock=time.perf_counter,
            cpu_clock=time.thread_time,
            before=before,
        )
        for warning in warnings if warn else ():
            log.warning("configuration: %s", warning)
        return profile

    def _addresses(self, pool: str) -> list[str]:
        return [pod.address for pod in self._pools[pool].store.snapshot(time.monotonic()).pods]

    def _rows(self) -> list[dict[str, Any]]:
        now = time.monotonic()
        return [{**row, "pool": pool.name} for pool in self._pools.values() for row in pool.store.statistics(now)]

    def _own_rows(self) -> list[dict[str, Any]]:
        """The same without what other gateways have in flight: metrics of all gateways can be added up."""
        rows = self._rows()
        if self._shared is not None:
            elsewhere = {pool: self._shared.elsewhere(pool) for pool in self._pools}
            for row in rows:
                requests, tokens = elsewhere[row["pool"]].get(row["address"], (0, 0))
                row["in_flight"] -= requests
                row["in_flight_tokens"] -= tokens
        return rows

    def _plugin_statistics(self) -> dict[str, dict[str, float]]:
        """Of the profiles that are in force now, over all pools."""
        sums: dict[str, dict[str, float]] = {}
        for pool in self._pools.values():
            for plugin, values in pool.profile.statistics().items():
                of_plugin = sums.setdefault(plugin, {})
                for name, value in values.items():
                    of_plugin[name] = of_plugin.get(name, 0.0) + value
        return sums

    def _trace(self) -> TraceLog | None:
        given = self._config.logging.trace
        if given.file is None or given.key_file is None:
            return None
        try:
            key = read_key(given.key_file)
            file = TraceFile(given.file, given.max_size, partial(log.warning, "logging.trace: the file is full"))
        except (OSError, ValueError) as error:
            raise StartError(f"cannot start: logging.trace: {error}") from error
        self._cleanup.callback(file.close)
        return TraceLog(key, file.write, given.characters_per_token)

    def _witnesses(self) -> list[Witness]:
        config = self._config
        witnesses: list[Witness] = []
        if config.logging.access:
            witnesses.append(AccessLog(partial(os.write, sys.stdout.fileno())))
        if config.tracing.endpoint is not None:
            try:
                from extproc.telemetry.tracing import Tracing
            except ImportError as error:
                raise StartError("cannot start: tracing needs pip install 'infer-gateway[otel]'") from error
            tracing = Tracing(config.tracing.endpoint)
            self._cleanup.push_async_callback(asyncio.to_thread, tracing.close)
            witnesses.append(tracing)
        return witnesses

    def _build_transport(self, authenticator: Credentials | None) -> Transport:
        config = self._config
        rng = random.Random()  # noqa: S311 - ties between pods are no secret
        trace = self._trace()
        pipeline = self._pipeline = Pipeline(
            router=Router(
                self._pools,
                config.routing(),
                disaggregation=config.disaggregation.roles(),
                most_pods=config.most_pods(),
                bounds=config.objectives.bounds(),
                rng=rng,
            ),
            context=Context(
                metrics=self._metrics,
                ledger=self._ledger,
                witnesses=[*self._witnesses(), *([] if trace is None else [trace])],
                blocks=None if trace is None else trace.blocks,
                log_tells_more=config.rewrites_answers(),
                clock=time.monotonic,
                wall_clock=time.time,
                rng=rng,
            ),
            authenticator=authenticator,
            decisions=self._decisions,
            max_body=config.listener.max_body_bytes,
            forward_token=config.auth is not None and config.auth.forward_token,
            bodies=self._bodies,
            max_unsized=config.listener.unsized_limit,
            explain_to_clients=config.debug.response_header,
            sampler=None if config.tracing.endpoint is None else Sampler(config.tracing.sample_ratio, rng),
            shares_claim=config.debug.shares_claim,
            identity_headers=config.identity_headers(),
            foreign=not config.transport.own_envoy,
            catalogue=self._catalogue,
            engine_controls=config.engines.controls == "allow",
            assumed=config.transport.assumed,
            objectives=self._objectives,
        )
        server = _transport(config, self._background)
        return server(
            pipeline.open,
            self._metrics,
            self._log_entry,
            address=config.transport.address if self._place is None else self._place.address,
            max_body=config.listener.max_body_bytes,
            max_streams=config.transport.max_concurrent_streams,
        )

    def not_ready(self) -> str:
        """Why the gateway is not ready; empty when it is."""
        if self._draining:
            return "draining"
        if reason := self._feeds.not_ready() or self._background.not_ready():
            return reason
        if not all(source.ready for source in self._key_sources):
            return "not every issuer's keys were fetched yet"
        if self._api_keys is not None and not self._api_keys.ready:
            return "the API keys were not read yet"
        return "" if self._shared is None else self._shared.not_ready()

    async def start(self) -> None:
        """Binds and begins to serve. Readiness follows by itself.

        Raises:
            StartError: an address or a file is not to be had.
        """
        config = self._config
        policy = config.auth_policy()
        authenticator = None
        if policy is not None:
            self._key_sources = await self._cleanup.enter_async_context(key_sources(policy, self._background))
            if policy.api_keys_file is not None:
                self._api_keys = ApiKeyFile(policy.api_keys_file, background=self._background)
                await self._api_keys.start()
                self._cleanup.push_async_callback(self._api_keys.stop)
            authenticator = Credentials(
                Authenticator(policy, self._key_sources),
                api_keys=self._api_keys,
                token_headers=policy.token_headers,
                jwts=bool(policy.issuers),
            )
            self._metrics.watch_keys(lambda: [source.statistics(time.time()) for source in self._key_sources])
        try:
            self._endpoints_file.keep_or_create()
            if config.listener.tls is not None:
                for path, text in secrets_file.render(config.listener.tls, config.envoy.endpoints_file).items():
                    replace(path, text)
            admin = await self._admin.start()
            await self._cleanup.enter_async_context(self._feeds)
            if self._objective_watch is not None:
                self._tasks.append(
                    self._background.start("objectives", partial(self._objective_watch.run, self._objectives.found))
                )
            if self._nearby is not None:
                self._tasks.append(
                    self._background.start("lead", partial(self._lead, self._nearby), needed=True, once=True)
                )
            # Envoy calls as soon as it can: a request that comes before the pods are known would be refused.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._first_sync_wait):
                    await self._feeds.known.wait()
            if self._shared is not None:
                # And one that knows less than the others would decide worse than they do. What they note of pods that
                # are not known here is lost.
                if self._nearby is not None:
                    self._nearby.entries.on_entry = self._log_entry_of_another
                await self._shared.start(self._background)
                self._cleanup.push_async_callback(self._shared.stop)
                await self._shared.caught_up()
            transport = self._build_transport(authenticator)
            address = await transport.start()
        except OSError as error:
            raise StartError(f"cannot start: {error}") from error
        self._transport = transport
        if self._catalogue is not None:
            for name, section in config.all_pools().items():
                poll = ModelsPoll(name, section.scrape.scheme, partial(self._addresses, name), self._catalogue)
                self._tasks.append(self._background.start("models", poll.run, of=name))
        self._tasks.append(self._background.start("tend", partial(self._tend, transport), needed=True))
        # What is there by now stays: a full collection over all modules would hold up every request for 20 ms.
        gc.collect()
        gc.freeze()
        if self._place is not None:
            # The supervisor logs the open ports, for all processes.
            log.info("process serving", extra={"worker": self._place.name, "pid": os.getpid(), "extproc": address})
            return
        # Every open surface, by name: this line is the first that an operator wants to see.
        opened = surfaces(self._config, extproc=address, admin=admin)
        log.info(
            "serving",
            extra={
                "version": __version__,
                "compiled": compiled(),
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

    async def _lead(self, nearby: Nearby) -> None:
        await nearby.lead.taken()
        log.info("process leads", extra={"worker": nearby.place.name})
        self._feeds.lead()

    def watch(self, path: str | None, loaded: Loaded, *, reload: bool = True) -> None:
        """Follows the configuration at `path` from now on; without `reload` to report what a restart would change."""
        apply = self._reconfigure if reload else self._leave
        watcher = Watcher(path, os.environ, loaded, apply, self._metrics)
        self._tasks.append(self._background.start("configuration", watcher.run))

    async def _leave(self, loaded: Loaded) -> Sequence[str]:
        """Without `--reload`: whatever changed waits."""
        return changed(self._config, loaded.config)

    async def _reconfigure(self, loaded: Loaded) -> Sequence[str]:
        """Puts into force what can be changed while requests are under way: scheduler, routes, level of logs."""
        config, waiting = in_force(self._config, loaded.config)
        pools = list(self._pools.values())
        profiles = [self._build_profile(config, pool.profile, warn=pool is pools[0]) for pool in pools]
        # On the one thread: a decision is made by the old plugins and routes or by the new.
        for pool, profile in zip(pools, profiles, strict=True):
            pool.profile = profile
            if self._shared is not None:
                self._shared.plugins(pool.name, profile)
        if self._pipeline is not None:
            self._pipeline.router.routes = config.routing()
        logging.getLogger().setLevel(config.logging.level.upper())
        # The next reload goes on from here: what waits keeps the value of today, not that of the start.
        self._config = config
        if self._line is not None and loaded.text is not None:
            self._line.applied(loaded.text)
        return waiting

    async def stop(self) -> None:
        """Readiness off, the open streams get `drainTimeout`, then everything ends."""
        self._draining = True
        if self._transport is not None:
            await self._transport.set_ready(False)
            if self._line is not None:
                self._line.tell("draining")
            await self._transport.stop(self._config.transport.drain_timeout, self._told)
            self._ledger.give_up()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._cleanup.aclose()
        await self._admin.stop()
        log.info("stopped")

    async def _told(self) -> None:
        """Waits for the entries of Envoy's access log about requests that are over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_OUTCOMES):
                while len(self._ledger):  # noqa: ASYNC110 - pure, it knows no events
                    await asyncio.sleep(LOG_LOOK)

    def _explain(self, path: str, body: bytes) -> dict[str, Any]:
        if self._pipeline is None:
            raise no_ready_pod("not started")
        return self._pipeline.explain(path, body)

    def _log_entry(self, entry: LogEntry) -> None:
        if self._nearby is not None and not self._issued(entry.key):
            self._nearby.entries.forward(entry)
            return
        self._ledger.arrived(entry.key, from_log(entry), time.monotonic())

    def _log_entry_of_another(self, entry: LogEntry) -> None:
        if self._issued(entry.key):
            self._ledger.arrived(entry.key, from_log(entry), time.monotonic())

    def _issued(self, key: str) -> bool:
        return self._pipeline is not None and self._pipeline.context.issued(key)

    async def _tend(self, transport: Transport) -> None:
        """Looks after what only time changes: readiness, and outcomes that do not come."""
        told, told_doubts = False, ""
        while True:
            reason = self.not_ready()
            ready = not reason
            if ready != told:
                told = ready
                await transport.set_ready(ready)
                self._say("ready" if ready else "not ready", reason)
            if self._line is not None and (away := doubts(self._feeds.contacts())) != told_doubts:
                told_doubts = away
                self._line.tell(reason, away)
            now = time.monotonic()
            self._ledger.expire(now)
            if self._bodies is not None:
                self._bodies.expire(now)
            await asyncio.sleep(TEND_INTERVAL)

    def _say(self, what: str, reason: str) -> None:
        extra = {"reason": reason} if reason else {}
        if self._place is None or self._line is None:
            log.info(what, extra=extra)
        else:
            log.info("process %s", what, extra={"worker": self._place.name, **extra})
            self._line.tell(reason, doubts(self._feeds.contacts()))

    def _plugin_fault(self, name: str, phase: str, error: Exception) -> None:
        if isinstance(error, SlowPlugin) and not error.left_out:
            # Once is not the plugin's fault: the machine was busy, or memory was collected.
            self._metrics.plugin_slow(name, phase)
            return
        self._metrics.plugin_fault(name, phase)
        log.error("plugin fault", extra={"plugin": name, "phase": phase, "detail": str(error)})
