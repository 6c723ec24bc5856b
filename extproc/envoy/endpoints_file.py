"""The EDS file through which Envoy learns of the pods."""

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from extproc.envoy.files import beside, replace
from extproc.protocol.headers import DESTINATION_NAMESPACE, POOL
from scheduler.types import Pod

log = logging.getLogger(__name__)

CLUSTER = "models"

#: By address of a pod, the names of its pools.
PoolNames = Mapping[str, Sequence[str]]


def render(pods: Sequence[Pod], pools: PoolNames | None = None) -> str:
    """An EDS discovery response (JSON is YAML). Sorted, so that the same pods give the same bytes.

    Args:
        pods: no two of one address.
        pools: address -> its pools, written for Envoy. Left out: none is written, since there is only one.
    """
    endpoints = [_endpoint(pod.address, (pools or {}).get(pod.address, ())) for pod in pods]
    assignment = {
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": CLUSTER,
        "endpoints": [{"lb_endpoints": sorted(endpoints, key=str)}],
    }
    return json.dumps({"resources": [assignment]}, indent=1) + "\n"


def _endpoint(address: str, pools: Sequence[str]) -> dict[str, object]:
    entry: dict[str, object] = {"endpoint": {"address": {"socket_address": _socket(address)}}}
    if pools:
        entry["metadata"] = {"filter_metadata": {DESTINATION_NAMESPACE: {POOL: sorted(pools)}}}
    return entry


def _socket(address: str) -> dict[str, object]:
    host, _, port = address.rpartition(":")
    return {"address": host.strip("[]"), "port_value": int(port)}


class EndpointsFile:
    """Keeps the file at `path` equal to the current pods. The file outlives the process on purpose."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: str | None = None

    def write(self, pods: Sequence[Pod], pools: PoolNames | None = None) -> None:
        """Makes the file that of `render`. Raises OSError where it cannot be written."""
        text = render(pods, pools)
        if text == self._written:
            return
        replace(self._path, text)
        self._written = text
        log.info("endpoints written", extra={"path": str(self._path), "pods": len(pods)})

    def keep_or_create(self) -> None:
        """Makes an empty file where there is none: Envoy waits for it. One from before the start is kept until then.

        Another process may write its pods there at any moment, and that must not be replaced.
        """
        if self._path.exists():
            return
        temporary = beside(self._path, render(()))
        try:
            # Unlike a rename, a link replaces nothing.
            with suppress(FileExistsError):
                self._path.hardlink_to(temporary)
        finally:
            temporary.unlink()
