import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from math import inf
from pathlib import Path

import pytest
from dns.rcode import REFUSED, SERVFAIL
from support.dns_server import dns_server, resolv_conf
from support.eventually import PATIENCE

from extproc.discovery.dns.answer import Answer, Target
from extproc.discovery.dns.discovery import FIRST_INTERVAL, MIN_TTL, RETRY_INTERVAL, DnsDiscovery
from extproc.discovery.dns.resolver import Resolver
from scheduler.types import Pod

NO_SUCH_NAME = OSError("no such name")


def answer(*addresses: str, port: int = 80, ttl: float = 30.0, trouble: str = "") -> Answer:
    return Answer(frozenset((ip_address(address), port) for address in addresses), ttl, trouble)


class Turns:
    """A resolver, and a sleep between look-ups under the test's hand."""

    def __init__(self, says: Answer | Exception) -> None:
        self.says = says
        self.asked: list[Target] = []
        self.slept: list[float] = []
        self._asleep, self._wake = asyncio.Event(), asyncio.Event()

    async def resolve(self, target: Target) -> Answer:
        self.asked.append(target)
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._asleep.set()
        await self._wake.wait()
        self._wake.clear()

    async def rest(self) -> None:
        """Until the name was asked for."""
        async with asyncio.timeout(PATIENCE):
            await self._asleep.wait()

    async def again(self) -> None:
        """Another turn."""
        self._asleep.clear()
        self._wake.set()
        await self.rest()


@asynccontextmanager
async def running(source: DnsDiscovery, turns: Turns) -> AsyncIterator[list[list[str]]]:
    """The lists of addresses published so far, after a first turn."""
    published: list[list[str]] = []

    def publish(pods: Sequence[Pod]) -> None:
        published.append([pod.address for pod in pods])

    task = asyncio.create_task(source.run(publish))
    await turns.rest()
    yield published
    assert not task.done(), task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def discovery(turns: Turns, interval: float = 60.0) -> DnsDiscovery:
    return DnsDiscovery(Target("a", 80), interval, resolve=turns.resolve, sleep=turns.sleep)


async def test_all_addresses_in_order() -> None:
    turns = Turns(answer("10.0.0.10", "10.0.0.9", "::2"))
    source = discovery(turns)
    async with running(source, turns) as published:
        assert published == [["10.0.0.9:80", "10.0.0.10:80", "[::2]:80"]]
        assert source.first_sync.is_set()
        assert turns.asked == [Target("a", 80)]


async def test_published_on_change_only() -> None:
    turns = Turns(answer("10.0.0.1", "10.0.0.2"))
    async with running(discovery(turns), turns) as published:
        turns.says = answer("10.0.0.2", "10.0.0.1")
        await turns.again()
        assert len(published) == 1
        turns.says = answer("10.0.0.2", "10.0.0.3")
        await turns.again()
        assert published[1:] == [["10.0.0.2:80", "10.0.0.3:80"]]


async def test_that_there_are_none_is_an_answer() -> None:
    turns = Turns(answer("10.0.0.1"))
    async with running(discovery(turns), turns) as published:
        turns.says = answer()
        await turns.again()
        assert published[1:] == [[]]


@pytest.mark.parametrize(
    ("ttl", "interval", "wait"),
    [
        (30.0, 60.0, 30.0),
        (600.0, 60.0, 60.0),
        (inf, 60.0, 60.0),
        (0.0, 60.0, MIN_TTL),
        (0.5, 60.0, MIN_TTL),
        (0.0, 0.3, 0.3),
        (30.0, 0.3, 0.3),
    ],
)
async def test_asked_again_when_the_time_to_live_is_over(ttl: float, interval: float, wait: float) -> None:
    turns = Turns(answer("10.0.0.1", ttl=ttl))
    async with running(discovery(turns, interval), turns):
        assert turns.slept == [wait]


async def test_each_answer_has_its_own_time_to_live() -> None:
    turns = Turns(answer("10.0.0.1", ttl=30))
    async with running(discovery(turns), turns):
        for ttl in (20.0, 0.0, 40.0):
            turns.says = answer("10.0.0.1", ttl=ttl)
            await turns.again()
        assert turns.slept == [30.0, 20.0, MIN_TTL, 40.0]


@pytest.mark.parametrize("failure", [NO_SUCH_NAME, TimeoutError(), ValueError("label too long")])
async def test_a_failure_never_empties_a_list(failure: Exception, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "extproc.discovery.dns.discovery")
    turns = Turns(answer("10.0.0.1"))
    async with running(discovery(turns), turns) as published:
        turns.says = failure
        for _ in range(3):
            await turns.again()
        assert len(published) == 1
        assert turns.slept == [30.0, *[RETRY_INTERVAL] * 3]
        turns.says = answer("10.0.0.9")
        await turns.again()
        assert published[1:] == [["10.0.0.9:80"]]
    # Once when it begins, once when it ends.
    lost, found = [record.message for record in caplog.records]
    assert lost == f"cannot resolve a: {str(failure) or 'no answer in time'}; keeping 1 addresses"
    assert found == "a resolves again"


