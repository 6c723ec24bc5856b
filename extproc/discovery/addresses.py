"""Addresses of pods: one spelling for each, and an order."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

IPAddress = IPv4Address | IPv6Address

_BROADCAST = IPv4Address("255.255.255.255")


def join(ip: IPAddress, port: int) -> str:
    """`ip:port`, or `[ip6]:port`, the IP in its shortest form."""
    return f"{ip}:{port}" if ip.version == 4 else f"[{ip}]:{port}"


def normal(text: str) -> str:
    """An address in the spelling of `join`.

    Raises:
        ValueError: it is not an IP address and a port of 1-65535.
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    try:
        ip = ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        colon = ""
    if not colon or not 1 <= number <= 65535 or bracketed != (ip.version == 6) or "%" in host:
        raise ValueError(f"must be an IP address and a port, such as 10.0.0.1:8000 or [::1]:8000, not {text[:80]!r}")
    return join(ip, number)


def forbidden(ip: IPAddress, *, local: bool = True) -> str:
    """Why no pod can be at this address; empty: one can.

    Args:
        ip: the address.
        local: whether pods may be on this machine, or only on its own link.
    """
    ip = ip.ipv4_mapped or ip if isinstance(ip, IPv6Address) else ip
    if ip.is_unspecified or ip.is_multicast or ip == _BROADCAST:
        return "is not the address of a host"
    if not local and (ip.is_loopback or ip.is_link_local):
        return "is an address of this machine or link, and endpoints.localAddresses is refuse"
    return ""


def order(one: tuple[IPAddress, int]) -> tuple[int, int, int]:
    """Key of a sort by family, address and port, as numbers."""
    ip, port = one
    return ip.version, int(ip), port


def usable(texts: Iterable[str]) -> IPAddress | None:
    """The first of the addresses, or None; IPv4 before IPv6, so that a pod with both is one pod."""
    found: list[IPAddress] = []
    for text in texts:
        try:
            ip = ip_address(text)
        except ValueError:
            continue
        # An address with a zone (fe80::1%eth0) means something on one machine only.
        if "%" not in text and not forbidden(ip):
            found.append(ip)
    return min(found, key=lambda ip: ip.version, default=None)
