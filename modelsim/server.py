"""Many model servers in one process.

async with await serve([ReplicaConfig(), ReplicaConfig()]) as fleet:
    ... fleet.addresses ...
"""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import msgspec

from modelsim.faults import Faults
from modelsim.profile import EngineConfig, Profile
from modelsim.replica import Replica, ReplicaConfig

__all__ = ["EngineConfig", "Faults", "Fleet", "Profile", "Replica", "ReplicaConfig", "serve"]


class Fleet:
    """Replicas that were started by `serve`. As a context manager, stops them at the end."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self.replicas = tuple(replicas)

    @property
    def addresses(self) -> list[str]:
        """`ip:port` of each replica, dead ones too."""
        return [replica.address for replica in self.replicas]

    async def kill(self, index: int) -> None:
        """Lets a replica crash: it stops listening and its connections end at once."""
        await self.replicas[index].kill()

    async def restart(self, index: int) -> None:
        """Brings a replica back on the same port, with nothing in its memory; one that is alive crashes first.

        Raises OSError where somebody else took the port in the meantime.
        """
        await self.replicas[index].kill()
        await self.replicas[index].start()

    async def stop(self) -> None:
        """Cuts all connections and frees all ports. May be called again."""
        await asyncio.gather(*[replica.kill() for replica in self.replicas])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()


async def serve(replicas: Sequence[ReplicaConfig]) -> Fleet:
    """Starts replicas. Raises OSError where an address is in use; then none is left running."""
    fleet = Fleet(
        [
            Replica(config if config.name else msgspec.structs.replace(config, name=f"replica-{index}"))
            for index, config in enumerate(replicas)
        ]
    )
    try:
        for replica in fleet.replicas:
            await replica.start()
    except BaseException:
        await fleet.stop()
        raise
    return fleet
