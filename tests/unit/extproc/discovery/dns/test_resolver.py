"""Against a real server, over UDP and TCP."""

import asyncio
from collections.abc import AsyncIterator
from math import inf
from pathlib import Path

import pytest
from dns.rcode import NXDOMAIN, REFUSED, SERVFAIL, Rcode
from hypothesis import given
from hypothesis import strategies as st
from support.dns_server import DnsServer, dns_server, resolv_conf

from extproc.discovery.addresses import join, order
from extproc.discovery.dns.answer import Answer, Target
from extproc.discovery.dns.resolver import Resolver

NAME = "pods.example"
SERVICE = "_http._tcp.pods.example"
#: Of a pod in the namespace `default`, as a kubelet writes it.
KUBERNETES = ("search default.svc.cluster.local svc.cluster.local cluster.local", "options ndots:5")
#: Seconds for a question that nobody answers.
SHORT = 0.5


def pods(answer: Answer) -> list[str]:
    return [join(*one) for one in sorted(answer.pods, key=order)]


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with dns_server() as one:
        yield one


class Machine:
    """Its two files, and a resolver that reads them."""

    def __init__(self, folder: Path, server: DnsServer) -> None:
        self.folder = folder
        self.hosts = folder / "hosts"
        self.configure()
        self.resolver = Resolver(folder / "resolv.conf", self.hosts, server.port, lifetime=10)

    def configure(self, *lines: str, servers: tuple[str, ...] = ("127.0.0.1",)) -> None:
        resolv_conf(self.folder, *lines, servers=servers)

    async def __call__(self, name: str = NAME, port: int | None = 80) -> Answer:
        return await self.resolver(Target(name, port))

    def impatient(self, server: DnsServer) -> None:
        self.resolver = Resolver(self.folder / "resolv.conf", self.hosts, server.port, lifetime=SHORT)


@pytest.fixture
def machine(tmp_path: Path, server: DnsServer) -> Machine:
    return Machine(tmp_path, server)


# Addresses


async def test_both_families_and_the_shorter_time_to_live(server: DnsServer, machine: Machine) -> None:
    server.put(NAME, "A", "10.0.0.2", "10.0.0.1", ttl=30)
    server.put(NAME, "AAAA", "fd00::1", ttl=20)
    answer = await machine()
    assert pods(answer) == ["10.0.0.1:80", "10.0.0.2:80", "[fd00::1]:80"]
    assert (answer.ttl, answer.trouble) == (20, "")
    server.put(NAME, "AAAA")
    answer = await machine()
    assert pods(answer) == ["10.0.0.1:80", "10.0.0.2:80"]
    assert answer.ttl == 30
    server.put(NAME, "A", "10.0.0.1", ttl=0)
    assert (await machine()).ttl == 0


async def test_an_alias(server: DnsServer, machine: Machine) -> None:
    server.put(NAME, "CNAME", "other.example.", ttl=7)
    server.put("other.example", "A", "10.0.0.1", ttl=30)
    answer = await machine()
    assert pods(answer) == ["10.0.0.1:80"]
    assert answer.ttl == 7


async def test_more_than_fits_into_a_datagram(server: DnsServer, machine: Machine) -> None:
    many = [f"10.0.{number // 250}.{number % 250 + 1}" for number in range(1000)]
    server.put(NAME, "A", *many)
    answer = await machine()
    assert pods(answer) == [f"{address}:80" for address in many]
    assert (NAME, "A", "udp") in server.asked
    assert (NAME, "A", "tcp") in server.asked


async def test_half_an_answer_is_none(server: DnsServer, machine: Machine) -> None:
    server.put(NAME, "A", *(f"10.0.0.{number}" for number in range(1, 200)))
    server.without_tcp = True
    with pytest.raises(OSError, match=r"no server can say \(.*EOFError"):
        await machine()


@pytest.mark.parametrize(
    ("rcode", "reason"),
    [
        (NXDOMAIN, "no such name"),
        (SERVFAIL, r"no server can say \(SERVFAIL\)"),
        (REFUSED, r"no server can say \(REFUSED\)"),
        (Rcode.YXDOMAIN, "YXDOMAIN"),
    ],
)
@pytest.mark.parametrize("port", [80, None])
async def test_each_failure_by_its_name(
    server: DnsServer, machine: Machine, rcode: Rcode, reason: str, port: int | None
) -> None:
    server.failures[NAME] = rcode
    with pytest.raises(OSError, match=f"^{reason}$"):
        await machine(NAME, port)


