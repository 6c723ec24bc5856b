import json

from extproc.config.sections.listener import ListenerTlsConfig
from extproc.envoy.secrets_file import render, transport_socket

BOTH = ListenerTlsConfig(certFile="/tls/tls.crt", keyFile="/tls/tls.key", clientCaFile="/ca/ca.crt")


def test_each_file_has_one_secret_that_the_listener_asks_for() -> None:
    """Envoy takes no file with two."""
    context = transport_socket(BOTH, "/run/xds/endpoints.yaml")["typed_config"]
    common = context["common_tls_context"]
    (own,) = common["tls_certificate_sds_secret_configs"]
    asked = {one["name"]: one["sds_config"]["path_config_source"]["path"]
             for one in (own, common["validation_context_sds_secret_config"])}  # fmt: skip
    files = {str(path): json.loads(text)["resources"] for path, text in render(BOTH, "/run/xds/endpoints.yaml").items()}
    assert {secrets[0]["name"]: path for path, secrets in files.items()} == asked
    assert all(len(secrets) == 1 for secrets in files.values())
    assert context["require_client_certificate"] is True


def test_without_authorities_no_client_needs_a_certificate() -> None:
    one = BOTH.model_copy(update={"client_ca_file": None})
    assert len(render(one, "/run/x")) == 1
    assert transport_socket(one, "/run/x")["typed_config"]["require_client_certificate"] is False
    assert transport_socket(None, "/run/x")["name"] == "envoy.transport_sockets.raw_buffer"
