"""Looks names up as the machine is set up: the hosts file, the DNS servers and search domains of resolv.conf."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from math import inf
from pathlib import Path

from dns.asyncresolver import Resolver as Stub
from dns.exception import DNSException, Timeout
from dns.name import Name, NameTooLong, from_text, root
from dns.rdatatype import RdataType
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA
from dns.rdtypes.IN.SRV import SRV
from dns.resolver import NXDOMAIN, NoNameservers
from dns.resolver import Answer as Records
from dns.rrset import RRset

from extproc.discovery.addresses import IPAddress, forbidden
from extproc.discovery.dns.answer import Answer, Nothing, Target
from extproc.discovery.dns.hosts import read_hosts

#: Seconds for one question, all servers and tries included: twice what resolv.conf gives a server by default (5 s).
LIFETIME = 10.0
#: Dots in a name from which it is tried as it is before the search domains, where resolv.conf has no `ndots`.
NDOTS = 1
#: Targets of SRV records whose addresses are asked for at one time: each has two sockets, and a server that is asked
#: thousands of questions at once drops some.
CONCURRENT_TARGETS = 16

RESOLV_CONF = Path("/etc/resolv.conf")
HOSTS = Path("/etc/hosts")

_Addresses = frozenset[IPAddress]
#: IPv4 and IPv6 addresses of a name.
_Families = tuple[_Addresses, _Addresses]

_FAMILIES = (RdataType.A, RdataType.AAAA)
_NONE: _Families = (frozenset(), frozenset())


class Resolver:
    """Looks up one target, again and again. Both files are read each time, as they may change.

    Where a part of an answer cannot be had (the addresses of one family, or of one host that an SRV record names), what
    was last known of that part stands in for it.

    Args:
        resolv_conf: servers, search domains and options, as in resolv.conf(5).
        hosts: names that are not asked for, as in hosts(5).
        port: of the servers.
        lifetime: seconds for one question.
    """

    def __init__(
        self, resolv_conf: Path = RESOLV_CONF, hosts: Path = HOSTS, port: int = 53, lifetime: float = LIFETIME
    ) -> None:
        self._resolv_conf = resolv_conf
        self._hosts = hosts
        self._port = port
        self._lifetime = lifetime
        self._known: Mapping[str, _Families] = {}

    async def __call__(self, target: Target) -> Answer:
        """All pods of a target.

        Raises:
            OSError: there are none, or no server answers.
            ValueError: it cannot be a name in the DNS.
        """
        look_up = _LookUp(self._stub(), self._read_hosts(), self._known)
        try:
            if target.port is None:
                pods = await look_up.service(target.host)
            else:
                v4, v6 = await look_up.addresses(target.host)
                pods = frozenset((ip, target.port) for ip in v4 | v6)
                if not pods:
                    raise OSError("no usable address")
        except DNSException as error:
            raise ValueError(f"not a name in the DNS: {type(error).__name__}") from error
        self._known = look_up.known
        return Answer(pods, look_up.ttl, look_up.trouble)

    def _stub(self) -> Stub | OSError:
        """The DNS client; or why there is none, which matters only to names that are not in the hosts file."""
        try:
            stub = Stub(self._resolv_conf)
        except (DNSException, ValueError) as error:
            return OSError(f"{self._resolv_conf}: {error}")
        stub.port = self._port
        stub.lifetime = self._lifetime
        return stub

    def _read_hosts(self) -> Mapping[str, _Addresses]:
        try:
            return read_hosts(self._hosts.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return {}


class _LookUp:
    """One look-up: what is found on the way."""

    def __init__(self, stub: Stub | OSError, hosts: Mapping[str, _Addresses], before: Mapping[str, _Families]) -> None:
        self._stub = stub
        self._hosts = hosts
        self._before = before
        self._limit = asyncio.Semaphore(CONCURRENT_TARGETS)
        self.known: dict[str, _Families] = {}
        self.ttl = inf
        self.trouble = ""

    async def addresses(self, host: str) -> _Families:
        """All usable addresses of a host.

        Raises:
            OSError: neither family has an answer.
        """
        own = self._hosts.get(host.lower().rstrip("."))
        if own is not None:
            families = _usable(ip for ip in own if ip.version == 4), _usable(ip for ip in own if ip.version == 6)
        else:
            outcomes = await self._first(host, *_FAMILIES)
            before = self._before.get(host, _NONE)
            v4, v6 = (self._of(host, outcome, last) for outcome, last in zip(outcomes, before, strict=True))
            families = v4, v6
        self.known[host] = families
        return families

    def _of(self, host: str, outcome: Records | OSError, before: _Addresses) -> _Addresses:
        if isinstance(outcome, Records):
            self._hold(outcome.chaining_result.minimum_ttl)
            return _ips(outcome.rrset)
        if isinstance(outcome, Nothing):
            return frozenset()
        self._trouble(host, outcome)
        return before

    async def service(self, name: str) -> frozenset[tuple[IPAddress, int]]:
        """All hosts and ports that the SRV records with the lowest priority name.

        The other priorities are there for when no host of the lowest can be reached. That is for the scheduler to see
        and not for the DNS; it would have to know them apart, so they are left out. So are the weights: load is
        spread by what pods report.

        Raises:
            OSError: there are no records, or no target has an address.
        """
        (answer,) = (one for one in await self._first(name, RdataType.SRV) if isinstance(one, Records))
        self._hold(answer.chaining_result.minimum_ttl)
        records = [one for one in answer.rrset or () if isinstance(one, SRV)]
        named = [one for one in records if one.target != root and one.port]
        if not named:
            # RFC 2782: the target "." means that there is decidedly no such service.
            if all(one.target == root for one in records):
                return frozenset()
            raise OSError("its SRV records have port 0")
        lowest = min(one.priority for one in named)
        ports: dict[Name, set[int]] = {}
        for one in named:
            if one.priority == lowest:
                ports.setdefault(one.target, set()).add(one.port)
        sent: dict[Name, list[RRset]] = {}
        for rrset in answer.response.additional:
            if rrset.rdtype in _FAMILIES:
                sent.setdefault(rrset.name, []).append(rrset)
        found = await asyncio.gather(*(self._target(target, sent.get(target, ())) for target in ports))
        pods = frozenset(
            (ip, port) for target, ips in zip(ports, found, strict=True) for ip in ips for port in ports[target]
        )
        if not pods:
            raise OSError(f"none of its {len(ports)} targets has an address ({self.trouble or 'none is usable'})")
        return pods

    async def _target(self, target: Name, sent: Iterable[RRset]) -> _Addresses:
        """A target is one pod: with addresses of both families it is taken at the IPv4 ones."""
        host = target.to_text()
        if sent and host.lower().rstrip(".") not in self._hosts:
            # Servers of clusters send the addresses along. Thousands of questions are saved by believing them.
            for rrset in sent:
                self._hold(rrset.ttl)
            v4, v6 = (
                frozenset[IPAddress]().union(*(_ips(rrset) for rrset in sent if rrset.rdtype == family))
                for family in _FAMILIES
            )
            self.known[host] = v4, v6
            return v4 or v6
        async with self._limit:
            try:
                v4, v6 = await self.addresses(host)
            except OSError as error:
                self._trouble(host, error)
                v4, v6 = self.known[host] = self._before.get(host, _NONE)
        return v4 or v6

    async def _first(self, host: str, *types: RdataType) -> list[Records | OSError]:
        """Records of each type for the first name, in the order of search, that has any.

        Once a name could not be asked for, a later one does not speak for it, but for the name as it is written: where
        the cluster's own domain is out of order, a wildcard in the last search domain must not name its pods.

        Raises:
            OSError: no name has any.
        """
        stub = self._stub
        if isinstance(stub, OSError):
            raise stub
        given = from_text(host, origin=None)
        failure: OSError | None = None
        for name in _names(given, stub):
            if failure is not None and not isinstance(failure, Nothing) and len(name) > len(given) + 1:
                continue
            outcomes = await asyncio.gather(*(_ask(stub, name, one) for one in types))
            if any(isinstance(one, Records) for one in outcomes):
                return outcomes
            for one in outcomes:
                if isinstance(one, OSError) and (failure is None or isinstance(failure, Nothing)):
                    failure = one
        raise failure or Nothing("no such name")

    def _hold(self, ttl: float) -> None:
        self.ttl = min(self.ttl, ttl)

    def _trouble(self, host: str, error: OSError) -> None:
        """The least of all texts, so that it is the same however the answers come in."""
        text = f"{host}: {error}"
        self.trouble = min(self.trouble or text, text)


def _names(given: Name, stub: Stub) -> Iterator[Name]:
    """A name with the search domains, in the order of resolv.conf(5)."""
    if given.is_absolute():
        yield given
        return
    as_it_is = given.concatenate(root)
    many_dots = len(given) - 1 >= (NDOTS if stub.ndots is None else stub.ndots)
    if many_dots:
        yield as_it_is
    for domain in stub.search or [stub.domain]:
        if domain != root:
            try:
                yield given.concatenate(domain)
            except NameTooLong:
                continue
    if not many_dots:
        yield as_it_is


async def _ask(stub: Stub, name: Name, rdtype: RdataType) -> Records | OSError:
    """The records of a name, at least one; or why there are none."""
    try:
        answer = await stub.resolve(name, rdtype, raise_on_no_answer=False, search=False)
    except NXDOMAIN:
        return Nothing("no such name")
    except Timeout:
        # The error's own text has the time that passed, which differs each time.
        return TimeoutError("no answer in time")
    except NoNameservers as error:
        errors = error.kwargs["errors"]
        reasons = {why if isinstance(why, str) else type(why).__name__ for _, _, _, why, _ in errors}
        return OSError(f"no server can say ({', '.join(sorted(reasons))})")
    except DNSException as error:
        return OSError(type(error).__name__)
    return answer if answer.rrset else Nothing(f"it has no {'address' if rdtype in _FAMILIES else 'SRV record'}")


def _ips(records: Iterable[object] | None) -> _Addresses:
    return _usable(ip_address(one.address) for one in records or () if isinstance(one, A | AAAA))


def _usable(ips: Iterable[IPAddress]) -> _Addresses:
    """0.0.0.0 is what servers say of names that they block."""
    return frozenset(ip for ip in ips if not forbidden(ip))