@pytest.mark.parametrize(("port", "reason"), [(80, "it has no address"), (None, "it has no SRV record")])
async def test_a_name_without_records(server: DnsServer, machine: Machine, port: int | None, reason: str) -> None:
    server.put(NAME, "TXT", "x")
    with pytest.raises(OSError, match=f"^{reason}$"):
        await machine(NAME, port)


async def test_blocked_names_have_no_usable_address(server: DnsServer, machine: Machine) -> None:
    server.put(NAME, "A", "0.0.0.0")
    server.put(NAME, "AAAA", "::")
    with pytest.raises(OSError, match="^no usable address$"):
        await machine()


@pytest.mark.parametrize("failure", ["silence", "garbage"])
async def test_nobody_answers(server: DnsServer, machine: Machine, failure: str) -> None:
    machine.impatient(server)
    server.failures[NAME] = failure
    with pytest.raises(TimeoutError, match="^no answer in time$"):
        await machine()


@pytest.mark.parametrize("name", ["a" * 64, "a..b", ".".join(["a" * 60] * 5)])
async def test_what_cannot_be_a_name(machine: Machine, name: str) -> None:
    with pytest.raises(ValueError, match="^not a name in the DNS: "):
        await machine(name)


async def test_another_server_is_asked_where_one_cannot_say(server: DnsServer, machine: Machine) -> None:
    other = DnsServer()
    await other.start("127.0.0.2", server.port)
    machine.configure(servers=("127.0.0.2", "127.0.0.1"))
    server.put(NAME, "A", "10.0.0.1")
    for failure in (SERVFAIL, REFUSED):
        other.failures[NAME] = failure
        assert pods(await machine()) == ["10.0.0.1:80"]
    assert {name for name, _, _ in other.asked} == {NAME}
    await other.stop()


# What is missing in part


async def test_a_family_that_fails_is_what_it_was(server: DnsServer, machine: Machine) -> None:
    server.put(NAME, "A", "10.0.0.1")
    server.put(NAME, "AAAA", "fd00::1", ttl=5)
    await machine()
    server.put(NAME, "A", "10.0.0.2")
    server.failures[(NAME, "AAAA")] = SERVFAIL
    for _ in range(2):
        answer = await machine()
        assert pods(answer) == ["10.0.0.2:80", "[fd00::1]:80"]
        assert answer.trouble == f"{NAME}: no server can say (SERVFAIL)"
        assert answer.ttl == 30
    del server.failures[(NAME, "AAAA")]
    server.put(NAME, "AAAA")
    answer = await machine()
    assert (pods(answer), answer.trouble) == (["10.0.0.2:80"], "")


async def test_a_family_that_always_fails_keeps_nobody_from_using_the_other(
    server: DnsServer, machine: Machine
) -> None:
    server.put(NAME, "A", "10.0.0.1")
    server.failures[(NAME, "AAAA")] = REFUSED
    assert pods(await machine()) == ["10.0.0.1:80"]


async def test_what_is_known_outlives_a_failure_of_all(server: DnsServer, machine: Machine) -> None:
    server.put(NAME, "A", "10.0.0.1")
    server.put(NAME, "AAAA", "fd00::1")
    await machine()
    server.failures[NAME] = SERVFAIL
    with pytest.raises(OSError, match="SERVFAIL"):
        await machine()
    server.failures = {(NAME, "AAAA"): SERVFAIL}
    assert pods(await machine()) == ["10.0.0.1:80", "[fd00::1]:80"]


# How the machine is set up


async def test_the_hosts_file_comes_first(server: DnsServer, machine: Machine) -> None:
    server.put(NAME, "A", "10.0.0.1")
    machine.hosts.write_text(f"10.9.9.9 {NAME}\n::9 {NAME}\n0.0.0.0 {NAME}\n")
    answer = await machine("Pods.Example.")
    assert pods(answer) == ["10.9.9.9:80", "[::9]:80"]
    assert answer.ttl == inf
    assert server.asked == []
    machine.hosts.unlink()
    assert pods(await machine()) == ["10.0.0.1:80"]


