"""One model server: an address, and a service behind it that can crash and come back."""

import asyncio

import msgspec
from aiohttp import web

from modelsim.engine import Engine
from modelsim.faults import Faults
from modelsim.profile import EngineConfig
from modelsim.service import Service, ServiceConfig, Tally

#: What an 8B model's profile stands for.
DEFAULT_MODEL = "meta-llama/Llama-3.1-8B-Instruct"

#: Connections that wait to be accepted: a gateway opens hundreds at once when a load test begins.
_BACKLOG = 1024

#: Seconds. Connections are cut before, so that there is nothing to wait for; only a bound. (0 would be none.)
_SHUTDOWN_TIMEOUT = 1.0


class ReplicaConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A replica before it is started. Raises ValueError for adapters without slots to serve them."""

    #: What `x-modelsim-replica` says; empty is `replica-0` and so on, by place.
    name: str = ""
    model: str = DEFAULT_MODEL
    #: LoRA adapters that are there from the beginning.
    adapters: tuple[str, ...] = ()
    engine: EngineConfig = msgspec.field(default_factory=EngineConfig)
    faults: Faults = msgspec.field(default_factory=Faults)
    host: str = "127.0.0.1"
    #: 0 takes a free one, and keeps it over restarts.
    port: int = 0

    def __post_init__(self) -> None:
        if self.adapters and not self.engine.max_loras:
            raise ValueError("adapters need max_loras of at least 1")


class Replica:
    def __init__(self, config: ReplicaConfig) -> None:
        self.name = config.name
        self._config = config
        self._port = config.port
        self._tally = Tally()
        self._runner: web.AppRunner | None = None
        self._service: Service | None = None

    @property
    def address(self) -> str:
        """`ip:port`; the port is known once the replica was started."""
        host = self._config.host
        return f"[{host}]:{self._port}" if ":" in host else f"{host}:{self._port}"

    @property
    def alive(self) -> bool:
        return self._runner is not None

    @property
    def requests_received(self) -> int:
        """Requests on the inference paths, whatever became of them. Survives restarts, as does the next one."""
        return self._tally.received

    @property
    def requests_served(self) -> int:
        """Requests that the model answered, to the end."""
        return self._tally.served

    @property
    def engine(self) -> Engine:
        """For reading."""
        return self._running.driver.engine

    @property
    def faults(self) -> Faults:
        """Can be set; msgspec.ValidationError for a value out of range. A restart brings back the configured ones."""
        return self._running.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._running.faults = faults

    async def start(self) -> None:
        """Listens, with an empty engine and all counters of `/metrics` at 0. Raises OSError for an address in use."""
        config = self._config
        service = Service(
            ServiceConfig(
                name=config.name,
                model=config.model,
                adapters=config.adapters,
                engine=config.engine,
                faults=config.faults,
            ),
            self._tally,
        )
        runner = web.AppRunner(
            service.app, handler_cancellation=True, access_log=None, shutdown_timeout=_SHUTDOWN_TIMEOUT
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, config.host, self._port, backlog=_BACKLOG).start()
        except OSError:
            await runner.cleanup()
            raise
        self._port = runner.addresses[0][1]
        self._runner, self._service = runner, service

    async def kill(self) -> None:
        """Closes the socket that listens and cuts all connections, as a crash does. Nothing if it is dead already."""
        runner, service = self._runner, self._service
        if runner is None or service is None:
            return
        self._runner = self._service = None
        for site in list(runner.sites):
            await site.stop()
        server = runner.server
        while server is not None and server.connections:
            for connection in server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
            service.cancel()
            # aiohttp forgets a connection when its handler has ended, some rounds of the event loop later.
            await asyncio.sleep(0)
        service.stop()
        await runner.cleanup()

    @property
    def _running(self) -> Service:
        if self._service is None:
            raise RuntimeError(f"replica {self.name!r} is not running")
        return self._service
