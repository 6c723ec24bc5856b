"""What every source of pods has to keep to."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest
from support.dns_server import DnsServer, dns_server, resolv_conf
from support.eventually import PATIENCE
from support.kube_api import KubeApi, endpoint, endpoint_slice, inference_pool, pod

from extproc.discovery.base import Discovery
from extproc.discovery.dns.answer import Answer, Target
from extproc.discovery.dns.discovery import DnsDiscovery
from extproc.discovery.dns.resolver import Resolver
from extproc.discovery.file import FileDiscovery
from extproc.discovery.kubernetes.credentials import Cluster, Credentials
from extproc.discovery.kubernetes.discovery import KubernetesDiscovery, LabelledPods, PoolPods, ServicePods
from extproc.discovery.static import StaticDiscovery
from extproc.discovery.union import UnionDiscovery
from scheduler.types import Pod

ADDRESSES = ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
PODS = [Pod(f"{address}:8000") for address in ADDRESSES]


def answering(*addresses: str) -> Callable[[Target], Awaitable[Answer]]:
    async def resolve(target: Target) -> Answer:
        return Answer(frozenset((ip_address(address), target.port or 8000) for address in addresses), 30)

    return resolve


async def for_ever(_: float) -> None:
    await asyncio.Event().wait()


class Turns:
    """How often somebody waited to try again."""

    count = 0


TURNS = Turns()


async def no_time(_: float) -> None:
    TURNS.count += 1
    await asyncio.sleep(0)


async def no_answer(_: Target) -> Answer:
    raise OSError("no answer")


def dns(*addresses: str) -> DnsDiscovery:
    return DnsDiscovery(Target("pods.example", 8000), resolve=answering(*addresses), sleep=for_ever)


def real_dns(server: DnsServer, folder: Path, port: int | None) -> DnsDiscovery:
    """Of a real server: addresses for a port, records of a service for none."""
    server.put("pods.example", "A", *ADDRESSES)
    service = "_http._tcp.pods.example"
    server.put(service, "SRV", *(f"0 {number} 8000 p{number}.pods.example." for number in range(3)))
    server.additional[service] = [(f"p{number}.pods.example", "A") for number in range(2)]
    for number, address in enumerate(ADDRESSES):
        server.put(f"p{number}.pods.example", "A", address)
    resolver = Resolver(resolv_conf(folder), folder / "hosts", server.port)
    return DnsDiscovery(Target("pods.example" if port else service, port), resolve=resolver, sleep=for_ever)


async def kubernetes(api: KubeApi, wanted: ServicePods | LabelledPods | PoolPods) -> KubernetesDiscovery:
    # The last one is not ready, another is one of somebody else.
    for number, address in enumerate([*ADDRESSES, "10.0.0.4"]):
        api.put("pods", pod(f"p{number}", address, ready=address in ADDRESSES, labels={"app": "a"}))
    api.put("pods", pod("other", "10.0.0.5", labels={"app": "b"}))
    api.put("inferencepools", inference_pool("p", {"app": "a"}, 8000))
    api.put("endpointslices", endpoint_slice("s-1", "s", *[endpoint(address, "") for address in ADDRESSES]))
    await api.start()
    return KubernetesDiscovery(wanted, Credentials(Cluster(server=api.url)), rng=random.Random(1))


def file(path: Path) -> FileDiscovery:
    path.write_text("".join(f"- {pod.address}\n" for pod in PODS))
    return FileDiscovery(path, sleep=for_ever)


@pytest.fixture(
    params=["static", "dns", "dns server", "dns SRV", "file", "union"]
    + ["kubernetes service", "kubernetes labels", "kubernetes pool"]
)
async def source(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Discovery]:
    api = KubeApi()
    kind = request.param
    if kind == "static":
        yield StaticDiscovery([*PODS, PODS[0]])
    elif kind == "dns":
        yield dns(*ADDRESSES, ADDRESSES[0])
    elif kind in {"dns server", "dns SRV"}:
        async with dns_server() as server:
            yield real_dns(server, tmp_path, None if kind == "dns SRV" else 8000)
    elif kind == "file":
        yield file(tmp_path / "pods.yaml")
    elif kind == "union":
        yield UnionDiscovery([StaticDiscovery(PODS[:2]), dns(*ADDRESSES), UnionDiscovery([])], sleep=for_ever)
    elif kind == "kubernetes service":
        yield await kubernetes(api, ServicePods("s", "http"))
    elif kind == "kubernetes labels":
        yield await kubernetes(api, LabelledPods({"app": "a"}, (8000,)))
    else:
        yield await kubernetes(api, PoolPods("p"))
    await api.kill()


@pytest.fixture(params=["dns", "dns SRV", "file", "union", "kubernetes"])
async def unreachable(request: pytest.FixtureRequest, tmp_path: Path) -> Discovery:
    """A source that has no answer."""
    if request.param in {"dns", "dns SRV"}:
        port = 8000 if request.param == "dns" else None
        return DnsDiscovery(Target("pods.example", port), resolve=no_answer, sleep=no_time)
    if request.param == "file":
        return FileDiscovery(tmp_path / "none", sleep=no_time)
    api = KubeApi()
    await api.start()
    await api.kill()
    credentials = Credentials(Cluster(server=api.url))
    away = KubernetesDiscovery(LabelledPods({"app": "a"}, (8000,)), credentials, rng=random.Random(1), sleep=no_time)
    return UnionDiscovery([StaticDiscovery([]), away], sleep=no_time) if request.param == "union" else away


async def test_publishes_what_it_knows_before_it_says_so(source: Discovery) -> None:
    published: list[Sequence[Pod]] = []
    assert not source.first_sync.is_set()
    task = asyncio.create_task(source.run(lambda pods: published.append(list(pods))))
    await source.first_sync.wait()
    assert published
    assert [pod.address for pod in published[-1]] == [pod.address for pod in PODS]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_runs_until_it_is_cancelled_and_leaves_nothing_behind(source: Discovery) -> None:
    task = asyncio.create_task(source.run(lambda _: None))
    await source.first_sync.wait()
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert {one for one in asyncio.all_tasks() if "discovery" in repr(one.get_coro())} == set()


async def test_is_not_in_sync_before_it_had_an_answer(unreachable: Discovery) -> None:
    published: list[Sequence[Pod]] = []
    task = asyncio.create_task(unreachable.run(lambda pods: published.append(pods)))
    before = TURNS.count
    async with asyncio.timeout(PATIENCE):
        while TURNS.count < before + 5:
            await asyncio.sleep(0)
    assert not unreachable.first_sync.is_set()
    # A union has the empty list of the source that was reached.
    assert not any(published)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_bug_of_whoever_is_told_is_not_hidden(source: Discovery) -> None:
    def publish(_: Sequence[Pod]) -> None:
        raise ZeroDivisionError

    with pytest.raises((ZeroDivisionError, ExceptionGroup)) as raised:
        await source.run(publish)
    error = raised.value
    while isinstance(error, ExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, ZeroDivisionError)
