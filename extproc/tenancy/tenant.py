"""The tenant of a request: one definition for limits, metrics and logs."""

from extproc.auth.base import Identity
from extproc.protocol.headers import FORWARDED_FOR, Headers


def tenant_of(identity: Identity | None, headers: Headers) -> str:
    """The subject of the token, of its issuer; without one, the client's address.

    The three never clash: their first words differ.
    """
    if identity is not None and identity.subject:
        return f"subject {identity.subject} {identity.issuer}"
    return f"address {client_address(headers)}"


def client_address(headers: Headers) -> str:
    """Address of Envoy's client, which Envoy appends last: earlier entries may be forged. Empty: not known."""
    addresses = headers.raw(FORWARDED_FOR)
    return "" if addresses is None else addresses.rpartition(b",")[2].strip().decode("latin-1")
