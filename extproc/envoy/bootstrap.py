"""Fills in envoy/gateway.yaml: what of Envoy's set-up follows from the gateway's configuration."""

import json
import re
from importlib.resources import files
from pathlib import Path
from string import Template

from extproc.config import GatewayConfig, TransportConfig
from extproc.envoy import cors, paths, secrets_file, underscores
from extproc.process.unix_socket import UNIX
from extproc.protocol.headers import (
    AUTHORIZATION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    CONTROL_NAMES,
    CONTROL_PREFIXES,
    DESTINATION,
    POOL,
    PREFILLER,
    REQUEST_ID,
    TRACEPARENT,
)
from extproc.request.anthropic_errors import REQUEST_ID_HEADER
from extproc.workers.place import places

#: Prefix of the headers that the gateway and Envoy exchange. From a client they mean nothing.
OWN_PREFIXES = (DESTINATION, "x-envoy-", *CONTROL_PREFIXES)
#: Headers that the sidecar's answers carry.
_ANSWER_HEADERS = (CONTENT_TYPE, "retry-after", "www-authenticate", "accept-encoding", REQUEST_ID_HEADER)


#: Connections of clients at most: well under the file descriptors of a container …
MAX_CONNECTIONS = 50_000
#: … and so many bytes of Envoy's memory for each: one that sends large headers and nothing more costs 59 KB.
CONNECTION_BYTES = 64 << 10

#: A body with another name of the model, or without its encoding, has another length.
_OF_BODIES = (CONTENT_LENGTH, CONTENT_ENCODING)

#: Of the processes of a gateway, where there are several. A crash is seen by the next request, which is tried at
#: another process; this finds out which of them are starting, draining, or back.
SIDECAR_HEALTH_CHECK = {
    # A process that is frozen takes no calls: it is found out within a second. The loop of one that is well is never
    # held for a tenth of this.
    "timeout": "0.75s",
    "interval": "0.25s",
    "no_traffic_interval": "0.25s",
    "unhealthy_interval": "0.1s",  # while one is away, the death of another is not made up for
    "unhealthy_threshold": 1,
    "healthy_threshold": 1,
    "grpc_health_check": {"service_name": "readiness"},
    "always_log_health_check_failures": False,
}

#: And the calls that a frozen process has already: its connections are closed when a ping has no answer.
SIDECAR_KEEPALIVE = {"interval": "0.25s", "timeout": "0.75s"}

#: Envoy's name for the treatment of headers with underscores.
_UNDERSCORES = {"drop": "ALLOW", "forward": "ALLOW", "reject": "REJECT_REQUEST"}

_POLICIES = "envoy.load_balancing_policies"
_LEAST_REQUEST = {
    "name": f"{_POLICIES}.least_request",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest"
    },
}
#: A pod of the pool that the sidecar named in metadata, which is beside other keys there; else none.
_WITHIN_POOL = {
    "name": f"{_POLICIES}.subset",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.subset.v3.Subset",
        "fallback_policy": "NO_FALLBACK",
        "subset_selectors": [{"keys": [POOL]}],
        "list_as_any": True,
        "allow_redundant_keys": True,
        "subset_lb_policy": {"policies": [{"typed_extension_config": _LEAST_REQUEST}]},
    },
}


def template() -> str:
    """The bootstrap as it stands in the repository (or, installed, in the package)."""
    installed = files("extproc").joinpath("_data", "gateway.yaml")
    if installed.is_file():
        return installed.read_text(encoding="utf-8")
    return (Path(__file__).parents[2] / "envoy" / "gateway.yaml").read_text(encoding="utf-8")


