"""The sources of pods that a configuration names."""

import logging
import os
import random
from collections.abc import Mapping
from pathlib import Path

from extproc.config import EndpointsConfig
from extproc.config.sections.discovery import KubernetesEndpoints
from extproc.discovery.base import Discovery
from extproc.discovery.dns.answer import Target
from extproc.discovery.dns.discovery import DnsDiscovery
from extproc.discovery.file import FileDiscovery
from extproc.discovery.kubernetes.credentials import (
    SERVICE_ACCOUNT,
    Cluster,
    Credentials,
    CredentialsError,
    in_cluster,
)
from extproc.discovery.kubernetes.discovery import KubernetesDiscovery, LabelledPods, PoolPods, ServicePods
from extproc.discovery.kubernetes.kubeconfig import read_kubeconfig
from extproc.discovery.kubernetes.objectives import ObjectiveWatch
from extproc.discovery.static import StaticDiscovery
from extproc.discovery.union import UnionDiscovery
from extproc.errors import GatewayError
from extproc.process.background import Background
from scheduler.types import Pod

log = logging.getLogger(__name__)


class DiscoveryError(GatewayError):
    """A source of pods cannot work where this process runs. `str()` gives the reason."""


def build(
    endpoints: EndpointsConfig,
    environ: Mapping[str, str] = os.environ,
    service_account: Path = SERVICE_ACCOUNT,
    *,
    section: str = "endpoints",
    background: Background | None = None,
) -> Discovery:
    """All sources as one. Nothing is asked for yet.

    Args:
        endpoints: the configuration.
        environ: where a pod finds its API server.
        service_account: the folder of the pod's own credentials.
        section: what `endpoints` is called in errors.
        background: starts sources again that died.

    Raises:
        DiscoveryError: there is no way to the API server; trying again would not help.
    """
    local = endpoints.local_addresses == "allow"
    sources: list[Discovery] = [StaticDiscovery([Pod(one.address, one.name, one.labels) for one in endpoints.static])]
    sources += [DnsDiscovery(Target(one.name, one.port), one.interval, local=local) for one in endpoints.dns]
    if endpoints.file is not None:
        sources.append(FileDiscovery(Path(endpoints.file.path), endpoints.file.interval, local=local))
    if endpoints.kubernetes is not None:
        try:
            sources.append(_kubernetes(endpoints.kubernetes, environ, service_account))
        except CredentialsError as error:
            raise DiscoveryError(f"{section}.kubernetes: {error}") from error
    return UnionDiscovery(sources, background=background)


def objectives(
    endpoints: EndpointsConfig, environ: Mapping[str, str] = os.environ, service_account: Path = SERVICE_ACCOUNT
) -> ObjectiveWatch:
    """What watches the InferenceObjectives of the pool of `endpoints`.

    Raises:
        DiscoveryError: there is no way to the API server.
    """
    config = endpoints.kubernetes
    if config is None:
        raise DiscoveryError("objectives.watch: endpoints.kubernetes says at which API server, and is left out")
    pool = config.inference_pool
    try:
        credentials = _credentials(config, environ, service_account)
    except CredentialsError as error:
        raise DiscoveryError(f"endpoints.kubernetes: {error}") from error
    namespace = "" if pool is None or pool.namespace is None else pool.namespace
    name = "" if pool is None else pool.name
    return ObjectiveWatch(credentials, namespace, name, rng=random.Random())  # noqa: S311 - spreads load


def _kubernetes(config: KubernetesEndpoints, environ: Mapping[str, str], service_account: Path) -> KubernetesDiscovery:
    credentials = _credentials(config, environ, service_account)
    _log(credentials.cluster)
    return KubernetesDiscovery(_wanted(config), credentials, rng=random.Random())  # noqa: S311 - spreads load


def _credentials(config: KubernetesEndpoints, environ: Mapping[str, str], service_account: Path) -> Credentials:
    cluster = (
        in_cluster(environ, service_account)
        if config.kubeconfig is None
        else read_kubeconfig(Path(config.kubeconfig), config.context or "")
    )
    credentials = Credentials(cluster)
    # Read once now: a mistake in them should end the start, not be tried again for ever.
    credentials.access()
    return credentials


def _wanted(config: KubernetesEndpoints) -> ServicePods | LabelledPods | PoolPods:
    if config.service is not None:
        return ServicePods(config.service.name, config.service.port, config.service.namespace or "")
    if config.selector is not None:
        selector = config.selector
        return LabelledPods(selector.match_labels, selector.ports, selector.namespace or "")
    if config.inference_pool is not None:
        return PoolPods(config.inference_pool.name, config.inference_pool.namespace or "")
    # The configuration's own checks let no such thing through.
    raise DiscoveryError("endpoints.kubernetes: names no pods")


def _log(cluster: Cluster) -> None:
    log.info("kubernetes", extra={"server": cluster.server, "namespace": cluster.namespace})
    if not cluster.verify:
        log.warning("kubernetes: insecure-skip-tls-verify: whoever is on the way can say which pods there are")
