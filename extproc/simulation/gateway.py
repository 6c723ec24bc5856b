"""The gateway of a simulation: its own pipeline, pool, plugins and ledger, with the simulation's clock.

Nothing of how a pod is picked, and of what is learnt from how requests end, is written here a second time.
"""

from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from extproc.config import GatewayConfig
from extproc.outcome.ledger import Ledger
from extproc.outcome.outcome import Outcome
from extproc.request.context import Context
from extproc.request.pipeline import Exchange, Pipeline
from extproc.routing.choice import Router
from extproc.routing.pool import Pool
from extproc.sharing.replica import OtherProcess, Replica
from extproc.simulation.events import Events
from extproc.simulation.fleet import PageReader, Refused, SimulatedPod
from extproc.telemetry.decision_log import DecisionLog
from extproc.telemetry.metrics import Metrics
from scheduler.builder import build
from scheduler.pool.shared import SharedStore
from scheduler.pool.store import PodStore
from scheduler.registry import installed_registry
from scheduler.types import Pod

#: Bytes of a body: none of a trace is too large.
_ANY_BODY = 1 << 40
#: Seconds between looks at outcomes that do not come.
_TEND = 1.0


class SimulatedGateway:
    """One gateway.

    Args:
        config: what it is set up with.
        events: the simulation's.
        seed: of its ties and dice.
        tell: carries its events to the other gateways; None: there are none, or they do not know of each other.
    """

    def __init__(
        self, config: GatewayConfig, events: Events, seed: int, tell: Callable[[tuple[Any, ...]], None] | None = None
    ) -> None:
        self.faults: Counter[str] = Counter()
        self._events = events
        self._config = config
        self._readers: dict[str, PageReader] = {}
        profile, self.warnings = build(config.scheduling(), installed_registry(), on_fault=self._fault)
        stale_after = config.endpoints.effective_stale_after()
        self._replica: Replica | None = None
        store: PodStore
        if tell is None:
            store = PodStore(stale_after, on_left=profile.left)
        else:
            self._replica = Replica(tell, secret=1)
            store = SharedStore(stale_after, profile.left, tell)
            self._replica.share_store(store)
            self._replica.share_plugins(profile)
        self.pool = Pool("default", store, profile)
        self._ledger = Ledger()
        rng = Random(seed)  # noqa: S311 - a simulation
        self._pipeline = Pipeline(
            router=Router({"default": self.pool}, None, disaggregation=config.disaggregation.roles(), rng=rng),
            context=Context(
                metrics=Metrics(list, ("default",)),
                ledger=self._ledger,
                clock=self._clock,
                wall_clock=self._clock,
                rng=rng,
            ),
            authenticator=None,
            decisions=DecisionLog(0),
            max_body=_ANY_BODY,
            forward_token=False,
            identity_headers={},
        )

    def start(self) -> None:
        self._tend()

    def other(self) -> OtherProcess:
        """The receiver of one other gateway's events."""
        assert self._replica is not None  # noqa: S101 - a gateway that sends also receives
        return self._replica.other()

    def set_pods(self, pods: list[Pod]) -> None:
        """Sets the pods from discovery."""
        self.pool.store.set_pods(pods, self._events.now)

    def watch(self, pod: SimulatedPod, phase: float, until: Callable[[], bool]) -> None:
        """Scrapes a pod from now on, until `until()`; the first time after `phase` (0-1) of an interval."""
        reader = PageReader(pod)
        interval = self._config.endpoints.scrape.interval
        self._events.after(phase * interval, self._scrape, pod.pod.address, reader, interval, until)

    def open(self) -> Exchange:
        return self._pipeline.open()

    def ended(self, key: str, outcome: Outcome) -> None:
        """The access log's entry of a request."""
        self._ledger.arrived(key, outcome, self._events.now)

    def _clock(self) -> float:
        return self._events.now

    def _scrape(self, address: str, reader: PageReader, interval: float, until: Callable[[], bool]) -> None:
        if until():
            return
        now, store = self._events.now, self.pool.store
        try:
            sample = reader.read(now)
        except Refused:
            store.observe_failure(address, now, "connect")
        else:
            store.observe(address, sample, now)
        self._events.after(interval, self._scrape, address, reader, interval, until)

    def _tend(self) -> None:
        self._ledger.expire(self._events.now)
        self._events.after(_TEND, self._tend)

    def _fault(self, name: str, phase: str, error: Exception, /) -> None:
        self.faults[f"{name} ({phase}): {error}"] += 1


def carrier(events: Events, delay: float, receivers: list[Callable[[tuple[Any, ...]], None]]) -> Callable[..., None]:
    """Delivers one gateway's events to the others, each after `delay` seconds."""

    def tell(event: tuple[Any, ...]) -> None:
        for receive in receivers:
            events.after(delay, partial(receive, event))

    return tell
