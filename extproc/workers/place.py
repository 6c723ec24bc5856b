"""Which process of a gateway this is, and where each of them has its sockets."""

from pathlib import Path
from typing import Final

import msgspec

from extproc.config import TransportConfig
from extproc.errors import GatewayError
from extproc.process.unix_socket import UNIX

STANDBY: Final = "standby"


class Place(msgspec.Struct, frozen=True):
    """One process of several."""

    #: "0", "1", … of workers, or "standby".
    name: str
    #: Where Envoy reaches it: `unix://…`.
    address: str

    @property
    def stands_by(self) -> bool:
        return self.name == STANDBY

    @property
    def admin_socket(self) -> str:
        """Path of its admin pages, which are the supervisor's to read."""
        return self._beside("admin")

    @property
    def peer_socket(self) -> str:
        """Path of the socket where it receives the other processes' events."""
        return self._beside("peer")

    @property
    def lead_file(self) -> str:
        """Path of the lock of the process that leads: one for all."""
        return str(Path(self.address.removeprefix(UNIX)).with_name(".lead"))

    def _beside(self, kind: str) -> str:
        path = Path(self.address.removeprefix(UNIX))
        return str(path.with_name(f".{path.name}.{kind}"))


def places(transport: TransportConfig) -> tuple[Place, ...]:
    """All processes, workers first. Of one that is alone, only its address is of use."""
    address = transport.address
    found = [Place("0", address)]
    found += [Place(str(number), _variant(address, str(number))) for number in range(1, transport.workers)]
    if transport.standby:
        found.append(Place(STANDBY, _variant(address, STANDBY)))
    return tuple(found)


def place_of(transport: TransportConfig, name: str | None) -> Place | None:
    """The process of that name; None, of one that is alone.

    Raises:
        GatewayError: there is none of that name. It is asked for by the supervisor, which knows them.
    """
    if name is None:
        return None
    for place in places(transport):
        if place.name == name:
            return place
    raise GatewayError(f"there is no process {name!r}")


def _variant(address: str, name: str) -> str:
    path = Path(address.removeprefix(UNIX))
    return f"{UNIX}{path.with_name(f'{path.stem}-{name}{path.suffix}')}"
