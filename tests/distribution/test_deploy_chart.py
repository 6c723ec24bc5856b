"""The chart with other values than its defaults. Rendered by helm where that is installed; the rest needs none."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "infer-gateway"
HELM = shutil.which("helm")

rendered = pytest.mark.skipif(HELM is None, reason="helm is not installed: deploy/check needs it too")

Manifest = dict[str, Any]


def helm(values: Manifest, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    command = [
        str(HELM),
        "template",
        "gw",
        str(CHART),
        "--namespace",
        "here",
        "--kube-version",
        "1.30",
        "-f",
        str(file),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def objects(values: Manifest, tmp_path: Path) -> dict[tuple[str, str], Manifest]:
    """By kind and namespace/name."""
    done = helm(values, tmp_path)
    assert done.returncode == 0, done.stderr
    found = [one for one in yaml.safe_load_all(done.stdout) if one]
    return {(one["kind"], f"{one['metadata'].get('namespace', '')}/{one['metadata']['name']}"): one for one in found}


def pod(made: dict[tuple[str, str], Manifest]) -> Manifest:
    spec: Manifest = made["Deployment", "here/infer-gateway"]["spec"]["template"]
    return spec


@pytest.mark.parametrize("name", ["alerts.yaml", "infer-gateway.json"])
def test_the_charts_copies_are_those_of_grafana(name: str) -> None:
    """A chart can only read files inside of itself."""
    assert (CHART / "files" / name).read_bytes() == (ROOT / "deploy" / "grafana" / name).read_bytes()


def test_the_page_of_values_is_the_charts() -> None:
    made = subprocess.run(
        [sys.executable, "-c", "import make_chart; print(make_chart.page(), end='')"],
        cwd=ROOT / "docs", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert made.stdout == (ROOT / "docs" / "chart.md").read_text(encoding="utf-8"), "run `make docs`"


def test_every_value_is_in_the_schema() -> None:
    """One that is not would be refused by helm itself."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert set(values) == set(schema["properties"]) - {"global"}


@rendered
def test_rights_follow_the_configuration(tmp_path: Path) -> None:
    """A Role in every namespace whose pods are watched, and none where nothing is."""
    gateway = {
        "endpoints": {"dns": [], "kubernetes": {"service": "a"}},
        "pools": {"b": {"kubernetes": {"namespace": "there", "service": "b"}}, "c": {"static": ["127.0.0.1:1"]}},
    }
    made = objects({"gateway": gateway}, tmp_path)
    assert {name for kind, name in made if kind == "Role"} == {"here/infer-gateway", "there/infer-gateway"}
    binding = made["RoleBinding", "there/infer-gateway"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "infer-gateway", "namespace": "here"}]
    assert pod(made)["spec"]["automountServiceAccountToken"] is True
    for values, roles in (
        ({}, 0),
        ({"rbac": {"create": True}}, 1),
        ({"rbac": {"create": False}, "gateway": gateway}, 0),
    ):
        made = objects(values, tmp_path)
        assert sum(kind == "Role" for kind, _ in made) == roles
        assert pod(made)["spec"]["automountServiceAccountToken"] is bool(roles)


