"""The files through which Envoy learns of the listener's certificates: only what is named there is read again.

They hold paths, no keys. Envoy wants one file for each secret.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from extproc.config.sections.listener import ListenerTlsConfig

CERTIFICATE, AUTHORITIES = "listener-certificate", "listener-client-authorities"

_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
_RAW = "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"


def render(tls: ListenerTlsConfig, endpoints_file: str) -> Mapping[Path, str]:
    """The files, each an SDS discovery response, by their paths: beside that of the pods, which Envoy reads as well."""
    own = {
        "certificate_chain": {"filename": tls.cert_file},
        "private_key": {"filename": tls.key_file},
        "watched_directory": {"path": str(Path(tls.cert_file).parent)},
    }
    secrets: dict[str, dict[str, Any]] = {CERTIFICATE: {"tls_certificate": own}}
    if tls.client_ca_file is not None:
        authorities = {
            "trusted_ca": {"filename": tls.client_ca_file},
            "watched_directory": {"path": str(Path(tls.client_ca_file).parent)},
        }
        secrets[AUTHORITIES] = {"validation_context": authorities}
    return {
        _path(endpoints_file, name): json.dumps({"resources": [{"@type": f"{_TLS}.Secret", "name": name, **secret}]})
        for name, secret in secrets.items()
    }


def transport_socket(tls: ListenerTlsConfig | None, endpoints_file: str) -> dict[str, Any]:
    """Envoy's transport socket for the listener."""
    if tls is None:
        return {"name": "envoy.transport_sockets.raw_buffer", "typed_config": {"@type": _RAW}}
    common: dict[str, Any] = {
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_certificate_sds_secret_configs": [_source(endpoints_file, CERTIFICATE)],
    }
    if tls.client_ca_file is not None:
        common["validation_context_sds_secret_config"] = _source(endpoints_file, AUTHORITIES)
    context = {
        "@type": f"{_TLS}.DownstreamTlsContext",
        "common_tls_context": common,
        "require_client_certificate": tls.client_ca_file is not None,
    }
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _source(endpoints_file: str, name: str) -> dict[str, Any]:
    path = str(_path(endpoints_file, name))
    return {"name": name, "sds_config": {"resource_api_version": "V3", "path_config_source": {"path": path}}}


def _path(endpoints_file: str, name: str) -> Path:
    return Path(endpoints_file).with_name(f"{name}.json")
