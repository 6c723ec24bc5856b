"""The parts of Kubernetes objects that are read. All else is skipped while decoding, and takes no memory."""

from typing import Protocol

import msgspec


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    namespace: str = ""
    labels: dict[str, str] | None = None
    deletion_timestamp: str | None = None


class KubernetesObject(Protocol):
    @property
    def metadata(self) -> Metadata: ...


class Key(msgspec.Struct, frozen=True, rename="camel"):
    """What every object has, whatever else may be wrong with it."""

    name: str = ""
    namespace: str = ""
    resource_version: str = ""


class Keyed(msgspec.Struct, frozen=True):
    metadata: Key = Key()


class ContainerPort(msgspec.Struct, frozen=True, rename="camel"):
    container_port: int
    name: str = ""
    protocol: str = "TCP"


class Container(msgspec.Struct, frozen=True):
    ports: list[ContainerPort] | None = None


class PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    containers: list[Container] | None = None
    #: Sidecars may be init containers that go on running.
    init_containers: list[Container] | None = None


class PodIP(msgspec.Struct, frozen=True):
    ip: str = ""


class Condition(msgspec.Struct, frozen=True):
    type: str
    status: str


class PodStatus(msgspec.Struct, frozen=True, rename={"pod_ip": "podIP", "pod_ips": "podIPs"}):
    phase: str = ""
    pod_ip: str = ""
    pod_ips: list[PodIP] | None = None
    conditions: list[Condition] | None = None


class PodObject(msgspec.Struct, frozen=True):
    """core/v1 Pod."""

    metadata: Metadata
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class EndpointConditions(msgspec.Struct, frozen=True):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class TargetRef(msgspec.Struct, frozen=True):
    kind: str = ""
    name: str = ""
    namespace: str = ""


class Endpoint(msgspec.Struct, frozen=True, rename="camel"):
    addresses: list[str] | None = None
    conditions: EndpointConditions = EndpointConditions()
    target_ref: TargetRef | None = None
    node_name: str | None = None
    zone: str | None = None


class EndpointPort(msgspec.Struct, frozen=True):
    name: str | None = None
    port: int | None = None
    protocol: str | None = None


class EndpointSlice(msgspec.Struct, frozen=True, rename="camel"):
    """discovery.k8s.io/v1 EndpointSlice."""

    metadata: Metadata
    address_type: str = ""
    # The API server writes empty lists as null.
    endpoints: list[Endpoint] | None = None
    ports: list[EndpointPort] | None = None


class LabelSelector(msgspec.Struct, frozen=True, rename="camel"):
    match_labels: dict[str, str]


class TargetPort(msgspec.Struct, frozen=True):
    number: int


class InferencePoolSpec(msgspec.Struct, frozen=True, rename="camel"):
    selector: LabelSelector
    target_ports: list[TargetPort]


class InferencePool(msgspec.Struct, frozen=True):
    """inference.networking.k8s.io/v1 InferencePool."""

    metadata: Metadata
    spec: InferencePoolSpec


class Status(msgspec.Struct, frozen=True):
    """The API server's error, in place of an answer."""

    message: str = ""
    reason: str = ""
    code: int = 0