@pytest.mark.parametrize("text", ["", "nameserver nonsense\n", None])
async def test_no_servers(machine: Machine, text: str | None) -> None:
    path = machine.folder / "resolv.conf"
    path.unlink() if text is None else path.write_text(text)
    machine.hosts.write_text("127.0.0.1 localhost\n")
    assert pods(await machine("localhost")) == ["127.0.0.1:80"]
    with pytest.raises(OSError, match=r"resolv\.conf: "):
        await machine()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("models", ["models.default.svc.cluster.local", "models.svc.cluster.local", "models.cluster.local", "models"]),
        ("models.default", ["models.default.default.svc.cluster.local", "models.default.svc.cluster.local"]),
        ("a.b.c.d.e.f", ["a.b.c.d.e.f", "a.b.c.d.e.f.default.svc.cluster.local"]),
        ("models.", ["models"]),
    ],
)
async def test_search_domains(server: DnsServer, machine: Machine, name: str, expected: list[str]) -> None:
    machine.configure(*KUBERNETES)
    server.put(expected[-1], "A", "10.0.0.1")
    assert pods(await machine(name)) == ["10.0.0.1:80"]
    assert list(dict.fromkeys(asked for asked, _, _ in server.asked)) == expected


async def test_dots_without_an_option(server: DnsServer, machine: Machine) -> None:
    machine.configure("search corp.example .")
    for name in ("a", "a.b"):
        with pytest.raises(OSError, match="no such name"):
            await machine(name)
    assert list(dict.fromkeys(asked for asked, _, _ in server.asked)) == [
        "a.corp.example",
        "a",
        "a.b",
        "a.b.corp.example",
    ]


async def test_a_search_domain_that_makes_a_name_too_long(server: DnsServer, machine: Machine) -> None:
    name = ".".join(["a" * 60] * 4)
    machine.configure(*KUBERNETES)
    server.put(name, "A", "10.0.0.1")
    assert pods(await machine(name)) == ["10.0.0.1:80"]


async def test_a_service_in_a_search_domain(server: DnsServer, machine: Machine) -> None:
    machine.configure(*KUBERNETES)
    server.put("_http._tcp.models.default.svc.cluster.local", "SRV", "0 0 8000 a.example.")
    server.put("a.example", "A", "10.0.0.1")
    assert pods(await machine("_http._tcp.models", None)) == ["10.0.0.1:8000"]


@pytest.mark.parametrize("failure", [SERVFAIL, "silence"])
async def test_a_search_domain_does_not_speak_for_another_that_is_out_of_order(
    server: DnsServer, machine: Machine, failure: Rcode | str
) -> None:
    """Many companies have wildcards."""
    machine.configure("search default.svc.cluster.local corp.example", "options ndots:5")
    machine.impatient(server)
    server.put("models.corp.example", "A", "192.0.2.1")
    server.failures["models.default.svc.cluster.local"] = failure
    with pytest.raises(OSError, match="SERVFAIL|no answer in time"):
        await machine("models")
    # The whole name is nobody else's.
    name = "models.default.svc.cluster.local"
    server.failures = {f"{name}.default.svc.cluster.local": failure}
    server.put(name, "A", "10.0.0.1")
    assert pods(await machine(name)) == ["10.0.0.1:80"]


# SRV


async def test_hosts_and_ports_of_a_service(server: DnsServer, machine: Machine) -> None:
    server.put(SERVICE, "SRV", "0 10 8000 a.example.", "0 90 8001 a.example.", "0 0 8000 b.example.", ttl=30)
    server.put("a.example", "A", "10.0.0.1", "10.0.0.3", ttl=9)
    server.put("a.example", "AAAA", "fd00::1", ttl=8)
    server.put("b.example", "AAAA", "fd00::2", ttl=20)
    answer = await machine(SERVICE, None)
    # A target with both families is one pod.
    assert pods(answer) == ["10.0.0.1:8000", "10.0.0.1:8001", "10.0.0.3:8000", "10.0.0.3:8001", "[fd00::2]:8000"]
    assert (answer.ttl, answer.trouble) == (8, "")
    server.put(SERVICE, "SRV", "0 0 8001 B.Example.", ttl=4)
    answer = await machine(SERVICE, None)
    assert pods(answer) == ["[fd00::2]:8001"]
    assert answer.ttl == 4