def render(config: GatewayConfig) -> str:
    """Envoy's bootstrap for `config`, as YAML with its comments."""
    listener = config.listener
    identity = tuple(config.identity_headers())
    prefiller = (PREFILLER,) if config.disaggregation.roles() is not None else ()
    tracing = (TRACEPARENT,) if config.tracing.endpoint is not None else ()
    credentials = (AUTHORIZATION, *config.token_headers())
    ours = (DESTINATION, REQUEST_ID, *tracing, *credentials, *_ANSWER_HEADERS, *_OF_BODIES, *prefiller, *identity)
    mutable = [re.escape(name) for name in ours]
    dialects = [pool.dialect() for pool in config.all_pools().values()]
    values = {
        "admin_socket": config.envoy.admin_socket,
        "listener_host": listener.host,
        "listener_port": listener.port,
        "stream_idle_timeout": _seconds(config.envoy.stream_idle_timeout),
        "request_timeout": _seconds(config.envoy.request_timeout),
        "message_timeout": _seconds(config.envoy.message_timeout),
        "connect_timeout": _seconds(config.envoy.connect_timeout),
        "retries": config.envoy.retries,
        "max_body_bytes": listener.max_body_bytes,
        "max_unsized_body_bytes": listener.unsized_limit,
        "max_heap_bytes": config.envoy.heap,
        "max_connections": min(MAX_CONNECTIONS, config.envoy.heap // CONNECTION_BYTES),
        "transport_socket": json.dumps(secrets_file.transport_socket(listener.tls, config.envoy.endpoints_file)),
        "underscores_action": _UNDERSCORES[listener.headers_with_underscores],
        "stripped_headers": underscores.removals(
            (*identity, *CONTROL_NAMES), OWN_PREFIXES, forwarded=listener.headers_with_underscores == "forward"
        ),
        "underscores_drop_disabled": json.dumps(listener.headers_with_underscores != "drop"),
        "underscores_drop": underscores.drop(identity),
        "cors_disabled": json.dumps(listener.cors is None),
        "cors_policy": json.dumps(cors.policy(listener.cors)),
        "refused_paths": json.dumps(paths.refused(listener.paths)),
        "mutable_headers": "|".join(mutable),
        "guard_disabled": json.dumps(config.auth_policy() is None and not config.routes),
        "response_header_mode": "SEND" if config.rewrites_answers() else "SKIP",
        "allow_mode_override": json.dumps(config.rewrites_answers()),
        "explanation_disabled": json.dumps(not config.debug.response_header),
        "ai_filter_disabled": json.dumps(config.envoy.usage != "ai-filter"),
        "stable_filters_disabled": json.dumps(config.envoy.usage != "stable-filters"),
        "sidecar_endpoints": json.dumps(_processes(config.transport)),
        "sidecar_health_checks": json.dumps([] if config.transport.alone else [SIDECAR_HEALTH_CHECK]),
        "sidecar_keepalive": json.dumps(None if config.transport.alone else SIDECAR_KEEPALIVE),
        "health_path": dialects[0].health_path,
        "max_requests_per_connection": int(any(dialect.closes_connections for dialect in dialects)),
        "fallback": json.dumps(_WITHIN_POOL if config.routes else _LEAST_REQUEST),
        "endpoints_file": config.envoy.endpoints_file,
    }
    # Values go between YAML's double quotes or are JSON, which is YAML; a quote or backslash in one would end it early.
    return Template(template()).substitute({key: _escaped(value) for key, value in values.items()})


def _processes(transport: TransportConfig) -> list[object]:
    """Workers first; the one that stands by gets requests only while no worker does."""
    by_priority: dict[int, list[object]] = {}
    for place in places(transport):
        endpoint = {"endpoint": {"address": _address(place.address)}}
        by_priority.setdefault(int(place.stands_by), []).append(endpoint)
    return [{"priority": priority, "lb_endpoints": found} for priority, found in by_priority.items()]


def _escaped(value: object) -> object:
    if isinstance(value, str) and not value.startswith(("[", "{")):
        return json.dumps(value)[1:-1]
    return value


def _seconds(value: float) -> str:
    """A protobuf duration."""
    return f"{value:.9f}".rstrip("0").rstrip(".") + "s"


def _address(address: str) -> dict[str, object]:
    if address.startswith(UNIX):
        return {"pipe": {"path": address.removeprefix(UNIX)}}
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}
