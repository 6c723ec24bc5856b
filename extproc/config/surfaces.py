"""Every surface that the gateway opens, the clients that can reach it, and its protection."""

from typing import NamedTuple

from extproc.config.model import GatewayConfig
from extproc.config.sections.transport import TransportConfig
from extproc.config.units import is_loopback
from extproc.process.unix_socket import UNIX

_SOCKET = "a Unix socket of mode 0600: this user and root"
_LOOPBACK = "loopback: every process of this machine (or pod)"


class Surface(NamedTuple):
    """Something that others can connect to."""

    #: Whose it is, and for what.
    name: str
    address: str
    protection: str
    #: True: other machines can reach it, and the gateway itself does nothing against that.
    exposed: bool

    def __str__(self) -> str:
        return f"{self.name} at {self.address}: {self.protection}"


def surfaces(config: GatewayConfig, *, extproc: str, admin: str) -> tuple[Surface, ...]:
    """Every surface of `config`; `extproc` and `admin` are where the sidecar really listens."""
    listener = config.listener
    host = f"[{listener.host}]" if ":" in listener.host else listener.host
    requests = f"{host}:{listener.port}"
    tls = listener.tls
    wire = "no TLS" if tls is None else "TLS" if tls.client_ca_file is None else "TLS with client certificates"
    if config.auth_policy() is not None:
        clients = Surface("requests (Envoy)", requests, f"bearer tokens; {wire}", False)
    elif tls is not None and tls.client_ca_file is not None:
        clients = Surface("requests (Envoy)", requests, f"{wire}; authentication is off", False)
    else:
        clients = _bound("requests (Envoy)", requests, "authentication is off")
    return (
        clients,
        Surface("admin interface (Envoy)", f"{UNIX}{config.envoy.admin_socket}", _SOCKET, False),
        _ext_proc(config.transport, extproc),
        _bound("health, metrics, debug pages (sidecar)", admin, "whoever reaches it can read them"),
    )


def _ext_proc(transport: TransportConfig, address: str) -> Surface:
    name, otherwise = "ext_proc (sidecar)", "whoever reaches it learns the pods and can pose as Envoy"
    tls = transport.tls
    if tls is None:
        return _bound(name, address, f"{otherwise}; no TLS")
    if tls.client_ca_file is not None:
        return Surface(name, address, "TLS, for clients with a certificate of the given authorities", False)
    plain = _bound(name, address, otherwise)
    return plain._replace(protection=f"TLS; against clients, {plain.protection}")


def _bound(name: str, address: str, otherwise: str) -> Surface:
    if address.startswith(UNIX):
        return Surface(name, address, _SOCKET, False)
    if is_loopback(address.rpartition(":")[0].strip("[]")):
        return Surface(name, address, _LOOPBACK, False)
    return Surface(name, address, f"nothing: {otherwise}", True)
