"""What one process shares with others, put together: with those of its own gateway, and with other gateways."""

import asyncio
import secrets
from collections.abc import Callable, Mapping

from extproc.config import GatewayConfig
from extproc.process.background import Background
from extproc.sharing.entries import Entries
from extproc.sharing.gateways import Gateways
from extproc.sharing.replica import OtherProcess, Replica
from extproc.sharing.sockets.lead import Lead
from extproc.sharing.sockets.peers import Peers
from extproc.workers.control import Instruction
from extproc.workers.place import STANDBY, Place, places
from scheduler.pool.shared import Event, SharedStore
from scheduler.profile import Profile
from scheduler.types import Pod

#: What Envoy's access log is shared under, by the processes of one gateway.
LOG = "log"
#: Seconds between looks at whether all is known.
LOOK = 0.005


class Nearby:
    """The other processes of this gateway."""

    def __init__(self, config: GatewayConfig, place: Place) -> None:
        others = {other.name: other.peer_socket for other in places(config.transport) if other.name != place.name}
        self.place = place
        self.peers = Peers(place.peer_socket, others, lazily=[STANDBY])
        self.lead = Lead(place.lead_file)
        self.entries = Entries(self.peers.teller(LOG))
        self.peers.replicas[LOG] = self.entries


class Shared:
    """Makes what is alike in all processes. Stores and plugins first, then `start`.

    Args:
        config: of the gateway.
        place: of this process; None: the gateway has no other.
        instruction: of the supervisor; None as well.
    """

    def __init__(
        self, config: GatewayConfig, place: Place | None = None, instruction: Instruction | None = None
    ) -> None:
        given = Instruction(secrets.randbits(64), secrets.randbits(64), 0) if instruction is None else instruction
        self.nearby = None if place is None else Nearby(config, place)
        self._secret = given.secret
        self._pools: dict[str, Replica] = {}
        self.gateways: Gateways | None = None
        if config.sharing.on:
            name = "0" if place is None else place.name
            self.gateways = Gateways(config.sharing, given.gateway.to_bytes(8, "big"), name, given.run, self._reseed)

    @staticmethod
    def wanted(config: GatewayConfig, place: Place | None) -> bool:
        """Whether there is anybody to share with."""
        return place is not None or config.sharing.on

    def store(self, pool: str, stale_after: float, on_left: Callable[[Pod], None], *, follows: bool) -> SharedStore:
        """The store of a pool. Arguments are those of `PodStore`."""
        topic = _topic(pool)
        tell = self._teller(topic)
        store = SharedStore(stale_after, on_left, tell, follows=follows)
        replica = self._pools[pool] = Replica(tell, self._secret)
        if self.nearby is not None:
            self.nearby.peers.replicas[topic] = replica
        if self.gateways is not None:
            self.gateways.topics[topic] = replica
        replica.share_store(store)
        return store

    def plugins(self, pool: str, profile: Profile) -> None:
        """The plugins of a pool, now and after each reload."""
        self._pools[pool].share_plugins(profile)

    def _teller(self, topic: str) -> Callable[[Event], None]:
        near = None if self.nearby is None else self.nearby.peers.teller(topic)
        far = None if self.gateways is None else self.gateways.teller(topic)
        if near is None:
            assert far is not None  # noqa: S101 - else nothing is shared
            return far
        if far is None:
            return near

        def tell(event: Event) -> None:
            near(event)
            far(event)

        return tell

    def _reseed(self, seed: int) -> None:
        self._secret = seed
        for replica in self._pools.values():
            replica.reseed(seed)

    def not_ready(self) -> str:
        """Why this process should not decide yet: others know more. "" where it may."""
        reason = "" if self.nearby is None else self.nearby.peers.not_ready()
        return reason or ("" if self.gateways is None else self.gateways.not_ready())

    async def start(self, background: Background | None = None) -> None:
        """Begins to send and to receive. `background` restarts tasks that died.

        Raises:
            OSError: a socket cannot be bound, or the secret's file not be read.
        """
        if self.nearby is not None:
            await self.nearby.peers.start(background)
        if self.gateways is not None:
            await self.gateways.start(background)

    async def caught_up(self) -> None:
        """Waits until this process knows what the others do, or for as long as it has patience."""
        while self.not_ready():  # noqa: ASYNC110 - also when time is up
            await asyncio.sleep(LOOK)

    async def stop(self) -> None:
        if self.gateways is not None:
            await self.gateways.stop()
        if self.nearby is not None:
            await self.nearby.peers.stop()

    def elsewhere(self, pool: str) -> Mapping[str, tuple[int, int]]:
        """By address of the pod: requests that other gateways have in flight there, and their uncached tokens."""
        counts: dict[str, tuple[int, int]] = {}
        if self.gateways is not None:
            for incoming in self.gateways.incoming(_topic(pool)):
                assert isinstance(incoming, OtherProcess)  # noqa: S101 - a pool's is
                for address, tokens in incoming.requests():
                    requests, sum_ = counts.get(address, (0, 0))
                    counts[address] = requests + 1, sum_ + tokens
        return counts

    def statistics(self) -> Mapping[str, float]:
        """Statistics of the sharing with other gateways, by name; empty where no gateway shares."""
        return {} if self.gateways is None else self.gateways.statistics()


def _topic(pool: str) -> str:
    return f"pool {pool}"
