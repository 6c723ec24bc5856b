"""Gateways without Envoy: a store of pods each, and all that shares it."""

import contextlib
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path
from typing import Any

import pydantic_core

from extproc.config.sections.sharing import SharingConfig
from extproc.sharing.gateways import Gateways
from extproc.sharing.replica import Replica
from scheduler.builder import build
from scheduler.config import SchedulerConfig
from scheduler.pool.shared import Event, SharedStore
from scheduler.registry import in_tree_registry
from scheduler.types import Pod

PODS = tuple(Pod(f"127.0.0.{number}:8000") for number in range(1, 4))
TOPIC = "pool default"
_names = count()


class Member:
    """One gateway of one process."""

    def __init__(self, config: SharingConfig, name: bytes | None = None, run: int = 0) -> None:
        self.seeds: list[int] = []
        self.gateways = Gateways(
            config, b"gw%06d" % next(_names) if name is None else name, "0", run, lambda seed: self._seed(seed)
        )
        tell = self.gateways.teller(TOPIC)
        self.store = SharedStore(2.0, lambda _pod: None, tell)
        self.store.set_pods(PODS, 0.0)
        self.replica = self.gateways.topics[TOPIC] = Replica(tell, 0)
        self.replica.share_store(self.store)
        self.profile, _ = build(SchedulerConfig(), in_tree_registry())
        self.replica.share_plugins(self.profile)

    def _seed(self, seed: int) -> None:
        self.seeds.append(seed)
        self.replica.reseed(seed)

    def in_flight(self) -> list[int]:
        return [row["in_flight"] for row in self.store.statistics(0.0)]

    def number(self, name: str) -> float:
        return self.gateways.statistics()[name]


def sharing(url: str | None = None, *, secret: Path | None = None, **redis: Any) -> SharingConfig:
    """The section of a configuration."""
    found: dict[str, Any] = {"redis": {"url": url, **redis} if url is not None else redis}
    if secret is not None:
        found["secretFile"] = str(secret)
    return SharingConfig.model_validate_json(pydantic_core.to_json(found))


@contextlib.asynccontextmanager
async def member(config: SharingConfig, **options: Any) -> AsyncIterator[Member]:
    one = Member(config, **options)
    await one.gateways.start()
    try:
        yield one
    finally:
        await one.gateways.stop()


def nothing(_event: Event) -> None:
    pass


Condition = Callable[[], bool]
