import json
from typing import Any

import msgspec
import pytest
from support.kube_api import endpoint, endpoint_slice, pod

from extproc.discovery.kubernetes.objects import EndpointSlice, PodObject
from extproc.discovery.kubernetes.pods import PortRef, label_selector, pods_of, pods_of_slices
from scheduler.types import Pod

PLACE = {"topology.kubernetes.io/zone": "zone-a", "kubernetes.io/hostname": "node-1"}
APP = {"app": "vllm"}


def found(*bodies: dict[str, Any], ports: tuple[PortRef, ...] = (8000,)) -> list[Pod]:
    return pods_of([msgspec.json.decode(json.dumps(body), type=PodObject) for body in bodies], ports)


def behind(*bodies: dict[str, Any], port: PortRef | None = None, complaints: list[str] | None = None) -> list[Pod]:
    slices = [msgspec.json.decode(json.dumps(body), type=EndpointSlice) for body in bodies]
    told: list[str] = []
    pods = pods_of_slices(slices, port, told.append)
    assert told == (complaints or [])
    return pods


def addresses(pods: list[Pod]) -> list[str]:
    return [one.address for one in pods]


def changed(body: dict[str, Any], **status: Any) -> dict[str, Any]:
    return {**body, "status": {**body["status"], **status}}


def test_ready_pods_with_their_names_and_labels() -> None:
    assert found(pod("b", "10.0.0.10"), pod("a", "10.0.0.9")) == [
        Pod("10.0.0.9:8000", "a", APP),
        Pod("10.0.0.10:8000", "b", APP),
    ]
    assert found(pod("a", "10.0.0.9", labels={})) == [Pod("10.0.0.9:8000", "a", {})]


@pytest.mark.parametrize(
    "body",
    [
        pod("a", "10.0.0.1", ready=False),
        pod("a", "10.0.0.1", deletionTimestamp="2026-01-01T00:00:00Z"),
        pod("a", ""),
        pod("a", "nonsense"),
        changed(pod("a", "10.0.0.1"), conditions=None),
        changed(pod("a", "10.0.0.1"), conditions=[{"type": "Initialized", "status": "True"}]),
        changed(pod("a", "10.0.0.1"), conditions=[{"type": "Ready", "status": "Unknown"}]),
        changed(pod("a", "10.0.0.1"), phase="Succeeded"),
        changed(pod("a", "10.0.0.1"), phase="Failed"),
        {"metadata": {"name": "a", "labels": None}},
    ],
)
def test_pods_that_are_not_ready(body: dict[str, Any]) -> None:
    assert found(body) == []


def test_each_port_is_an_endpoint() -> None:
    assert found(pod("a", "10.0.0.1"), ports=(8001, 8000)) == [
        Pod("10.0.0.1:8000", "a:8000", APP),
        Pod("10.0.0.1:8001", "a:8001", APP),
    ]


def test_ports_by_name() -> None:
    assert addresses(found(pod("a", "10.0.0.1"), ports=("http",))) == ["10.0.0.1:8000"]
    assert found(pod("a", "10.0.0.1"), ports=("grpc",)) == []
    body = pod("a", "10.0.0.1")
    body["spec"] = {
        "containers": [{"ports": None}, {"ports": [{"name": "x", "containerPort": 1, "protocol": "UDP"}]}],
        "initContainers": [{"ports": [{"name": "x", "containerPort": 9000}]}],
    }
    assert addresses(found(body, ports=("x",))) == ["10.0.0.1:9000"]
    body["spec"] = {}
    assert found(body, ports=("x",)) == []


def test_a_pod_of_two_families_is_one_pod() -> None:
    body = changed(pod("a", "fd00::1"), podIPs=[{"ip": "fd00::1"}, {"ip": "10.0.0.1"}])
    assert addresses(found(body)) == ["10.0.0.1:8000"]
    assert addresses(found(changed(pod("a", "FD00::01"), podIPs=None))) == ["[fd00::1]:8000"]


