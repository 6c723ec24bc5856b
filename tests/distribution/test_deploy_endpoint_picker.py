"""The manifests of the Endpoint Picker fit together, and fit the program."""

from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import extproc
from extproc.config import GatewayConfig, load
from extproc.config.sections.discovery import KubernetesEndpoints
from extproc.discovery.kubernetes.objectives import GROUPS
from extproc.main import app

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes" / "endpoint-picker"
DEPLOYMENT = FOLDER.parent / "deployment.yaml"

Manifest = dict[str, Any]


def document(path: Path) -> Manifest:
    (found,) = yaml.safe_load_all(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


KUSTOMIZATION = document(FOLDER / "kustomization.yaml")
MANIFESTS = {one["kind"]: one for one in (document(FOLDER / name) for name in KUSTOMIZATION["resources"])}
POD: Manifest = MANIFESTS["Deployment"]["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
PORTS = {one["name"]: one["containerPort"] for one in CONTAINER["ports"]}


@pytest.fixture(scope="module")
def config() -> GatewayConfig:
    return load(str(FOLDER / "configmap.yaml"), {}).config


@pytest.fixture(scope="module")
def source(config: GatewayConfig) -> KubernetesEndpoints:
    assert config.endpoints.kubernetes is not None
    return config.endpoints.kubernetes


def test_every_manifest_is_in_the_kustomization() -> None:
    # A PodMonitor is of a kind that not every cluster has; examples are for other people's objects.
    apart = {"kustomization.yaml", "podmonitor.yaml", "examples"}
    assert {*KUSTOMIZATION["resources"], *apart} == {path.name for path in FOLDER.iterdir()}


def test_the_pool_names_the_picker_and_the_picker_the_pool(config: GatewayConfig, source: KubernetesEndpoints) -> None:
    pool, service = MANIFESTS["InferencePool"], MANIFESTS["Service"]
    assert pool["apiVersion"] == "inference.networking.k8s.io/v1"
    assert source.inference_pool is not None
    assert source.inference_pool.name == pool["metadata"]["name"]
    reference = pool["spec"]["endpointPickerRef"]
    assert reference["name"] == service["metadata"]["name"]
    (port,) = service["spec"]["ports"]
    assert reference["port"] == {"number": port["port"]}
    assert PORTS[port["targetPort"]] == int(config.transport.address.rpartition(":")[2])
    # What authenticates must not be passed by.
    assert reference["failureMode"] == "FailClose"
    assert port["appProtocol"] == "http2"


def test_the_picker_speaks_tls_for_any_gateway(config: GatewayConfig) -> None:
    assert config.transport.tls is not None
    assert config.transport.lean
    assert not config.transport.own_envoy
    assert config.transport.address.startswith("0.0.0.0:")
    assert config.admin.host == "0.0.0.0"
    assert PORTS["admin"] == config.admin.port


def test_rights_are_what_discovery_needs(config: GatewayConfig, source: KubernetesEndpoints) -> None:
    role, binding = MANIFESTS["Role"], MANIFESTS["RoleBinding"]
    assert source.inference_pool is not None
    assert role["rules"] == [
        {
            "apiGroups": ["inference.networking.k8s.io"],
            "resources": ["inferencepools"],
            "resourceNames": [source.inference_pool.name],
            "verbs": ["list", "watch"],
        },
        {"apiGroups": [*GROUPS], "resources": ["inferenceobjectives"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
    ]
    assert config.objectives.watch
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    account = MANIFESTS["ServiceAccount"]["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account}]
    assert POD["spec"]["serviceAccountName"] == account
    # It asks the API server: its token has to be there.
    assert POD["spec"].get("automountServiceAccountToken", True)
    assert MANIFESTS["ServiceAccount"].get("automountServiceAccountToken", True)


def test_selectors_meet_their_pods() -> None:
    labels = POD["metadata"]["labels"]
    for selector in (
        MANIFESTS["Deployment"]["spec"]["selector"]["matchLabels"],
        MANIFESTS["Service"]["spec"]["selector"],
        MANIFESTS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        MANIFESTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        document(FOLDER / "podmonitor.yaml")["spec"]["selector"]["matchLabels"],
        POD["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    assert POD["spec"]["volumes"][0]["configMap"]["name"] == MANIFESTS["ConfigMap"]["metadata"]["name"]
    # The pool is of the model servers, not of their picker.
    assert not MANIFESTS["InferencePool"]["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_only_gateways_and_the_monitoring_come_in() -> None:
    gateways, monitoring = MANIFESTS["NetworkPolicy"]["spec"]["ingress"]
    assert [one["port"] for one in gateways["ports"]] == [PORTS["grpc-ext-proc"]]
    assert [one["port"] for one in monitoring["ports"]] == [PORTS["admin"]]
    assert gateways["from"]
    assert monitoring["from"]


def test_the_program_has_what_is_run(config: GatewayConfig) -> None:
    name, *rest = CONTAINER["args"]
    group: Any = typer.main.get_command(app)
    group.commands[name].make_context(name, list(rest))
    mounts = {one["name"]: one["mountPath"] for one in CONTAINER["volumeMounts"]}
    assert rest[-1] == mounts["config"]
    assert config.envoy.endpoints_file.startswith(mounts["run"])
    assert CONTAINER["image"] == f"infer-gateway:{extproc.__version__}"
    assert POD["metadata"]["annotations"]["prometheus.io/port"] == str(PORTS["admin"])


def test_there_is_time_to_drain(config: GatewayConfig) -> None:
    sleep = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert POD["spec"]["terminationGracePeriodSeconds"] >= sleep + config.transport.drain_timeout + 10


def test_it_runs_with_the_rights_and_probes_of_the_whole_gateway() -> None:
    whole = document(DEPLOYMENT)["spec"]["template"]["spec"]
    sidecar = next(one for one in whole["initContainers"] if one["name"] == "sidecar")
    assert POD["spec"]["securityContext"] == whole["securityContext"]
    bootstrap = whole["initContainers"][0]
    assert CONTAINER["securityContext"] == bootstrap["securityContext"] == sidecar["securityContext"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert CONTAINER[probe] == sidecar[probe]
    assert CONTAINER["resources"] == sidecar["resources"]


EXAMPLES = sorted((FOLDER / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_name_the_pool_and_the_picker(path: Path) -> None:
    pool, service = MANIFESTS["InferencePool"]["metadata"]["name"], MANIFESTS["Service"]["metadata"]["name"]
    for one in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        spec = one["spec"]
        if one["kind"] == "DestinationRule":
            assert spec["host"].startswith(f"{service}.{KUSTOMIZATION['namespace']}.")
            continue
        references = [spec.get("targetRef"), spec.get("poolRef")]
        references += [backend for rule in spec.get("rules", ()) for backend in rule["backendRefs"]]
        named = [reference for reference in references if reference is not None]
        assert named
        for reference in named:
            assert (reference["group"], reference["name"]) == ("inference.networking.k8s.io", pool)
