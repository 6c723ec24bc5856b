"""Runs an engine on the event loop's clock: one timer, set to the moment at which the engine has something to do."""

import asyncio
import time

from modelsim.engine import Engine, Request
from modelsim.jobs import EngineJob
from modelsim.metrics import Metrics
from modelsim.profile import EngineConfig


class Driver:
    def __init__(self, config: EngineConfig, metrics: Metrics) -> None:
        self.engine = Engine(config)
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._jobs: dict[str, EngineJob] = {}
        self._timer: asyncio.TimerHandle | None = None

    def submit(self, request: Request) -> EngineJob:
        """Raises what `Engine.submit` raises. The job must be closed."""
        self.engine.submit(request, self._loop.time())
        job = self._jobs[request.id] = EngineJob(request.id)
        self._pump()
        return job

    def close(self, job: EngineJob) -> None:
        """Ends a job, aborting it where it is not finished."""
        del self._jobs[job.id]
        if not job.finished:
            self.engine.abort(job.id, self._loop.time())
            self._pump()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pump(self) -> None:
        now = self._loop.time()
        for event in self.engine.advance(now):
            self._metrics.observe(event)
            # Absent where the job was closed between the event and now.
            if (job := self._jobs.get(event.id)) is not None:
                job.receive(event)
        if self.engine.lora_slots.loaded:
            self._metrics.note_adapters(self.engine, time.time())
        self.stop()
        moment = self.engine.next_event(now)
        if moment is not None:
            self._timer = self._loop.call_at(moment, self._pump)
