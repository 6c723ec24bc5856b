"""One simulation: a workload, a fleet, gateways of one configuration."""

from collections.abc import Callable
from random import Random
from typing import Any
from zlib import crc32

import msgspec

from extproc.config import GatewayConfig
from extproc.simulation.calls import Call, Workload
from extproc.simulation.engine import Job
from extproc.simulation.events import Events
from extproc.simulation.fleet import PodPlan, SimulatedPod, addresses
from extproc.simulation.gateway import SimulatedGateway, carrier
from extproc.simulation.proxy import Passage
from extproc.simulation.records import Record
from scheduler.types import Pod

#: Seconds in which scrapes of all pods are spread at the beginning, and before the first request.
_LEAD = 1.0
#: Seconds until discovery reports that a pod failed, or is back: kubelet's readiness probe, three times in vain.
DISCOVERY_DELAY = 5.0


class FleetPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The pods, and how many gateways there are in front of them."""

    pods: tuple[PodPlan, ...]
    gateways: int = 1
    #: Seconds for what one gateway does to be known to the others; None: they never know.
    delay: float | None = 0.002
    #: Seconds for a crash, and for a return, to be known by discovery.
    discovery_delay: float = DISCOVERY_DELAY


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one simulation."""

    records: list[Record]
    #: Seconds from the first request to the end of the last.
    seconds: float
    #: Faults of plugins, and how often.
    faults: dict[str, int]


class Simulation:
    """Set it up, then `run` it once."""

    def __init__(
        self,
        config: GatewayConfig,
        workload: Workload,
        plan: FleetPlan,
        *,
        seed: int,
        progress: Callable[[int], None] = lambda ended: None,  # noqa: ARG005
    ) -> None:
        """Makes a simulation.

        Args:
            config: of the gateways.
            workload: begun once.
            plan: pods and gateways.
            seed: equal seeds give equal results.
            progress: called with the number of requests that have ended, now and then.
        """
        self._config = config
        self._workload = workload
        self._plan = plan
        self._progress = progress
        self._events = Events()
        self._rng = Random(seed)  # noqa: S311 - a simulation
        self._records: list[Record] = []
        self._open = 0
        self._begun = False
        names = addresses(len(plan.pods))
        self._pods = {
            address: SimulatedPod(Pod(address, one.name, one.labels), one.engine, self._events, self._told, self._lost)
            for address, one in zip(names, plan.pods, strict=True)
        }
        self._ready: dict[str, Pod] = {}
        self._gateways = self._make_gateways(seed)

    def run(self) -> Result:
        """The whole of it."""
        events = self._events
        for gateway in self._gateways:
            gateway.start()
        for (address, pod), plan in zip(self._pods.items(), self._plan.pods, strict=True):
            self._expect(address, pod, plan)
        start = _LEAD
        for call in self._workload.begin():
            self._arrives(call, start)
        while self._open and events.step():
            pass
        faults: dict[str, int] = {}
        for gateway in self._gateways:
            for text, count in gateway.faults.items():
                faults[text] = faults.get(text, 0) + count
        self._progress(len(self._records))
        return Result(records=self._records, seconds=events.now - start, faults=faults)

    def _make_gateways(self, seed: int) -> list[SimulatedGateway]:
        plan = self._plan
        if plan.gateways == 1 or plan.delay is None:
            return [SimulatedGateway(self._config, self._events, seed + index) for index in range(plan.gateways)]
        gateways: list[SimulatedGateway] = []
        receivers: list[list[Callable[[tuple[Any, ...]], None]]] = [[] for _ in range(plan.gateways)]
        for index in range(plan.gateways):
            tell = carrier(self._events, plan.delay, receivers[index])
            gateways.append(SimulatedGateway(self._config, self._events, seed + index, tell))
        for index, gateway in enumerate(gateways):
            for other in range(plan.gateways):
                if other != index:
                    receivers[other].append(gateway.other().apply)
        return gateways

    def _expect(self, address: str, pod: SimulatedPod, plan: PodPlan) -> None:
        events, delay = self._events, self._plan.discovery_delay
        if plan.joins <= 0:
            self._joins(address, pod)
        else:
            events.at(_LEAD + plan.joins, self._joins, address, pod)
        # Never, for what is at infinity.
        events.at(_LEAD + plan.leaves, self._leaves, address)
        events.at(_LEAD + plan.fails, pod.crash)
        events.at(_LEAD + plan.fails + delay, self._leaves, address)
        events.at(_LEAD + plan.returns, pod.come_back)
        events.at(_LEAD + plan.returns + delay, self._joins, address, pod)

    def _joins(self, address: str, pod: SimulatedPod) -> None:
        known = self._ready[address] = pod.pod
        self._discovered()
        # The same pod has the same phase at each gateway, as `fleet.scrape` has it.
        phase = crc32(address.encode()) / 2**32
        for gateway in self._gateways:
            gateway.watch(pod, phase, lambda: self._ready.get(address) is not known)

    def _leaves(self, address: str) -> None:
        if self._ready.pop(address, None) is not None:
            self._discovered()

    def _discovered(self) -> None:
        pods = [self._ready[address] for address in self._pods if address in self._ready]
        for gateway in self._gateways:
            gateway.set_pods(pods)

    def _arrives(self, call: Call, start: float) -> None:
        self._open += 1
        self._events.at(start + call.at, self._begin, call)

    def _begin(self, call: Call) -> None:
        gateways = self._gateways
        gateway = gateways[0] if len(gateways) == 1 else self._rng.choice(gateways)
        retries = self._config.envoy.retries
        Passage(call, gateway, self._pods, self._events, self._workload.block_tokens, retries, self._ended).start()

    def _told(self, job: Job, first: bool) -> None:
        passage = job.owner
        assert isinstance(passage, Passage)  # noqa: S101 - the only callers
        if first:
            passage.first_token()
        else:
            passage.finished(job)

    def _lost(self, job: Job) -> None:
        passage = job.owner
        assert isinstance(passage, Passage)  # noqa: S101
        passage.lost()

    def _ended(self, call: Call, record: Record) -> None:
        self._open -= 1
        self._records.append(record)
        if len(self._records) % 64 == 0:
            self._progress(len(self._records))
        following = self._workload.after(call, self._events.now)
        if following is not None:
            self._arrives(following, 0.0)