def test_of_two_pods_with_one_address_there_is_one() -> None:
    # On the host's network, or for a moment when an address is used again.
    assert found(pod("b", "10.0.0.1"), pod("a", "10.0.0.1")) == [Pod("10.0.0.1:8000", "a", APP)]


def test_a_service() -> None:
    one = endpoint_slice("s-1", "s", endpoint("10.0.0.2", "b"), endpoint("10.0.0.1", "a"))
    two = endpoint_slice("s-2", "s", endpoint("10.0.0.3", "c"), {"addresses": ["10.0.0.4"]})
    assert behind(two, one) == [
        Pod("10.0.0.1:8000", "a", PLACE),
        Pod("10.0.0.2:8000", "b", PLACE),
        Pod("10.0.0.3:8000", "c", PLACE),
        Pod("10.0.0.4:8000", "", {}),
    ]


@pytest.mark.parametrize(
    ("conditions", "taken"),
    [
        ({}, True),
        ({"ready": False}, False),
        ({"ready": True, "serving": False}, False),
        ({"ready": True, "serving": True, "terminating": True}, False),
        ({"ready": None, "serving": None, "terminating": None}, True),
    ],
)
def test_conditions(conditions: dict[str, Any], taken: bool) -> None:
    assert bool(behind(endpoint_slice("s", "s", endpoint("10.0.0.1", "a", **conditions)))) is taken


def test_an_endpoint_in_two_slices_is_ready_where_one_says_so() -> None:
    slices = [endpoint_slice(f"s-{ready}", "s", endpoint("10.0.0.1", "a", ready=ready)) for ready in (True, False)]
    assert addresses(behind(*slices)) == ["10.0.0.1:8000"]


def test_a_service_of_two_families() -> None:
    six = endpoint_slice("s-6", "s", endpoint("fd00::1", "a"), endpoint("fd00::2", "b"), family="IPv6")
    four = endpoint_slice("s-4", "s", endpoint("10.0.0.1", "a"))
    assert addresses(behind(six, four)) == ["10.0.0.1:8000", "[fd00::2]:8000"]
    named = endpoint_slice("s-n", "s", endpoint("a.example", "a"), family="FQDN")
    assert behind(named) == []
    assert behind(endpoint_slice("s", "s", {"addresses": None}, endpoint("?", "a"))) == []


def test_ports_of_a_service() -> None:
    one = endpoint_slice("s", "s", endpoint("10.0.0.1", "a"))
    one["ports"] += [
        {"name": "metrics", "port": 9000, "protocol": None},
        {"name": "quic", "port": 1, "protocol": "UDP"},
    ]
    assert addresses(behind(one, port="http")) == ["10.0.0.1:8000"]
    assert addresses(behind(one, port=9000)) == ["10.0.0.1:9000"]
    ports = "http (8000), metrics (9000), quic (1)"
    assert behind(one, port="quic", complaints=[f"EndpointSlice s has no port quic: {ports}"]) == []
    text = f"EndpointSlice s has several ports or none, and no port is chosen: {ports}"
    assert behind(one, complaints=[text]) == []
    assert behind({**one, "ports": None}, complaints=[text.replace(ports, "none")]) == []
    assert behind({**one, "ports": [{"name": ""}]}, complaints=[text.replace(ports, "unnamed (None)")]) == []
    # Without endpoints there may be no ports either: nothing is wrong.
    assert behind({**endpoint_slice("s", "s"), "ports": None}) == []


def test_selectors() -> None:
    assert label_selector({"b": "2", "a.io/x": "1", "c": ""}) == "a.io/x=1,b=2,c="
    for labels in (
        {},
        {"": "x"},
        {"a": "1,b=2"},
        {"a=1,b": "2"},
        {"a": "-"},
        {"a" * 64: "1"},
        {"/a": "1"},
        {"A.io/a": "1"},
        {"a": "1\n"},
        {f"{'a' * 254}/a": ""},
    ):
        with pytest.raises(ValueError, match="label"):
            label_selector(labels)
