import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from scheduler.pool.discovery.dns import FIRST_INTERVAL, DnsDiscovery, Target, resolve
from scheduler.types import Pod

NO_SUCH_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class Zone:
    """A DNS with a sleep between look-ups under the test's hand."""

    def __init__(self, **names: list[str] | Exception) -> None:
        self.names: dict[str, list[str] | Exception] = dict(names)
        self.asked: list[str] = []
        self.slept: list[float] = []
        self._asleep, self._wake = asyncio.Event(), asyncio.Event()

    async def resolve(self, host: str) -> list[str]:
        self.asked.append(host)
        answer = self.names.get(host, NO_SUCH_NAME)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._asleep.set()
        await self._wake.wait()
        self._wake.clear()

    async def rest(self) -> None:
        """Until all names were asked for."""
        await self._asleep.wait()

    async def again(self) -> None:
        """Another round."""
        self._asleep.clear()
        self._wake.set()
        await self.rest()


@asynccontextmanager
async def running(zone: Zone, *targets: Target, interval: float = 5.0) -> AsyncIterator[list[list[str]]]:
    """The lists of addresses published so far, after a first round."""
    published: list[list[str]] = []

    def publish(pods: Sequence[Pod]) -> None:
        published.append([pod.address for pod in pods])

    source = DnsDiscovery(targets, interval, resolve=zone.resolve, sleep=zone.sleep)
    task = asyncio.create_task(source.run(publish))
    await zone.rest()
    answered = {target.host for target in targets if isinstance(zone.names.get(target.host), list)}
    assert source.first_sync.is_set() is (answered == {target.host for target in targets})
    yield published
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_all_addresses_of_all_names_in_order() -> None:
    zone = Zone(a=["10.0.0.10", "10.0.0.9", "::2"], b=["10.0.0.9", "10.0.0.1"])
    async with running(zone, Target("a", 80), Target("b", 80), Target("b", 81), Target("a", 80)) as published:
        expected = ["10.0.0.1:80", "10.0.0.1:81", "10.0.0.9:80", "10.0.0.9:81", "10.0.0.10:80", "[::2]:80"]
        assert published == [expected]
        assert sorted(zone.asked) == ["a", "b", "b"]


async def test_published_on_change_only() -> None:
    zone = Zone(a=["10.0.0.1", "10.0.0.2"])
    async with running(zone, Target("a", 80)) as published:
        zone.names["a"] = ["10.0.0.2", "10.0.0.1"]
        await zone.again()
        assert len(published) == 1
        zone.names["a"] = ["10.0.0.2", "10.0.0.3"]
        await zone.again()
        assert published[1:] == [["10.0.0.2:80", "10.0.0.3:80"]]
        assert zone.slept == [5.0, 5.0, 5.0]


@pytest.mark.parametrize(
    "failure",
    [NO_SUCH_NAME, socket.gaierror(socket.EAI_AGAIN, "try again"), TimeoutError(), [], ["fe80::1%eth0"]]
    + [UnicodeError("label empty or too long"), ["no address"]],
)
async def test_a_failure_never_empties_a_list(failure: list[str] | Exception, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "scheduler.pool.discovery.dns")
    zone = Zone(a=["10.0.0.1"], b=["10.0.0.2"])
    async with running(zone, Target("a", 80), Target("b", 80)) as published:
        zone.names["a"] = failure
        zone.names["b"] = ["10.0.0.3"]
        for _ in range(3):
            await zone.again()
        assert published[1:] == [["10.0.0.1:80", "10.0.0.3:80"]]
        zone.names["a"] = ["10.0.0.9"]
        await zone.again()
        assert published[2:] == [["10.0.0.3:80", "10.0.0.9:80"]]
    # Once when it begins, once when it ends.
    lost, found = [record.message for record in caplog.records]
    assert lost.startswith("cannot resolve a: ")
    assert lost.endswith("; keeping 1 addresses")
    assert found == "a resolves again"


async def test_another_failure_is_told_too(caplog: pytest.LogCaptureFixture) -> None:
    zone = Zone()
    async with running(zone, Target("a", 80)):
        await zone.again()
        zone.names["a"] = TimeoutError()
        await zone.again()
    assert len(caplog.records) == 2
    assert caplog.records[1].message == "cannot resolve a: no answer in time; keeping 0 addresses"


async def test_a_name_that_is_not_there_yet() -> None:
    zone = Zone(b=["10.0.0.2"])
    async with running(zone, Target("a", 80), Target("b", 80)) as published:
        assert published == [["10.0.0.2:80"]]
        zone.names["a"] = ["10.0.0.1"]
        await zone.again()
        assert published[1:] == [["10.0.0.1:80", "10.0.0.2:80"]]
        assert zone.slept == [FIRST_INTERVAL, 5.0]


async def test_in_sync_when_every_name_had_an_answer() -> None:
    zone = Zone(b=["10.0.0.2"])
    source = DnsDiscovery([Target("a", 80), Target("b", 80)], resolve=zone.resolve, sleep=zone.sleep)
    task = asyncio.create_task(source.run(lambda _: None))
    await zone.rest()
    assert not source.first_sync.is_set()
    zone.names = {"a": ["10.0.0.1"], "b": NO_SUCH_NAME}
    await zone.again()
    assert source.first_sync.is_set()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_nothing_is_published_before_anything_is_known() -> None:
    zone = Zone()
    async with running(zone, Target("a", 80), interval=0.3) as published:
        await zone.again()
        assert published == []
        assert zone.slept == [0.3, 0.3]


async def test_no_names_are_no_pods() -> None:
    async with running(Zone()) as published:
        assert published == [[]]


async def test_a_resolver_that_hangs_is_given_up() -> None:
    slept = asyncio.Event()

    async def hang(_: str) -> list[str]:
        await asyncio.Event().wait()
        raise AssertionError

    async def sleep(_: float) -> None:
        slept.set()
        await asyncio.Event().wait()

    source = DnsDiscovery([Target("a", 80)], resolve=hang, sleep=sleep, timeout=0.01)
    task = asyncio.create_task(source.run(lambda _: None))
    await slept.wait()
    assert not source.first_sync.is_set()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_resolver_of_the_system() -> None:
    assert await resolve("127.0.0.1") == {"127.0.0.1"}
    assert await resolve("::1") == {"::1"}
    assert await resolve("localhost") & {"127.0.0.1", "::1"}
    with pytest.raises(UnicodeError):
        await resolve("a" * 64)
