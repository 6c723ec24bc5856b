import asyncio
import logging
import random
from collections.abc import AsyncIterator

import pytest
from support.discovered import Naps, running
from support.eventually import PATIENCE, eventually
from support.kube_api import KubeApi, endpoint, endpoint_slice, inference_pool, pod

from extproc.discovery.kubernetes.credentials import Cluster, Credentials
from extproc.discovery.kubernetes.discovery import KubernetesDiscovery, LabelledPods, PoolPods, ServicePods
from extproc.discovery.static import StaticDiscovery
from extproc.discovery.union import UnionDiscovery
from scheduler.types import Pod

LOGGER = "extproc.discovery.kubernetes.discovery"
APP = {"app": "vllm"}


@pytest.fixture
async def api() -> AsyncIterator[KubeApi]:
    fake = KubeApi()
    await fake.start()
    yield fake
    await fake.kill()


def discovery(api: KubeApi, wanted: ServicePods | LabelledPods | PoolPods) -> KubernetesDiscovery:
    credentials = Credentials(Cluster(server=api.url))
    return KubernetesDiscovery(wanted, credentials, rng=random.Random(1), sleep=Naps())


async def test_labelled_pods(api: KubeApi) -> None:
    api.put("pods", pod("a", "10.0.0.1"))
    api.put("pods", pod("b", "10.0.0.2", ready=False))
    api.put("pods", pod("c", "10.0.0.3"), namespace="other")
    source = discovery(api, LabelledPods(APP, (8000,)))
    async with running(source) as published:
        await source.first_sync.wait()
        assert published.lists == [[Pod("10.0.0.1:8000", "a", APP)]]
        await api.wait_for_watches()
        api.put("pods", pod("b", "10.0.0.2"))
        await published.until("10.0.0.1:8000", "10.0.0.2:8000")
        api.put("pods", pod("a", "10.0.0.1", deletionTimestamp="2026-01-01T00:00:00Z"))
        await published.until("10.0.0.2:8000")
        # Nothing that matters has changed.
        api.put("pods", pod("b", "10.0.0.2", annotations={"x": "y"}))
        api.delete("pods", "b")
        await published.until()
    assert len(published.lists) == 4


async def test_a_pool_of_a_kind_that_is_not_installed_is_said_so(
    api: KubeApi, caplog: pytest.LogCaptureFixture
) -> None:
    api.unknown.add("inferencepools")
    source = discovery(api, PoolPods("p"))
    async with running(source):
        await eventually(lambda: said(caplog, "InferencePool of inference.networking.k8s.io/v1 is not installed"))
    assert not source.first_sync.is_set()


