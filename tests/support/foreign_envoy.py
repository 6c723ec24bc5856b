"""Our bootstrap made into that of somebody else's gateway: it has no filters of ours, and shows what those show."""

import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import aiohttp
import yaml
from support.echo import EchoPod, echo_pod
from support.eventually import PATIENCE

from extproc.config import GatewayConfig
from extproc.demo.stack import Stack

#: Processing modes of such a gateway, by the name of the body mode.
MODES = {
    "BUFFERED": {
        "request_header_mode": "SEND",
        "request_body_mode": "BUFFERED",
        "request_trailer_mode": "SKIP",
        "response_header_mode": "SEND",
        "response_body_mode": "STREAMED",
        "response_trailer_mode": "SKIP",
    },
    "FULL_DUPLEX_STREAMED": {
        "request_header_mode": "SEND",
        "request_body_mode": "FULL_DUPLEX_STREAMED",
        "request_trailer_mode": "SEND",
        "response_header_mode": "SEND",
        "response_body_mode": "FULL_DUPLEX_STREAMED",
        "response_trailer_mode": "SEND",
    },
}
_TYPES = "type.googleapis.com/envoy.extensions"
_DESTINATION = "x-gateway-destination-endpoint"


def _override_host(document: Any, source: dict[str, object]) -> None:
    (models,) = [one for one in document["static_resources"]["clusters"] if one["name"] == "models"]
    (policy,) = models["load_balancing_policy"]["policies"]
    policy["typed_extension_config"]["typed_config"]["override_host_sources"] = [source]


def _original_dst(document: Any) -> None:
    clusters = document["static_resources"]["clusters"]
    (models,) = [one for one in clusters if one["name"] == "models"]
    clusters[clusters.index(models)] = {
        "name": "models",
        "type": "ORIGINAL_DST",
        "connect_timeout": "1s",
        "lb_policy": "CLUSTER_PROVIDED",
        "original_dst_lb_config": {"use_http_header": True, "http_header_name": _DESTINATION},
    }


#: How gateways take the pick: what makes our bootstrap do as they do.
CLUSTERS: dict[str, Callable[[Any], None]] = {
    "override_host by metadata": lambda _: None,
    "override_host by header": partial(_override_host, source={"header": _DESTINATION}),
    "ORIGINAL_DST by header": _original_dst,
}


def foreign(
    bootstrap: str,
    mode: str,
    *,
    filters: list[Any] | None = None,
    strip: bool = False,
    guard: bool = True,
    cluster: str = "override_host by metadata",
    tls: bool = False,
) -> str:
    """The bootstrap of a gateway whose ext_proc has that body mode.

    Args:
        bootstrap: ours, rendered.
        mode: a key of `MODES`.
        filters: HTTP filters that come before ext_proc.
        guard: whether our filter stays that lets nothing pass undecided.
        strip: whether headers that clients may not send are taken out, as only our own bootstrap does it.
        cluster: a key of `CLUSTERS`.
        tls: whether the picker is called over TLS, without looking at what it proves.
    """
    document = yaml.safe_load(bootstrap)
    manager = document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    ours = ("cors", "rbac.paths", "header_mutation.underscores", "header_mutation.explanation", "ai_protocol_manager")
    manager["http_filters"] = [one for one in manager["http_filters"] if not one["name"].endswith(ours)]
    if not guard:
        manager["http_filters"] = [one for one in manager["http_filters"] if not one["name"].endswith("rbac")]
    del manager["access_log"], manager["local_reply_config"]
    if not strip:
        del manager["early_header_mutation_extensions"]
    processor = manager["http_filters"][0]["typed_config"]
    # Envoy: failure_mode_allow cannot be had with bodies that it does not keep.
    processor["failure_mode_allow"] = False
    processor["processing_mode"] = MODES[mode]
    # Theirs: everything but what routes a request may be changed.
    del processor["mutation_rules"]
    manager["http_filters"][:0] = filters or []
    CLUSTERS[cluster](document)
    if tls:
        (picker,) = [one for one in document["static_resources"]["clusters"] if one["name"] == "sidecar"]
        picker["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"{_TYPES}.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": {"alpn_protocols": ["h2"]},
            },
        }
    return yaml.safe_dump(document)


def full_duplex(bootstrap: str) -> str:
    """A gateway that shows everything and keeps nothing, as conformant ones do."""
    return foreign(bootstrap, "FULL_DUPLEX_STREAMED")


@contextlib.asynccontextmanager
async def echoes(
    config: GatewayConfig, count: int, transform: Callable[[list[EchoPod], str], str]
) -> AsyncIterator[tuple[list[EchoPod], Stack, aiohttp.ClientSession]]:
    """A foreign gateway in front of pods that remember what reached them."""
    async with contextlib.AsyncExitStack() as opened:
        pods = [await opened.enter_async_context(echo_pod()) for _ in range(count)]
        made = Stack(config, [pod.address for pod in pods], envoy_transform=partial(transform, pods))
        stack = await opened.enter_async_context(made)
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        client = aiohttp.ClientSession(f"http://{stack.address}", timeout=timeout)
        yield pods, stack, await opened.enter_async_context(client)
