"""Pods behind names in the DNS: a headless service, a list of hosts."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import ip_address

import msgspec

from scheduler.pool.discovery.addresses import IPAddress, join, order
from scheduler.pool.discovery.base import Publish
from scheduler.types import Pod

log = logging.getLogger(__name__)

#: Seconds between look-ups of a name. The DNS of a cluster answers with a time to live of 5 s or 30 s; a lookup is
#: cheap.
DEFAULT_INTERVAL = 5.0
#: Seconds between look-ups of a name that never had an answer, where the interval is longer: somebody waits for it.
FIRST_INTERVAL = 1.0
#: Seconds for a look-up, the resolver's own tries included (commonly two of 5 s for each server).
TIMEOUT = 30.0

Resolve = Callable[[str], Awaitable[Iterable[str]]]


class Target(msgspec.Struct, frozen=True):
    """A name, all of whose addresses are pods that serve on one port."""

    host: str
    port: int


async def resolve(host: str) -> set[str]:
    """The IPv4 and IPv6 addresses of a name, by the system's resolver.

    Raises:
        OSError: there are none, or nobody answers.
        ValueError: it cannot be a name in the DNS.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return {str(where[0]) for _, _, _, _, where in found}


class DnsDiscovery:
    """The addresses of all names, asked for again and again.

    A look-up that fails never takes away what an earlier one found, "no such name" included: a resolver that lost its
    upstream says the same. What an answer leaves out is gone. `first_sync` waits until every name had an answer.

    Args:
        targets: names and ports.
        interval: seconds between look-ups.
        resolve: host to IP addresses; raises OSError where there are none, ValueError for no name.
        sleep: waits between look-ups.
        timeout: seconds for one look-up.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        interval: float = DEFAULT_INTERVAL,
        *,
        resolve: Resolve = resolve,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        timeout: float = TIMEOUT,
    ) -> None:
        self._targets = tuple(dict.fromkeys(targets))
        self._interval = interval
        self._resolve = resolve
        self._sleep = sleep
        self._timeout = timeout
        self._found: dict[Target, frozenset[IPAddress]] = {}
        self._errors: dict[Target, str] = {}
        self._published: list[Pod] | None = None
        self.first_sync = asyncio.Event()

    async def run(self, publish: Publish) -> None:
        while True:
            await asyncio.gather(*map(self._ask, self._targets))
            if self._found or not self._targets:
                self._publish(publish)
            complete = len(self._found) == len(self._targets)
            if complete:
                self.first_sync.set()
            await self._sleep(self._interval if complete else min(self._interval, FIRST_INTERVAL))

    async def _ask(self, target: Target) -> None:
        try:
            found = await self._look_up(target.host)
        except (OSError, ValueError) as error:
            # TimeoutError is an OSError, and has no text of its own.
            text = str(error) or "no answer in time"
            if self._errors.get(target) != text:
                self._errors[target] = text
                kept = len(self._found.get(target, ()))
                log.warning("cannot resolve %s: %s; keeping %d addresses", target.host, text, kept)
            return
        if self._errors.pop(target, None) is not None:
            log.info("%s resolves again", target.host)
        self._found[target] = found

    async def _look_up(self, host: str) -> frozenset[IPAddress]:
        async with asyncio.timeout(self._timeout):
            found = frozenset(_addresses(await self._resolve(host)))
        if not found:
            raise OSError("no usable address")
        return found

    def _publish(self, publish: Publish) -> None:
        addresses = {(address, target.port) for target, found in self._found.items() for address in found}
        pods = [Pod(join(*one)) for one in sorted(addresses, key=order)]
        if pods != self._published:
            self._published = pods
            publish(pods)


def _addresses(answer: Iterable[str]) -> Iterable[IPAddress]:
    for text in answer:
        # An address with a zone (fe80::1%eth0) means something on one machine only.
        if "%" not in text:
            yield ip_address(text)