async def test_another_failure_is_told_too(caplog: pytest.LogCaptureFixture) -> None:
    turns = Turns(NO_SUCH_NAME)
    async with running(discovery(turns), turns):
        await turns.again()
        turns.says = TimeoutError()
        await turns.again()
    assert [record.message for record in caplog.records] == [
        "cannot resolve a: no such name; keeping 0 addresses",
        "cannot resolve a: no answer in time; keeping 0 addresses",
    ]


async def test_a_part_that_is_missing_is_told_and_soon_asked_for_again(caplog: pytest.LogCaptureFixture) -> None:
    turns = Turns(answer("10.0.0.1", trouble="b: no answer in time"))
    source = discovery(turns)
    async with running(source, turns) as published:
        assert source.first_sync.is_set()
        turns.says = answer("10.0.0.2", ttl=2, trouble="b: no answer in time")
        await turns.again()
        assert published == [["10.0.0.1:80"], ["10.0.0.2:80"]]
        assert turns.slept == [RETRY_INTERVAL, 2.0]
    (record,) = caplog.records
    assert record.message == "cannot resolve a: b: no answer in time; keeping 1 addresses"


@pytest.mark.parametrize(("interval", "wait"), [(60.0, FIRST_INTERVAL), (0.3, 0.3)])
async def test_a_name_that_is_not_there_yet(interval: float, wait: float) -> None:
    turns = Turns(NO_SUCH_NAME)
    source = discovery(turns, interval)
    async with running(source, turns) as published:
        await turns.again()
        assert published == []
        assert not source.first_sync.is_set()
        assert turns.slept == [wait, wait]
        turns.says = answer("10.0.0.1")
        await turns.again()
        assert published == [["10.0.0.1:80"]]
        assert source.first_sync.is_set()


async def test_a_resolver_that_hangs_is_given_up() -> None:
    turns = Turns(NO_SUCH_NAME)

    async def hang(_: Target) -> Answer:
        await asyncio.Event().wait()
        raise AssertionError

    source = DnsDiscovery(Target("a", 80), resolve=hang, sleep=turns.sleep, timeout=0.01)
    async with running(source, turns) as published:
        assert not source.first_sync.is_set()
        assert published == []


async def test_the_resolver_of_the_system() -> None:
    turns = Turns(NO_SUCH_NAME)
    source = DnsDiscovery(Target("localhost", 80), sleep=turns.sleep)
    async with running(source, turns) as published:
        assert "127.0.0.1:80" in published[0]


@pytest.mark.parametrize("port", [80, None])
async def test_a_server_that_comes_goes_and_comes_again(tmp_path: Path, port: int | None) -> None:
    """Each way to fail, after each of which an answer is believed again."""
    turns = Turns(NO_SUCH_NAME)
    name = "pods.example" if port else "_http._tcp.pods.example"
    async with dns_server() as server:
        resolver = Resolver(resolv_conf(tmp_path), tmp_path / "hosts", server.port, lifetime=0.5)
        source = DnsDiscovery(Target(name, port), 60, resolve=resolver, sleep=turns.sleep)

        def put(address: str, ttl: int) -> None:
            if port is None:
                server.put(name, "SRV", "0 0 80 p.pods.example.", ttl=ttl)
            server.put("p.pods.example" if port is None else name, "A", address, ttl=ttl)

        async with running(source, turns) as published:
            assert published == []
            for number, failure in enumerate([None, SERVFAIL, REFUSED, "silence", "garbage"]):
                put(f"10.0.0.{number}", number + 2)
                server.failures.clear()
                await turns.again()
                assert published[-1] == [f"10.0.0.{number}:80"]
                assert turns.slept[-1] == number + 2
                if failure is None:
                    server.records.clear()
                else:
                    server.failures[name] = failure
                await turns.again()
                assert published[-1] == [f"10.0.0.{number}:80"]
                assert turns.slept[-1] == RETRY_INTERVAL
            assert len(published) == 5


@pytest.mark.parametrize(
    ("local", "bad"), [(True, "0.0.0.0"), (True, "224.0.0.1"), (False, "127.0.0.1"), (False, "fe80::1")]
)
async def test_addresses_at_which_no_pod_may_be_are_left_out(
    local: bool, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And a name that suddenly has no others keeps those that it had."""
    turns = Turns(answer("10.0.0.1"))
    source = DnsDiscovery(Target("pods.test", 80), local=local, resolve=turns.resolve, sleep=turns.sleep)
    async with running(source, turns) as published:
        turns.says = answer("10.0.0.2", bad)
        await turns.again()
        turns.says = answer(bad)
        await turns.again()
        assert turns.slept[-1] <= RETRY_INTERVAL
        turns.says = answer("10.0.0.3")
        await turns.again()
    assert published == [["10.0.0.1:80"], ["10.0.0.2:80"], ["10.0.0.3:80"]]
    assert caplog.text.count("cannot resolve pods.test") == 1


async def test_addresses_of_this_machine_are_allowed_by_default() -> None:
    turns = Turns(answer("127.0.0.1"))
    source = DnsDiscovery(Target("pods.test", 80), resolve=turns.resolve, sleep=turns.sleep)
    async with running(source, turns) as published:
        assert published == [["127.0.0.1:80"]]
