"""Where pods are found that are not written down: names, files, Kubernetes."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainValidator

from extproc.config import fields, units
from extproc.config.fields import AsTuple, Seconds, Section, Text
from extproc.discovery.dns.discovery import DEFAULT_INTERVAL, MIN_TTL
from extproc.discovery.kubernetes.pods import label_selector

#: As the API server checks them: a port's name has a letter, an object's name is one of the DNS.
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_OBJECT_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
#: Ports of one pod: as many as an InferencePool may have.
MAX_PORTS = 8


def _labels(labels: dict[str, str]) -> dict[str, str]:
    label_selector(labels)
    return labels


def _unique(ports: tuple[int | str, ...]) -> tuple[int | str, ...]:
    if len(set(ports)) < len(ports):
        raise ValueError("a port is listed twice")
    return ports


def _port_ref(value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:
        return value
    if isinstance(value, str) and _PORT_NAME.fullmatch(value):
        return value
    hint = units.did_you_mean(value).replace('"', "") if isinstance(value, str) and value.isdecimal() else ""
    raise ValueError(f"must be a port of 1-65535 or the name of one, not {units.describe(value)}{hint}")


def _object_name(text: str) -> str:
    if len(text) > 253 or not _OBJECT_NAME.fullmatch(text):
        raise ValueError(f"must be the name of a Kubernetes object, such as vllm-models, not {units.describe(text)}")
    return text


_PortRef = Annotated[int | str, PlainValidator(_port_ref, json_schema_input_type=int | str)]
_ObjectName = Annotated[str, AfterValidator(_object_name)]
_Namespace = Annotated[_ObjectName | None, Field(description="Its namespace. Left out: the gateway's own.")]


class DnsEndpoint(Section):
    """A name that resolves to the addresses of pods, such as that of a headless Service."""

    name: fields.DnsName = Field(
        description="Host name, every address of which is a pod; or, with `type: SRV`, a service's such as"
        " _http._tcp.models.default.svc.cluster.local."
    )
    type: Literal["SRV"] | None = Field(
        default=None, description="SRV: its SRV records name hosts and ports. Left out: its A and AAAA records."
    )
    port: fields.PodPort | None = Field(
        default=None, description="Port of the pods, 1-65535. Needed, but not with `type: SRV`: it is in the records."
    )
    interval: Annotated[float, Seconds(0.1, 3600)] = Field(
        default=DEFAULT_INTERVAL,
        description=f"Longest time between look-ups; an answer's time to live may shorten it, to {MIN_TTL:g}s.",
    )


class FileEndpoints(Section):
    """A file that lists pods, read again when it changes."""

    path: fields.FilePath = Field(
        description="YAML or JSON: a list of addresses (ip:port), or of mappings with address, name and labels."
    )
    interval: Annotated[float, Seconds(0.1, 3600)] = Field(default=1.0, description="Time between looks at it.")


class ServiceEndpoints(Section):
    """The pods behind a Service, by its EndpointSlices."""

    name: _ObjectName = Field(description="Name of the Service.")
    namespace: _Namespace = None
    port: _PortRef | None = Field(
        default=None,
        description="Port, by its name in the Service or by the pods' number. Left out: the only one there is.",
    )


class SelectorEndpoints(Section):
    """The pods that have labels."""

    match_labels: Annotated[dict[str, str], AfterValidator(_labels)] = Field(description="Labels, all of them.")
    namespace: _Namespace = None
    ports: Annotated[
        tuple[_PortRef, ...], AsTuple, Field(min_length=1, max_length=MAX_PORTS), AfterValidator(_unique)
    ] = Field(
        description=f"Ports, by number or by the container's name for it, 1-{MAX_PORTS}; each is an endpoint.",
    )


class InferencePoolEndpoints(Section):
    """The pods and ports that an InferencePool (inference.networking.k8s.io/v1) selects."""

    name: _ObjectName = Field(description="Name of the InferencePool.")
    namespace: _Namespace = None


class KubernetesEndpoints(Section):
    """Pods that a Kubernetes API server knows, watched. One of service, selector and inferencePool."""

    service: ServiceEndpoints | None = Field(default=None, description="The pods behind a Service.")
    selector: SelectorEndpoints | None = Field(default=None, description="The pods that have labels.")
    inference_pool: InferencePoolEndpoints | None = Field(default=None, description="The pods of an InferencePool.")
    kubeconfig: fields.FilePath | None = Field(
        default=None, description="Kubeconfig file. Left out: the service account of the gateway's own pod."
    )
    context: Text | None = Field(default=None, description="Context of the kubeconfig. Left out: its current one.")
