"""Fills in envoy/gateway.yaml: what of Envoy's set-up follows from the gateway's configuration."""

import json
import re
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from string import Template

from extproc.config import GatewayConfig
from extproc.headers import AUTHORIZATION, CONTENT_TYPE, DESTINATION
from extproc.session import OWN_TRAILER_PREFIX

#: What headers begin with through which the gateway and Envoy speak. From a client they mean nothing.
OWN_PREFIXES = (DESTINATION, OWN_TRAILER_PREFIX, "x-envoy-")
#: Headers that the sidecar's answers carry.
_ANSWER_HEADERS = (CONTENT_TYPE, "retry-after", "www-authenticate")


def template() -> str:
    """The bootstrap as it stands in the repository (or, installed, in the package)."""
    installed = files("extproc").joinpath("_data", "gateway.yaml")
    if installed.is_file():
        return installed.read_text(encoding="utf-8")
    return (Path(__file__).parent.parent / "envoy" / "gateway.yaml").read_text(encoding="utf-8")


def render(config: GatewayConfig) -> str:
    """Envoy's bootstrap for `config`, as YAML with its comments."""
    identity = tuple(config.identity_headers())
    mutable = [re.escape(name) for name in (DESTINATION, AUTHORIZATION, *_ANSWER_HEADERS, *identity)]
    values = {
        "admin_socket": config.envoy.admin_socket,
        "listener_host": config.listener.host,
        "listener_port": config.listener.port,
        "stream_idle_timeout": _seconds(config.envoy.stream_idle_timeout),
        "request_timeout": _seconds(config.envoy.request_timeout),
        "message_timeout": _seconds(config.envoy.message_timeout),
        "connect_timeout": _seconds(config.envoy.connect_timeout),
        "retries": config.envoy.retries,
        "max_body_bytes": config.listener.max_body_bytes,
        "stripped_headers": _removals(identity, OWN_PREFIXES),
        "mutable_headers": "|".join([*mutable, re.escape(OWN_TRAILER_PREFIX) + ".*"]),
        "guard_disabled": json.dumps(config.auth_policy() is None),
        "explanation_disabled": json.dumps(not config.debug.response_header),
        "outcome_trailers_disabled": json.dumps(config.envoy.outcomes != "trailers"),
        "outcome_log_disabled": json.dumps(config.envoy.outcomes != "access-log"),
        "sidecar_address": json.dumps(_address(config.transport.address)),
        "health_path": config.endpoints.dialect().health_path,
        "max_requests_per_connection": int(config.endpoints.dialect().closes_connections),
        "endpoints_file": config.envoy.endpoints_file,
    }
    # Values go between YAML's double quotes or are JSON, which is YAML; a quote or backslash in one would end it early.
    return Template(template()).substitute({key: _escaped(value) for key, value in values.items()})


def _escaped(value: object) -> object:
    if isinstance(value, str) and not value.startswith(("[", "{")):
        return json.dumps(value)[1:-1]
    return value


def _removals(names: Iterable[str], prefixes: Iterable[str]) -> str:
    families = [{"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in prefixes]
    return json.dumps([*families, *({"remove": name} for name in names)])


def _seconds(value: float) -> str:
    """A protobuf duration."""
    return f"{value:.9f}".rstrip("0").rstrip(".") + "s"


def _address(address: str) -> dict[str, object]:
    if address.startswith("unix://"):
        return {"pipe": {"path": address.removeprefix("unix://")}}
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}