@rendered
def test_everyday_values(tmp_path: Path) -> None:
    digest = "sha256:" + "0" * 64
    made = objects(
        {
            "image": {"digest": digest},
            "envoy": {"image": {"digest": digest}, "extraArgs": ["--component-log-level", "ext_proc:debug"]},
            "sidecar": {
                "reload": True, "extraArgs": ["--x"], "extraEnv": [{"name": "A", "value": "b"}],
                "extraEnvFrom": [{"secretRef": {"name": "s"}}],
            },
            "serviceAccount": {"create": False, "name": "mine"},
            "priorityClassName": "high",
            "podLabels": {"team": "x"},
            "podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None},
            "topologySpreadConstraints": [],
            "service": {
                "type": "LoadBalancer", "nodePort": 30080, "labels": {"l": "m"},
                "spec": {"externalTrafficPolicy": "Local", "ipFamilyPolicy": "PreferDualStack"},
            },
            "autoscaling": {"sidecarCpu": 80, "behavior": {"scaleUp": {"stabilizationWindowSeconds": 1}}},
            "networkPolicy": {"requestsFrom": [{"podSelector": {"matchLabels": {"a": "b"}}}], "adminFrom": [{"podSelector": {}}]},
            "httpRoute": {"enabled": True, "parentRefs": [{"name": "edge"}], "hostnames": ["models.example"]},
            "ingress": {"enabled": True, "hosts": ["models.example"], "className": "nginx"},
            "prometheusRule": {"enabled": True, "labels": {"release": "p"}},
            "dashboard": {"enabled": True},
            "extraObjects": [
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more"}, "data": {"ns": "{{ .Release.Namespace }}"}}
            ],
        },
        tmp_path,
    )  # fmt: skip
    template = pod(made)
    spec = template["spec"]
    sidecar = next(one for one in spec["initContainers"] if one["name"] == "sidecar")
    envoy = spec["containers"][0]
    assert sidecar["image"] == f"infer-gateway@{digest}"
    assert envoy["image"] == f"envoyproxy/envoy@{digest}"
    assert envoy["args"][-2:] == ["--component-log-level", "ext_proc:debug"]
    assert sidecar["args"] == ["serve", "--config", "/etc/config", "--reload", "--x"]
    assert (sidecar["env"], sidecar["envFrom"]) == ([{"name": "A", "value": "b"}], [{"secretRef": {"name": "s"}}])
    assert (spec["serviceAccountName"], spec["priorityClassName"]) == ("mine", "high")
    assert template["metadata"]["labels"]["team"] == "x"
    assert "checksum/config" not in template["metadata"]["annotations"], "with reload, a change restarts nothing"
    assert "runAsUser" not in spec["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert not spec["topologySpreadConstraints"]
    assert not any(kind == "ServiceAccount" for kind, _ in made)
    service = made["Service", "here/infer-gateway"]
    assert (service["spec"]["externalTrafficPolicy"], service["spec"]["ports"][0]["nodePort"]) == ("Local", 30080)
    assert service["metadata"]["labels"]["l"] == "m"
    scaler = made["HorizontalPodAutoscaler", "here/infer-gateway"]["spec"]
    assert scaler["behavior"] == {"scaleUp": {"stabilizationWindowSeconds": 1}}
    assert scaler["metrics"][0]["containerResource"]["target"]["averageUtilization"] == 80
    rules = made["NetworkPolicy", "here/infer-gateway"]["spec"]["ingress"]
    assert rules[0]["from"] == [{"podSelector": {"matchLabels": {"a": "b"}}}]
    assert rules[1]["from"][1] == {"podSelector": {}}
    assert made["HTTPRoute", "here/infer-gateway"]["spec"]["parentRefs"] == [{"name": "edge"}]
    assert made["Ingress", "here/infer-gateway"]["spec"]["rules"][0]["host"] == "models.example"
    alerts = yaml.safe_load((ROOT / "deploy" / "grafana" / "alerts.yaml").read_text(encoding="utf-8"))
    assert made["PrometheusRule", "here/infer-gateway"]["spec"] == alerts
    dashboard = made["ConfigMap", "here/infer-gateway-dashboard"]
    assert json.loads(dashboard["data"]["infer-gateway.json"])["title"]
    assert made["ConfigMap", "/more"]["data"] == {"ns": "here"}


@rendered
@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"sidecar": {"relaod": True}}, "relaod"),
        ({"httpRoute": {"enabled": True}}, "parentRefs"),
        ({"ingress": {"enabled": True}}, "hosts"),
        ({"serviceAccount": {"create": False}}, "serviceAccount.name"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"service": {"spec": {"type": "NodePort"}}}, "spec"),
        ({"termination": {"drainSeconds": 0}}, "drainSeconds"),
    ],
)
def test_what_cannot_work_is_refused(values: Manifest, words: str, tmp_path: Path) -> None:
    done = helm(values, tmp_path)
    assert done.returncode != 0
    assert words in done.stderr
