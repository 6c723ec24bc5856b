"""What is installed so that gateways share: the kustomize component, the compose stack of two gateways, the chart's values."""

import asyncio
import re
from pathlib import Path
from typing import Any

import yaml

from extproc.config import GatewayConfig, load
from extproc.demo.stack import envoy_binary

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BASE = DEPLOY / "kubernetes"
COMPONENT = BASE / "sharing"
CHART = DEPLOY / "helm" / "infer-gateway"
COMPOSE = DEPLOY / "compose"

Manifest = dict[str, Any]


def document(path: Path) -> Manifest:
    (found,) = [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]
    assert isinstance(found, dict)
    return found


def without_sharing(config: GatewayConfig) -> GatewayConfig:
    return config.model_copy(update={"sharing": GatewayConfig().sharing})


def test_the_components_configuration_is_that_of_the_base_and_shares() -> None:
    config, base = (load(str(folder / "configmap.yaml"), {}).config for folder in (COMPONENT, BASE))
    assert config.sharing.on
    assert without_sharing(config) == base
    assert not base.sharing.on


def test_the_component_mounts_the_secret_where_the_configuration_looks() -> None:
    deployment = document(BASE / "deployment.yaml")["spec"]["template"]["spec"]
    patches = {
        one["target"]["kind"]: yaml.safe_load(one["patch"])
        for one in document(COMPONENT / "kustomization.yaml")["patches"]
        if "target" in one
    }
    volume, mount = patches["Deployment"]
    assert volume["path"] == "/spec/template/spec/volumes/-"
    index = re.fullmatch(r"/spec/template/spec/initContainers/(\d)/volumeMounts/-", mount["path"])
    assert index is not None
    assert deployment["initContainers"][int(index[1])]["name"] == "sidecar"
    assert mount["value"]["name"] == volume["value"]["name"]
    config = load(str(COMPONENT / "configmap.yaml"), {}).config
    assert config.sharing.secret_file == f"{mount['value']['mountPath']}/secret"
    (scaling,) = patches["HorizontalPodAutoscaler"]
    at: Any = document(BASE / "horizontalpodautoscaler.yaml")
    for key in scaling["path"].strip("/").split("/"):
        at = at[key]
    assert at > scaling["value"]


def test_the_charts_folder_is_the_components() -> None:
    helpers = (CHART / "templates" / "_helpers.tpl").read_text(encoding="utf-8")
    config = load(str(COMPONENT / "configmap.yaml"), {}).config
    assert (
        f'"infer-gateway.sharingFolder" -}}}}\n{str(config.sharing.secret_file).removesuffix("/secret")}\n' in helpers
    )
    values = document(CHART / "values.yaml")["sharing"]
    assert (values["enabled"], values["redis"]["url"]) == (False, config.sharing.redis.url)


def services() -> tuple[Manifest, Manifest]:
    """Of the stack of one gateway, and of that of two."""
    one, two = (document(COMPOSE / name)["services"] for name in ("docker-compose.yaml", "sharing.yaml"))
    return one, two


def test_each_gateway_of_the_stack_of_two_is_that_of_the_stack_of_one() -> None:
    one, two = services()
    for number in ("1", "2"):
        for name in ("bootstrap", "sidecar", "envoy"):
            ours, theirs = two[f"{name}-{number}"], one[name]
            own = {"volumes", "ports", "depends_on", "build", "pull_policy"}
            assert {key: ours[key] for key in ours.keys() - own} == {key: theirs[key] for key in theirs.keys() - own}
            paths = [[volume.split(":")[1] for volume in service["volumes"]] for service in (ours, theirs)]
            assert paths[0] == paths[1]
        assert two[f"model-{number}"] == one[f"model-{number}"]
    folders = {two[f"sidecar-{number}"]["volumes"][-1] for number in ("1", "2")}
    assert len(folders) == 2
    config, base = (load(str(COMPOSE / folder), {}).config for folder in ("sharing", "config"))
    assert without_sharing(config) == base
    assert config.sharing.redis.url == "redis://valkey:6379"
    assert "valkey" in two


def test_ports_on_the_host_do_not_meet() -> None:
    _, two = services()
    ports = [port for one in two.values() for port in one.get("ports", ())]
    assert sorted(ports) == ["${LISTEN:-127.0.0.1}:${PORT:-8080}:8080", "127.0.0.1:9090:9090", "127.0.0.1:9092:9090"]


async def test_envoy_takes_the_balancers_configuration_and_both_gateways_are_in_it() -> None:
    path = COMPOSE / "balancer.yaml"
    process = await asyncio.create_subprocess_exec(
        envoy_binary(), "-c", str(path), "--mode", "validate",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    (cluster,) = document(path)["static_resources"]["clusters"]
    hosts = [
        one["endpoint"]["address"]["socket_address"]["address"]
        for one in cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    ]
    _, two = services()
    assert set(hosts) == {"envoy-1", "envoy-2"} <= two.keys()
