from typing import Any

import pytest
from pydantic import ValidationError

from extproc.config.decode import decode
from extproc.config.sections.discovery import DnsEndpoint, FileEndpoints, KubernetesEndpoints
from extproc.discovery.dns import discovery as dns


def found(**kubernetes: Any) -> list[str]:
    decoded = decode({"endpoints": {"kubernetes": kubernetes}}, set())
    return [problem.text("f").removeprefix("f: endpoints.kubernetes.") for problem in decoded.problems]


def test_all_of_it() -> None:
    one = KubernetesEndpoints.model_validate(
        {
            "service": {"name": "vllm", "namespace": "models", "port": "http"},
            "selector": {"matchLabels": {"app.io/name": "vllm", "x": ""}, "ports": [8000, "http"]},
            "inferencePool": {"name": "pool.v1"},
            "kubeconfig": "/etc/kubeconfig",
            "context": "here",
        }
    )
    assert one.service is not None
    assert one.selector is not None
    assert one.inference_pool is not None
    assert (one.service.name, one.service.namespace, one.service.port) == ("vllm", "models", "http")
    assert (one.selector.match_labels, one.selector.ports) == ({"app.io/name": "vllm", "x": ""}, (8000, "http"))
    assert (one.inference_pool.name, one.inference_pool.namespace) == ("pool.v1", None)
    assert (one.kubeconfig, one.context) == ("/etc/kubeconfig", "here")


def test_defaults() -> None:
    assert KubernetesEndpoints() == KubernetesEndpoints.model_validate(None)
    assert FileEndpoints.model_validate({"path": "/pods.yaml"}).interval == 1.0
    name = DnsEndpoint.model_validate({"name": "a", "port": 1})
    assert (name.type, name.interval) == (None, dns.DEFAULT_INTERVAL)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"service": {}}, "service.name: is missing"),
        ({"service": {"name": "Vllm"}}, "service.name: must be the name of a Kubernetes object"),
        ({"service": {"name": "a,b"}}, "service.name: must be the name of a Kubernetes object"),
        ({"inferencePool": {"name": "a" * 254}}, "inferencePool.name: must be the name of a Kubernetes object"),
        ({"inferencePool": {"name": "p", "namespace": "../x"}}, "inferencePool.namespace: must be the name"),
        ({"service": {"name": "s", "port": 0}}, "service.port: must be a port of 1-65535 or the name of one"),
        ({"service": {"name": "s", "port": "8000"}}, 'not the string "8000" (did you mean 8000?)'),
        ({"service": {"name": "s", "port": "HTTP"}}, 'not the string "HTTP"'),
        (
            {"service": {"name": "s", "port": True}},
            "service.port: must be a port of 1-65535 or the name of one, not true",
        ),
        ({"selector": {"matchLabels": {"a": "b"}, "ports": []}}, "selector.ports: must not be empty"),
        ({"selector": {"matchLabels": {"a": "b"}, "ports": list(range(1, 10))}}, "selector.ports: "),
        ({"selector": {"matchLabels": {"a": "b"}, "ports": [1, 1]}}, "selector.ports: a port is listed twice"),
        ({"selector": {"matchLabels": {}, "ports": [1]}}, "selector.matchLabels: must name a label"),
        ({"selector": {"matchLabels": {"a": "b,c"}, "ports": [1]}}, "selector.matchLabels: no pod can have the label"),
        ({"selector": {"ports": [1]}}, "selector.matchLabels: is missing"),
        ({"kubeconfig": "~/.kube/config"}, "kubeconfig: must be"),
        ({"pool": {"name": "p"}}, "pool: unknown key"),
    ],
)
def test_what_is_wrong(data: dict[str, Any], reason: str) -> None:
    (problem,) = found(**data)
    assert reason in problem


def test_how_often_the_file_is_looked_at_has_bounds() -> None:
    with pytest.raises(ValidationError, match="must be from 100ms to 1h"):
        FileEndpoints.model_validate({"path": "/pods", "interval": "1ms"})
