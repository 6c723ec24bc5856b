"""Kubernetes objects → pods that may be given requests. Pure."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from extproc.discovery.addresses import IPAddress, join, order, usable
from extproc.discovery.kubernetes.objects import Endpoint, EndpointPort, EndpointSlice, PodObject
from scheduler.types import Pod

#: A port by its number or its name.
PortRef = int | str

#: Well-known label names for a pod's fields in an EndpointSlice, which has no labels of the pod.
ZONE_LABEL = "topology.kubernetes.io/zone"
NODE_LABEL = "kubernetes.io/hostname"

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_LABEL_KEY = re.compile(rf"(?:(?=[^/]{{1,253}}/)[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?/)?{_NAME}")
_LABEL_VALUE = re.compile(rf"(?:{_NAME})?")

#: Pods by what they are sorted by.
_Found = dict[tuple[IPAddress, int], Pod]


def label_selector(labels: Mapping[str, str]) -> str:
    """The query parameter that selects objects with all of these labels.

    Raises:
        ValueError: there are none (which would select everything), or one cannot be a label.
    """
    if not labels:
        raise ValueError("must name a label: without one, every pod of the namespace would be taken")
    for key, value in labels.items():
        # What is not a label could end the selector early, and so select more.
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            raise ValueError(f"no pod can have the label {key[:80]!r} with the value {value[:80]!r}")
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def pods_of_slices(slices: Iterable[EndpointSlice], port: PortRef | None, complain: Callable[[str], None]) -> list[Pod]:
    """The pods behind a Service: ready and serving, not terminating. One address a pod, IPv4 where it has both.

    Args:
        slices: all EndpointSlices of the Service.
        port: of the pods, by number or by its name in the Service; None where there is one only.
        complain: called with slices that have no such port.
    """
    found: _Found = {}
    # A Service of two families has a slice for each: the same pods twice.
    taken: dict[tuple[str, str], IPAddress] = {}
    for one in sorted(slices, key=lambda one: (one.address_type, one.metadata.name)):
        ready = [endpoint for endpoint in one.endpoints or () if _serves(endpoint)]
        number = _slice_port(one.ports or (), port)
        if number is None:
            if ready:
                complain(f"EndpointSlice {one.metadata.name} has {_lacks(one.ports or (), port)}")
            continue
        for endpoint in ready:
            # All addresses of an endpoint are the same pod; kube-proxy takes the first, too.
            ip = usable((endpoint.addresses or [])[:1]) if one.address_type != "FQDN" else None
            if ip is None:
                continue
            target = endpoint.target_ref
            if target is not None and target.kind == "Pod":
                first = taken.setdefault((target.namespace, target.name), ip)
                if first.version != ip.version:
                    continue
            pod = Pod(join(ip, number), target.name if target is not None else "", _placed(endpoint))
            found.setdefault((ip, number), pod)
    return _in_order(found)


def pods_of(pods: Iterable[PodObject], ports: Sequence[PortRef]) -> list[Pod]:
    """Each port of each pod that is Ready and not on its way out. A pod without a port of that name has none there."""
    found: _Found = {}
    for one in sorted(pods, key=lambda one: (one.metadata.namespace, one.metadata.name)):
        if not is_ready(one):
            continue
        ip = usable([one.status.pod_ip, *(other.ip for other in one.status.pod_ips or ())])
        if ip is None:
            continue
        labels = one.metadata.labels or {}
        for ref in ports:
            number = ref if isinstance(ref, int) else _named_port(one, ref)
            if number is not None:
                name = one.metadata.name if len(ports) == 1 else f"{one.metadata.name}:{number}"
                found.setdefault((ip, number), Pod(join(ip, number), name, labels))
    return _in_order(found)


def is_ready(pod: PodObject) -> bool:
    """Whether the kubelet found the pod ready, and the pod is not being deleted."""
    return (
        pod.metadata.deletion_timestamp is None
        and pod.status.phase not in {"Succeeded", "Failed"}
        and any(one.type == "Ready" and one.status == "True" for one in pod.status.conditions or ())
    )


def _in_order(found: _Found) -> list[Pod]:
    return [found[key] for key in sorted(found, key=order)]


def _serves(endpoint: Endpoint) -> bool:
    # "ready" left out means yes; with publishNotReadyAddresses it is always yes, and "serving" is the truth.
    conditions = endpoint.conditions
    return conditions.ready is not False and conditions.serving is not False and not conditions.terminating


def _slice_port(ports: Sequence[EndpointPort], ref: PortRef | None) -> int | None:
    numbers = [
        one.port
        for one in ports
        if one.port is not None and (one.protocol or "TCP") == "TCP" and ref in (None, one.port, one.name)
    ]
    # Of several ports none is meant unless one is named.
    return numbers[0] if numbers and (ref is not None or len(numbers) == 1) else None


def _lacks(ports: Sequence[EndpointPort], ref: PortRef | None) -> str:
    names = ", ".join(f"{one.name or 'unnamed'} ({one.port})" for one in ports) or "none"
    return f"several ports or none, and no port is chosen: {names}" if ref is None else f"no port {ref}: {names}"


def _placed(endpoint: Endpoint) -> dict[str, str]:
    labels = {}
    if endpoint.zone:
        labels[ZONE_LABEL] = endpoint.zone
    if endpoint.node_name:
        labels[NODE_LABEL] = endpoint.node_name
    return labels


def _named_port(pod: PodObject, name: str) -> int | None:
    for container in [*(pod.spec.containers or []), *(pod.spec.init_containers or [])]:
        for port in container.ports or ():
            if port.name == name and port.protocol == "TCP":
                return port.container_port
    return None