async def test_addresses_that_came_along_are_not_asked_for(server: DnsServer, machine: Machine) -> None:
    server.put(SERVICE, "SRV", "0 0 8000 a.example.", "0 0 8000 b.example.", "0 0 8000 c.example.", ttl=30)
    server.put("a.example", "A", "10.0.0.1", ttl=6)
    server.put("a.example", "AAAA", "fd00::1")
    server.put("a.example", "TXT", "x", ttl=1)
    server.put("b.example", "AAAA", "fd00::2")
    server.put("c.example", "A", "10.0.0.3")
    server.put("d.example", "A", "10.0.0.4")
    server.additional[SERVICE] = [("a.example", "A"), ("a.example", "AAAA"), ("a.example", "TXT")]
    server.additional[SERVICE] += [("b.example", "AAAA"), ("d.example", "A")]
    answer = await machine(SERVICE, None)
    assert pods(answer) == ["10.0.0.1:8000", "10.0.0.3:8000", "[fd00::2]:8000"]
    assert answer.ttl == 6
    assert {name for name, _, _ in server.asked} == {SERVICE, "c.example"}


async def test_a_service_with_many_pods(server: DnsServer, machine: Machine) -> None:
    addresses = [f"10.0.{number // 250}.{number % 250 + 1}" for number in range(500)]
    hosts = {address: f"{address.replace('.', '-')}.{NAME}" for address in addresses}
    server.put(SERVICE, "SRV", *(f"0 1 8000 {host}." for host in hosts.values()))
    for address, host in hosts.items():
        server.put(host, "A", address)
    server.additional[SERVICE] = [(host, "A") for host in hosts.values()]
    assert pods(await machine(SERVICE, None)) == [f"{address}:8000" for address in addresses]
    assert [by for _, _, by in server.asked] == ["udp", "tcp"]


async def test_only_the_lowest_priority(server: DnsServer, machine: Machine) -> None:
    server.put(SERVICE, "SRV", "20 0 80 spare.example.", "10 0 80 a.example.", "5 0 80 .", "10 1 81 b.example.")
    for number, name in enumerate(["a", "b", "spare"], 1):
        server.put(f"{name}.example", "A", f"10.0.0.{number}")
    assert pods(await machine(SERVICE, None)) == ["10.0.0.1:80", "10.0.0.2:81"]


async def test_decidedly_no_such_service(server: DnsServer, machine: Machine) -> None:
    server.put(SERVICE, "SRV", "0 0 0 .", ttl=3)
    assert await machine(SERVICE, None) == Answer(frozenset(), 3)
    server.put(SERVICE, "SRV", "0 0 0 a.example.")
    with pytest.raises(OSError, match="port 0"):
        await machine(SERVICE, None)


async def test_a_target_that_fails_is_what_it_was(server: DnsServer, machine: Machine) -> None:
    server.put(SERVICE, "SRV", "0 0 80 a.example.", "0 0 80 b.example.")
    server.put("a.example", "A", "10.0.0.1")
    server.put("b.example", "A", "10.0.0.2")
    await machine(SERVICE, None)
    server.put("a.example", "A", "10.0.0.9")
    server.failures["b.example"] = SERVFAIL
    # One that never had an address is left out.
    server.put(SERVICE, "SRV", "0 0 81 b.example.", "0 0 80 a.example.", "0 0 80 c.example.")
    answer = await machine(SERVICE, None)
    assert pods(answer) == ["10.0.0.2:81", "10.0.0.9:80"]
    assert answer.trouble == "b.example.: no server can say (SERVFAIL)"
    # What the records leave out is gone, and forgotten.
    server.put(SERVICE, "SRV", "0 0 80 a.example.")
    assert pods(await machine(SERVICE, None)) == ["10.0.0.9:80"]
    server.put(SERVICE, "SRV", "0 0 80 a.example.", "0 0 80 b.example.")
    assert pods(await machine(SERVICE, None)) == ["10.0.0.9:80"]


