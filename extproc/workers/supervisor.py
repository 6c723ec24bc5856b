"""`infer-gateway serve` where a gateway is several processes: starts them, starts them again, ends them.

It decides nothing and holds no state that a request needs: what it does beside that is to show the pages of all as one.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from extproc import __version__
from extproc.config import Loaded
from extproc.config.surfaces import surfaces
from extproc.errors import GatewayError
from extproc.process.background import Background
from extproc.process.build_info import compiled
from extproc.process.logs import set_up
from extproc.process.signals import on_termination
from extproc.workers.admin import SharedAdmin
from extproc.workers.control import BEAT_INTERVAL, MAX_LINE, Applied, Instruction, Status, read_status
from extproc.workers.given import Given
from extproc.workers.place import Place, places

log = logging.getLogger(__name__)

#: Seconds before a process that ended soon after its start is started again: the first time, and at most.
FIRST_BACKOFF, LAST_BACKOFF = 0.1, 5.0
#: A process that ran for so many seconds was well.
WELL_AFTER = 10.0
#: Signs of life that a process may owe. Nothing that it does takes so long; one that is stopped, or turns in circles,
#: may lead, and then no pod is scraped.
MISSED_BEATS = 10
#: Exit code of a process that cannot start as configured: trying again does not help.
CANNOT_START = 2
NOT_STARTED = "not started"


class Pace(NamedTuple):
    """How soon a process is started again, and given up."""

    first_backoff: float = FIRST_BACKOFF
    last_backoff: float = LAST_BACKOFF
    beat_interval: float = BEAT_INTERVAL
    missed_beats: int = MISSED_BEATS


PACE = Pace()


class WorkerError(GatewayError):
    """A process of the gateway cannot start; it has reported the reason itself."""


def run(loaded: Loaded, arguments: Sequence[str]) -> None:
    """Serves until SIGTERM or SIGINT; a second signal ends it at once.

    Args:
        loaded: the configuration of the gateway.
        arguments: of `infer-gateway serve`, for each process.

    Raises:
        WorkerError: a process cannot start.
    """
    set_up(loaded.config.logging.level, loaded.config.logging.format)
    for warning in loaded.warnings:
        log.warning("configuration: %s", warning)
    asyncio.run(Supervisor(loaded, arguments).run())


class Supervisor:
    """The parent of all processes of one gateway."""

    def __init__(self, loaded: Loaded, arguments: Sequence[str]) -> None:
        config = self._config = loaded.config
        self._in_force = InForce(Given(loaded.text, loaded.source))
        secret, gateway = secrets.randbits(64), secrets.randbits(64)
        every = places(config.transport)
        self._background = Background()
        self._processes = [
            _Process(
                place,
                arguments,
                secret,
                gateway,
                self._changed,
                background=self._background,
                in_force=self._in_force,
            )
            for place in every
        ]
        self._admin = SharedAdmin(
            config.admin.host,
            config.admin.port,
            {process.place.name: process.place.admin_socket for process in self._processes},
            runs=lambda: {process.place.name: process.run_id for process in self._processes},
            not_ready=self.not_ready,
            restarts=lambda: {process.place.name: process.restarts for process in self._processes},
            doubts=self._doubts,
            hosts=config.admin.hosts,
        )
        self._told_ready = False
        self._stopping = False
        self._cannot_start: WorkerError | None = None

    def not_ready(self) -> str:
        """Why no process can decide; "" where one can."""
        if self._stopping:
            return "draining"
        reasons = [process.not_ready for process in self._processes]
        return "" if "" in reasons else reasons[0]

    def _doubts(self) -> str:
        """What is wrong with a process that is ready, or why one is not; "": nothing."""
        found = {
            process.place.name: process.not_ready or process.doubts
            for process in self._processes
            if process.not_ready or process.doubts
        }
        if len(set(found.values())) == 1 and len(found) == len(self._processes):
            return next(iter(found.values()))
        return "; ".join([f"process {name}: {reason}" for name, reason in found.items()])

    async def run(self) -> None:
        """Until a signal.

        Raises:
            WorkerError: a process cannot start.
        """
        stopped = asyncio.Event()
        on_termination(stopped.set)
        try:
            admin = await self._admin.start()
        except OSError as error:
            raise WorkerError(f"cannot start: {error}") from error
        self._say_what_is_open(admin)
        keeping = [
            self._background.start("process", partial(self._keep, process), of=process.place.name, once=True)
            for process in self._processes
        ]
        ending = asyncio.create_task(stopped.wait())
        await asyncio.wait([ending, *keeping], return_when=asyncio.FIRST_COMPLETED)
        self._stopping = True
        log.info("draining")
        await asyncio.gather(*[process.stop() for process in self._processes])
        ending.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
        await self._admin.stop()
        if self._cannot_start is not None:
            raise self._cannot_start
        log.info("stopped")

    async def _keep(self, process: "_Process") -> None:
        try:
            await process.keep()
        except WorkerError as error:
            self._cannot_start = error

    def _say_what_is_open(self, admin: str) -> None:
        extproc = [process.place.address for process in self._processes]
        opened = surfaces(self._config, extproc=extproc[0], admin=admin)
        extra = {
            "version": __version__,
            "compiled": compiled(),
            "extproc": extproc,
            "admin": admin,
            "surfaces": [str(one) for one in opened],
        }
        log.info("serving", extra=extra)
        for surface in opened:
            if surface.exposed:
                log.warning("open to other machines", extra={"surface": str(surface)})

    def _changed(self) -> None:
        # The first time all have to be there: a standby that is not ready would be missed just when it is needed.
        reasons = [process.not_ready for process in self._processes]
        ready = not self.not_ready() if self._told_ready else not any(reasons)
        if ready and not self._told_ready:
            self._told_ready = True
            log.info("ready")


class InForce:
    """The configuration that processes are started with: what is on disk may be wrong by now, or another one."""

    def __init__(self, given: Given) -> None:
        self.given = given

    def applied(self, applied: Applied) -> None:
        """A process has put it into force, as far as that can be; the others do as well."""
        self.given = msgspec.structs.replace(self.given, applied=applied.text)


class _Process:
    """One process, started again whenever it ends by itself."""

    def __init__(
        self,
        place: Place,
        arguments: Sequence[str],
        secret: int,
        gateway: int,
        changed: Callable[[], None],
        pace: Pace = PACE,
        background: Background | None = None,
        in_force: "InForce | None" = None,
    ) -> None:
        self._in_force = in_force or InForce(Given(None, ""))
        self._background = background or Background()
        self.place = place
        self._pace = pace
        self.restarts = 0
        self.doubts = ""
        self.not_ready = NOT_STARTED
        self._command = [sys.executable, "-m", "extproc", "serve", *arguments, "--place", place.name]
        self._secret = secret
        self._gateway = gateway
        self._changed = changed
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    @property
    def run_id(self) -> str:
        """Differs between runs of the process."""
        return "" if self._process is None else str(self._process.pid)

    async def keep(self) -> None:
        """Runs it until `stop`.

        Raises:
            WorkerError: it cannot start, and never could.
        """
        backoff = self._pace.first_backoff
        loop = asyncio.get_running_loop()
        was_ready = False
        while not self._stopping.is_set():
            began = loop.time()
            code: int | None = None
            became_ready = False
            try:
                code, became_ready = await self._once()
            except OSError as error:
                # No memory, processes or descriptors left: the others go on.
                log.error("process not started", extra={"worker": self.place.name, "detail": str(error)})  # noqa: TRY400
            was_ready = was_ready or became_ready
            if self._stopping.is_set():
                return
            if code == CANNOT_START and not was_ready:
                raise WorkerError(f"cannot start: process {self.place.name} cannot, for what it said")
            ran_well = loop.time() - began >= WELL_AFTER
            backoff = self._pace.first_backoff if ran_well else min(backoff * 2, self._pace.last_backoff)
            log.error("process ended", extra={"worker": self.place.name, "code": code, "again_in": backoff})
            self.restarts += 1
            try:
                await asyncio.wait_for(self._stopping.wait(), backoff)
            except TimeoutError:
                continue

    async def _once(self) -> tuple[int, bool]:
        """One run: its exit code, and whether it was ever ready.

        Raises:
            OSError: it cannot be started.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            configuration = self._in_force.given.memory()
            try:
                # A session of its own: what a terminal sends to all is for the supervisor, which ends them in order.
                process = self._process = await asyncio.create_subprocess_exec(
                    *self._command, "--configuration", str(configuration),
                    stdin=theirs.fileno(), pass_fds=[configuration], start_new_session=True,
                )  # fmt: skip
            except BaseException:
                ours.close()
                raise
            finally:
                os.close(configuration)
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=MAX_LINE)
        was_ready = False

        def on_status(status: Status) -> None:
            nonlocal was_ready
            was_ready = was_ready or not status.not_ready
            self.not_ready = status.not_ready
            self.doubts = status.doubts
            self._changed()

        alive = asyncio.Event()
        watching = self._background.start("watch", partial(self._watch, process, alive), of=self.place.name, once=True)
        try:
            if self._stopping.is_set():
                process.send_signal(signal.SIGTERM)
            instruction = Instruction(self._secret, self._gateway, self.restarts)
            writer.write(msgspec.json.encode(instruction) + b"\n")
            await read_status(reader, on_status, alive.set, self._in_force.applied)
            return await process.wait(), was_ready
        except OSError:
            return await process.wait(), was_ready
        finally:
            watching.cancel()
            if process.returncode is None:
                # A fault of ours: the next one is not to find it there.
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            self.not_ready = NOT_STARTED
            self._changed()
            writer.close()

    async def _watch(self, process: asyncio.subprocess.Process, alive: asyncio.Event) -> None:
        """Kills the process when it gives no more signs of life.

        Turns of this loop are counted, not seconds: it may have been stopped itself, and all with it.
        """
        await alive.wait()
        missed = 0
        while missed < self._pace.missed_beats:
            alive.clear()
            await asyncio.sleep(self._pace.beat_interval)
            missed = 0 if alive.is_set() else missed + 1
        log.error("process hangs", extra={"worker": self.place.name})
        with contextlib.suppress(ProcessLookupError):
            process.kill()

    async def stop(self) -> None:
        self._stopping.set()
        process = self._process
        if process is not None and process.returncode is None:
            process.send_signal(signal.SIGTERM)
