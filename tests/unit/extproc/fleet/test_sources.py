"""Each key of the configuration becomes its source, and pods."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from support.discovered import running
from support.eventually import PATIENCE
from support.kube_api import KubeApi, endpoint, endpoint_slice, inference_pool, pod

from extproc.config import EndpointsConfig
from extproc.fleet.sources import DiscoveryError, build
from scheduler.types import Pod


@pytest.fixture
async def api() -> AsyncIterator[KubeApi]:
    fake = KubeApi()
    fake.put("pods", pod("a", "10.0.0.1"))
    fake.put("pods", pod("b", "10.0.0.2"), namespace="models")
    fake.put("inferencepools", inference_pool("p", {"app": "vllm"}, 8000, 8001))
    fake.put("endpointslices", endpoint_slice("s-1", "s", endpoint("10.0.0.3", "c")))
    await fake.start()
    yield fake
    await fake.kill()


@pytest.fixture
def kubeconfig(api: KubeApi, tmp_path: Path) -> str:
    path = tmp_path / "kubeconfig"
    path.write_text(
        f"clusters: [{{name: c, cluster: {{server: '{api.url}'}}}}]\n"
        "contexts: [{name: x, context: {cluster: c}}, {name: m, context: {cluster: c, namespace: models}}]\n"
        "current-context: x\n"
    )
    return str(path)


async def pods(**endpoints: Any) -> list[Pod]:
    source = build(EndpointsConfig.model_validate(endpoints), {})
    async with running(source) as published:
        async with asyncio.timeout(PATIENCE):
            await source.first_sync.wait()
        return published.now


async def test_no_source_is_no_pods() -> None:
    assert await pods() == []


async def test_pods_that_are_written_down() -> None:
    written = [{"address": "10.0.0.1:80", "name": "a", "labels": {"x": "y"}}, "10.0.0.2:80"]
    assert await pods(static=written) == [Pod("10.0.0.1:80", "a", {"x": "y"}), Pod("10.0.0.2:80")]


async def test_all_sources_as_one(tmp_path: Path, kubeconfig: str) -> None:
    path = tmp_path / "pods.yaml"
    path.write_text("- 10.0.0.8:80")
    found = await pods(
        static=["10.0.0.9:80"],
        file={"path": str(path)},
        dns=[{"name": "localhost", "port": 80}],
        kubernetes={"service": {"name": "s"}, "kubeconfig": kubeconfig},
    )
    addresses = [one.address for one in found if one.address != "[::1]:80"]
    assert addresses == ["10.0.0.9:80", "127.0.0.1:80", "10.0.0.8:80", "10.0.0.3:8000"]


@pytest.mark.parametrize(
    ("wanted", "addresses"),
    [
        ({"service": {"name": "s"}}, ["10.0.0.3:8000"]),
        ({"service": {"name": "s", "port": "http"}}, ["10.0.0.3:8000"]),
        ({"selector": {"matchLabels": {"app": "vllm"}, "ports": ["http"]}}, ["10.0.0.1:8000"]),
        ({"selector": {"matchLabels": {"app": "vllm"}, "ports": [9], "namespace": "models"}}, ["10.0.0.2:9"]),
        ({"selector": {"matchLabels": {"app": "vllm"}, "ports": [9]}, "context": "m"}, ["10.0.0.2:9"]),
        ({"inferencePool": {"name": "p"}}, ["10.0.0.1:8000", "10.0.0.1:8001"]),
        ({"inferencePool": {"name": "p", "namespace": "default"}, "context": "m"}, ["10.0.0.1:8000", "10.0.0.1:8001"]),
    ],
)
async def test_kubernetes(kubeconfig: str, wanted: dict[str, Any], addresses: list[str]) -> None:
    found = await pods(kubernetes={"kubeconfig": kubeconfig, **wanted})
    assert [one.address for one in found] == addresses


async def test_a_source_that_is_away_publishes_nothing(tmp_path: Path) -> None:
    """What an earlier process wrote for Envoy must not be emptied."""
    endpoints = EndpointsConfig.model_validate({"file": {"path": str(tmp_path / "none")}})
    source = build(endpoints, {})
    async with running(source) as published:
        for _ in range(20):
            await asyncio.sleep(0)
        assert not source.first_sync.is_set()
        assert published.lists == []


def test_in_a_pod(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "token").write_text("t")
    (tmp_path / "ca.crt").write_bytes(trustme.CA().cert_pem.bytes())
    environ = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    endpoints = EndpointsConfig.model_validate({"kubernetes": {"service": {"name": "s"}}})
    assert build(endpoints, environ, tmp_path)
    assert [record.message for record in caplog.records] == ["kubernetes"]
    (tmp_path / "token").write_text("")
    with pytest.raises(DiscoveryError, match=r"^endpoints\.kubernetes: .*token is empty"):
        build(endpoints, environ, tmp_path)
    with pytest.raises(DiscoveryError, match=r"^endpoints\.kubernetes: not in a cluster"):
        build(endpoints, {}, tmp_path)


def test_what_is_not_safe_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(
        "clusters: [{name: c, cluster: {server: 'https://h', insecure-skip-tls-verify: true}}]\n"
        "contexts: [{name: x, context: {cluster: c}}]\ncurrent-context: x\n"
    )
    config = {"kubernetes": {"service": {"name": "s"}, "kubeconfig": str(path)}}
    build(EndpointsConfig.model_validate(config), {})
    assert "insecure-skip-tls-verify" in caplog.text
    with pytest.raises(DiscoveryError, match="there is no context 'other'"):
        build(EndpointsConfig.model_validate({"kubernetes": {**config["kubernetes"], "context": "other"}}), {})


def test_kubernetes_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(
        "clusters: [{name: c, cluster: {server: 'http://h'}}]\ncontexts: [{name: x, context: {cluster: c}}]"
    )
    config = {"kubernetes": {"kubeconfig": str(path), "context": "x"}}
    with pytest.raises(DiscoveryError, match="names no pods"):
        build(EndpointsConfig.model_validate(config), {})