async def test_a_target_whose_addresses_no_longer_come_along(server: DnsServer, machine: Machine) -> None:
    server.put(SERVICE, "SRV", "0 0 80 a.example.")
    server.put("a.example", "A", "10.0.0.1")
    server.additional[SERVICE] = [("a.example", "A")]
    await machine(SERVICE, None)
    server.additional.clear()
    server.failures["a.example"] = REFUSED
    assert pods(await machine(SERVICE, None)) == ["10.0.0.1:80"]


async def test_no_target_has_an_address(server: DnsServer, machine: Machine) -> None:
    server.put(SERVICE, "SRV", "0 0 80 a.example.", "0 0 80 b.example.")
    reason = r"^none of its 2 targets has an address \(a\.example\.: no such name\)$"
    with pytest.raises(OSError, match=reason):
        await machine(SERVICE, None)
    server.put("a.example", "A", "0.0.0.0")
    server.put("b.example", "A", "0.0.0.0")
    with pytest.raises(OSError, match=r"\(none is usable\)$"):
        await machine(SERVICE, None)


async def test_targets_in_the_hosts_file(server: DnsServer, machine: Machine) -> None:
    server.put(SERVICE, "SRV", "0 0 80 a.example.")
    server.put("a.example", "A", "10.0.0.1")
    server.additional[SERVICE] = [("a.example", "A")]
    machine.hosts.write_text("10.9.9.9 a.example\n")
    assert pods(await machine(SERVICE, None)) == ["10.9.9.9:80"]


# Any zone


v4s = st.lists(st.integers(1, 2**24 - 1).map(lambda n: f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"), unique=True)
v6s = st.lists(st.integers(1, 2**16 - 1).map(lambda n: f"fd00::{n:x}"), unique=True)
ttls = st.integers(0, 2**31 - 1)
#: Of a target: addresses of both families, and whether they come along.
hosts = st.tuples(v4s, v6s, st.booleans())
records = st.tuples(st.integers(0, 2), st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 5))


async def asked(zone: DnsServer, folder: Path, target: Target) -> Answer | None:
    try:
        return await Resolver(resolv_conf(folder), folder / "hosts", zone.port)(target)
    except OSError:
        return None


@given(v4=v4s, v6=v6s, ttl4=ttls, ttl6=ttls)
def test_the_addresses_of_any_name(
    v4: list[str], v6: list[str], ttl4: int, ttl6: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def run() -> None:
        async with dns_server() as zone:
            zone.put(NAME, "A", *v4, ttl=ttl4)
            zone.put(NAME, "AAAA", *v6, ttl=ttl6)
            answer = await asked(zone, tmp_path_factory.getbasetemp(), Target(NAME, 80))
        if not v4 and not v6:
            assert answer is None
            return
        assert answer is not None
        assert set(pods(answer)) == {*(f"{one}:80" for one in v4), *(f"[{one}]:80" for one in v6)}
        assert answer.ttl == min(ttl for ttl, has in ((ttl4, v4), (ttl6, v6)) if has)

    asyncio.run(run())


@given(srv=st.lists(records, min_size=1), known=st.lists(hosts, min_size=4, max_size=6))
def test_any_service(
    srv: list[tuple[int, int, int, int]],
    known: list[tuple[list[str], list[str], bool]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async def run() -> None:
        async with dns_server() as zone:
            zone.put(SERVICE, "SRV", *(f"{one[0]} {one[1]} {one[2]} h{one[3]}.example." for one in srv))
            for number, (v4, v6, along) in enumerate(known):
                for rdtype, addresses in (("A", v4), ("AAAA", v6)):
                    if addresses:
                        zone.put(f"h{number}.example", rdtype, *addresses)
                        if along:
                            zone.additional.setdefault(SERVICE, []).append((f"h{number}.example", rdtype))
            answer = await asked(zone, tmp_path_factory.getbasetemp(), Target(SERVICE, None))
        usable = [one for one in srv if one[2]]
        expected = set()
        for priority, _, port, host in usable:
            if priority == min(one[0] for one in usable) and host < len(known):
                v4, v6, _ = known[host]
                expected |= {f"{one}:{port}" for one in v4} or {f"[{one}]:{port}" for one in v6}
        assert (set() if answer is None else set(pods(answer))) == expected

    asyncio.run(run())
