"""The hosts file: names that this machine knows by itself, /etc/hosts."""

from ipaddress import ip_address

from extproc.discovery.addresses import IPAddress


def read_hosts(text: str) -> dict[str, frozenset[IPAddress]]:
    """The addresses of each name, names in lower case. A line that is none is passed over, as the C library does."""
    found: dict[str, set[IPAddress]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        # An address with a zone (fe80::1%lo0) means something on one machine only.
        if "%" in address:
            continue
        try:
            ip = ip_address(address)
        except ValueError:
            continue
        for name in names:
            found.setdefault(name.lower().rstrip("."), set()).add(ip)
    return {name: frozenset(ips) for name, ips in found.items()}
