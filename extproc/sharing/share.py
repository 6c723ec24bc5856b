"""What one process of several shares with the others, put together."""

from collections.abc import Callable

from extproc.config import GatewayConfig
from extproc.sharing.entries import Entries
from extproc.sharing.replica import Replica
from extproc.sharing.sockets.lead import Lead
from extproc.sharing.sockets.peers import Peers
from extproc.workers.control import Instruction
from extproc.workers.place import STANDBY, Place, places
from scheduler.pool.shared import SharedStore
from scheduler.profile import Profile
from scheduler.types import Pod

#: What Envoy's access log is shared under.
LOG = "log"


class Shared:
    """Makes what is alike in all processes. Stores and plugins first, then `peers.start()`."""

    def __init__(self, config: GatewayConfig, place: Place, instruction: Instruction) -> None:
        others = {other.name: other.peer_socket for other in places(config.transport) if other.name != place.name}
        self.place = place
        self.peers = Peers(place.peer_socket, others, lazily=[STANDBY])
        self.lead = Lead(place.lead_file)
        self.entries = Entries(self.peers.teller(LOG))
        self.peers.replicas[LOG] = self.entries
        self._secret = instruction.secret
        self._pools: dict[str, Replica] = {}

    def store(self, pool: str, stale_after: float, on_left: Callable[[Pod], None]) -> SharedStore:
        """The store of a pool."""
        tell = self.peers.teller(f"pool {pool}")
        store = SharedStore(stale_after, on_left, tell)
        replica = self._pools[pool] = self.peers.replicas[f"pool {pool}"] = Replica(tell, self._secret)
        replica.share_store(store)
        return store

    def plugins(self, pool: str, profile: Profile) -> None:
        """The plugins of a pool, now and after each reload."""
        self._pools[pool].share_plugins(profile)