async def said(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return text in caplog.text


async def test_no_pod_yet_is_an_answer(api: KubeApi) -> None:
    source = discovery(api, LabelledPods(APP, ("http",), "models"))
    async with running(source) as published:
        await source.first_sync.wait()
        assert published.lists == [[]]
        await api.wait_for_watches()
        api.put("pods", pod("a", "10.0.0.1"), namespace="models")
        await published.until("10.0.0.1:8000")


async def test_labels_must_select_something(api: KubeApi) -> None:
    with pytest.raises(ValueError, match="must name a label"):
        discovery(api, LabelledPods({}, (8000,)))


async def test_a_service(api: KubeApi, caplog: pytest.LogCaptureFixture) -> None:
    api.put("endpointslices", endpoint_slice("x-1", "x", endpoint("10.9.9.9", "x")))
    source = discovery(api, ServicePods("s"))
    async with running(source) as published:
        await api.wait_for_watches()
        # A name that is mistyped must not look like a Service without pods.
        assert not source.first_sync.is_set()
        api.put("endpointslices", endpoint_slice("s-1", "s"))
        await source.first_sync.wait()
        assert published.addresses == []
        api.put("endpointslices", endpoint_slice("s-1", "s", endpoint("10.0.0.1", "a")))
        api.put("endpointslices", endpoint_slice("s-2", "s", endpoint("10.0.0.2", "b"), port=9000))
        await published.until("10.0.0.1:8000", "10.0.0.2:9000")
        api.put("endpointslices", endpoint_slice("s-1", "s", endpoint("10.0.0.1", "a", serving=False)))
        await published.until("10.0.0.2:9000")
        api.delete("endpointslices", "s-1")
        api.delete("endpointslices", "s-2")
        await published.until()
    (record,) = caplog.records
    assert record.message == "kubernetes: there is no Service default/s, or no EndpointSlice for it"
    assert api.asked[0][2]["labelSelector"] == "kubernetes.io/service-name=s"


async def test_a_port_of_a_service_that_is_not_there_is_said_once(
    api: KubeApi, caplog: pytest.LogCaptureFixture
) -> None:
    api.put("endpointslices", endpoint_slice("s-1", "s", endpoint("10.0.0.1", "a")))
    source = discovery(api, ServicePods("s", "grpc"))
    async with running(source) as published:
        await source.first_sync.wait()
        await api.wait_for_watches()
        for number in range(3):
            api.put("endpointslices", endpoint_slice("s-1", "s", endpoint(f"10.0.0.{number}", "a")))
        api.put(
            "endpointslices",
            {**endpoint_slice("s-2", "s", endpoint("10.0.0.7", "b")), "ports": [{"name": "grpc", "port": 1}]},
        )
        await published.until("10.0.0.7:1")
    assert [record.message for record in caplog.records] == [
        "kubernetes: EndpointSlice s-1 has no port grpc: http (8000)"
    ]


async def test_an_inference_pool(api: KubeApi) -> None:
    api.put("inferencepools", inference_pool("other", {"app": "web"}, 1))
    api.put("inferencepools", inference_pool("p", APP, 8000, 8001))
    api.put("pods", pod("a", "10.0.0.1"))
    api.put("pods", pod("new", "10.0.0.9", labels={"app": "sglang"}))
    source = discovery(api, PoolPods("p"))
    async with running(source) as published:
        await source.first_sync.wait()
        assert published.lists == [
            [Pod("10.0.0.1:8000", "a:8000", APP), Pod("10.0.0.1:8001", "a:8001", APP)],
        ]
        assert api.asked[0][2]["fieldSelector"] == "metadata.name=p"
        await api.wait_for_watches(2)
        api.put("pods", pod("b", "10.0.0.2"))
        await published.until("10.0.0.1:8000", "10.0.0.1:8001", "10.0.0.2:8000", "10.0.0.2:8001")
        # Other ports.
        api.put("inferencepools", inference_pool("p", APP, 8001))
        await published.until("10.0.0.1:8001", "10.0.0.2:8001")
        # What is no change of the specification is no new list.
        lists = api.count("list")
        api.put("inferencepools", inference_pool("p", APP, 8001))
        # Other pods.
        api.put("inferencepools", inference_pool("p", {"app": "sglang"}, 8001))
        await published.until("10.0.0.9:8001")
        assert api.count("list") == lists + 1
        # The old ones are not followed any more.
        await api.wait_for_watches(2)
        api.put("pods", pod("c", "10.0.0.3"))
        api.put("pods", pod("d", "10.0.0.8", labels={"app": "sglang"}))
        await published.until("10.0.0.8:8001", "10.0.0.9:8001")
    assert not any("10.0.0.3:8001" in [one.address for one in pods] for pods in published.lists)


async def test_the_pods_of_the_old_selector_stay_until_the_new_one_has_an_answer(api: KubeApi) -> None:
    api.put("inferencepools", inference_pool("p", APP, 8000))
    api.put("pods", pod("a", "10.0.0.1"))
    async with running(discovery(api, PoolPods("p"))) as published:
        await published.until("10.0.0.1:8000")
        await api.wait_for_watches(2)
        api.faults = [503, 503]
        api.put("inferencepools", inference_pool("p", {"app": "sglang"}, 8000))
        api.put("pods", pod("new", "10.0.0.9", labels={"app": "sglang"}))
        await published.until("10.0.0.9:8000")
    assert len(published.lists) == 2


async def test_an_inference_pool_that_is_not_there_then_comes_and_goes(
    api: KubeApi, caplog: pytest.LogCaptureFixture
) -> None:
    api.put("pods", pod("a", "10.0.0.1"))
    source = discovery(api, PoolPods("p"))
    async with running(source) as published:
        await api.wait_for_watches()
        assert not source.first_sync.is_set()
        api.put("inferencepools", inference_pool("p", APP, 8000))
        await published.until("10.0.0.1:8000")
        assert source.first_sync.is_set()
        await api.wait_for_watches(2)
        api.delete("inferencepools", "p")
        await published.until()
        api.put("pods", pod("b", "10.0.0.2"))
        api.put("inferencepools", inference_pool("p", APP, 8000))
        await published.until("10.0.0.1:8000", "10.0.0.2:8000")
    assert caplog.records[0].message == "kubernetes: there is no InferencePool default/p"


async def test_a_selector_that_selects_everything_is_not_followed(
    api: KubeApi, caplog: pytest.LogCaptureFixture
) -> None:
    api.put("inferencepools", inference_pool("p", APP, 8000))
    api.put("pods", pod("a", "10.0.0.1"))
    async with running(discovery(api, PoolPods("p"))) as published:
        await published.until("10.0.0.1:8000")
        await api.wait_for_watches(2)
        api.put("inferencepools", inference_pool("p", {}, 8000))
        async with asyncio.timeout(PATIENCE):
            while not caplog.records:
                await asyncio.sleep(0)
        broken = inference_pool("p", APP, 8000)
        api.put("inferencepools", {**broken, "spec": {"selector": 5}})
        api.put("inferencepools", inference_pool("p", APP, 8001))
        await published.until("10.0.0.1:8001")
    assert len(published.lists) == 2
    assert caplog.records[0].message.startswith("kubernetes: selector of InferencePool default/p: must name a label")


async def test_two_pools_side_by_side(api: KubeApi) -> None:
    for name, labels in (("one", APP), ("two", {"app": "sglang"})):
        api.put("inferencepools", inference_pool(name, labels, 8000))
    api.put("pods", pod("a", "10.0.0.1"))
    api.put("pods", pod("b", "10.0.0.2", labels={"app": "sglang"}))
    source = UnionDiscovery([discovery(api, PoolPods("one")), discovery(api, PoolPods("two"))], sleep=Naps())
    async with running(source) as published:
        await source.first_sync.wait()
        assert sorted(published.addresses) == ["10.0.0.1:8000", "10.0.0.2:8000"]
        await api.wait_for_watches(4)
        api.put("pods", pod("c", "10.0.0.3", labels={"app": "sglang"}))
        api.delete("pods", "a")
        await published.until("10.0.0.2:8000", "10.0.0.3:8000")


async def test_it_is_not_in_sync_while_the_api_server_is_away(api: KubeApi) -> None:
    api.put("pods", pod("a", "10.0.0.1"))
    await api.kill()
    naps = Naps()
    source = KubernetesDiscovery(
        LabelledPods(APP, (8000,)), Credentials(Cluster(server=api.url)), rng=random.Random(1), sleep=naps
    )
    alone = UnionDiscovery([source], sleep=Naps())
    async with running(alone) as published:
        async with asyncio.timeout(PATIENCE):
            while len(naps.slept) < 5:
                await asyncio.sleep(0)
        # No pod is known: nothing to be ready with.
        assert not alone.first_sync.is_set()
        await api.start()
        await alone.first_sync.wait()
        assert published.addresses == ["10.0.0.1:8000"]


async def test_the_pods_of_others_do_not_wait_for_ever(api: KubeApi) -> None:
    await api.kill()
    union = UnionDiscovery(
        [StaticDiscovery([Pod("10.0.0.5:80")]), discovery(api, LabelledPods(APP, (8000,)))], sleep=Naps()
    )
    async with running(union) as published:
        await asyncio.wait_for(union.first_sync.wait(), PATIENCE)
        assert published.addresses == ["10.0.0.5:80"]


async def test_a_thousand_changes_of_a_pool_through_cuts_kills_and_forgetting(
    api: KubeApi, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    rng = random.Random(3)
    api.put("inferencepools", inference_pool("p", APP, 8000))
    truth: dict[str, str] = {}
    known: set[str] = set()
    async with running(discovery(api, PoolPods("p"))) as published:
        await published.until()
        for number in range(1000):
            name = f"p{rng.randrange(40)}"
            if name in known and rng.random() < 0.3:
                known.discard(name)
                truth.pop(name, None)
                api.delete("pods", name)
            else:
                ready = rng.random() < 0.8
                known.add(name)
                truth[name] = f"10.0.{number // 250}.{number % 250}"
                api.put("pods", pod(name, truth[name], ready=ready))
                if not ready:
                    del truth[name]
            if number % 10 == 9:
                await asyncio.sleep(0)
            if number % 200 == 150:
                await api.wait_for_watches(2)
                api.cut()
            if number % 300 == 299:
                await api.kill()
                api.put("pods", pod("while-away", "10.1.0.1"))
                api.compact()
                await api.start()
                api.delete("pods", "while-away")
        addresses = {f"{ip}:8000" for ip in truth.values()}
        await published.until_it(lambda: set(published.addresses) == addresses)
    # Never emptied on the way, whatever happened to the server.
    assert all(published.lists[1:])
