"""The rendered bootstrap: what follows from the configuration. That Envoy takes it is for the integration tests."""

import itertools
import re
from typing import Any

import pytest
import yaml

from extproc.config import loads
from extproc.envoy.bootstrap import render
from extproc.protocol.headers import CONTROL_NAMES

AUTH = """
auth:
  issuer: i
  jwksUri: https://issuer.example/keys
  identityHeaders: {X-User: sub}
"""


def rendered(document: str) -> Any:
    return yaml.safe_load(render(loads(document or "{}", "test").config))


def hcm(bootstrap: Any) -> Any:
    return bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def http_filter(bootstrap: Any, name: str) -> Any:
    return next(one for one in hcm(bootstrap)["http_filters"] if one["name"].endswith(name))


def stripped(bootstrap: Any, name: str) -> bool:
    """Whether a client's header of that name is removed before any filter sees the request."""
    (mutation,) = hcm(bootstrap)["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
    return re.fullmatch(mutation["remove_on_match"]["key_matcher"]["safe_regex"]["regex"], name) is not None


def test_the_guard_follows_auth() -> None:
    assert http_filter(rendered(""), "rbac")["disabled"] is True
    assert http_filter(rendered(AUTH), "rbac")["disabled"] is False
    for document in ("", AUTH):
        assert http_filter(rendered(document), "ext_proc")["typed_config"]["failure_mode_allow"] is True


@pytest.mark.parametrize("usage", ["ai-filter", "stable-filters"])
def test_one_source_of_usage(usage: str) -> None:
    bootstrap = rendered(f"envoy: {{usage: {usage}}}")
    assert http_filter(bootstrap, "ai_protocol_manager")["disabled"] is (usage != "ai-filter")
    for name in ("json_to_metadata", "sse_to_metadata"):
        assert http_filter(bootstrap, name)["disabled"] is (usage != "stable-filters")


@pytest.mark.parametrize(("engine", "expected"), [("vllm", 0), ("llamacpp", 1)])
def test_connections_to_engines_that_close_them(engine: str, expected: int) -> None:
    models = rendered(f"endpoints: {{engine: {engine}}}")["static_resources"]["clusters"][1]
    (options,) = models["typed_extension_protocol_options"].values()
    assert options["common_http_protocol_options"]["max_requests_per_connection"] == expected


def test_what_clients_may_not_say_is_stripped() -> None:
    for document in ("", AUTH):
        bootstrap = rendered(document)
        for name in ("", "-served", "-subset", "-scores"):
            assert stripped(bootstrap, f"x-gateway-destination-endpoint{name}")
        assert stripped(bootstrap, "x-envoy-upstream-rq-timeout-ms")
        assert not stripped(bootstrap, "authorization")
        for family in ("x-gateway-", "x-llm-d-"):
            for name in ("inference-objective", "inference-fairness-id", "model-name-rewrite"):
                assert stripped(bootstrap, family + name)
        for name in CONTROL_NAMES:
            assert stripped(bootstrap, name)
        # A client may ask why.
        assert not stripped(bootstrap, "x-gateway-debug")
        assert stripped(bootstrap, "x-user") is (document == AUTH)


@pytest.mark.parametrize("what", ["drop", "forward", "reject"])
def test_names_of_the_gateways_own_go_in_every_spelling(what: str) -> None:
    bootstrap = rendered(AUTH.replace("X-User", "x-user_id") + f"listener: {{headersWithUnderscores: {what}}}")
    for name in ("x-user-id", "x_gateway_destination_endpoint", "x_envoy-retry-on", *CONTROL_NAMES):
        for spelled in itertools.product(*["-_" if char in "-_" else char for char in name]):
            assert stripped(bootstrap, "".join(spelled))
    # With forward, what HTTP lives by; never under its own name.
    for name in ("content-length", "transfer-encoding", "x-forwarded-for", "x-request-id"):
        assert not stripped(bootstrap, name)
        assert stripped(bootstrap, name.replace("-", "_")) is (what == "forward")
    assert not stripped(bootstrap, "session_id")
    action = hcm(bootstrap)["common_http_protocol_options"]["headers_with_underscores_action"]
    assert action == ("REJECT_REQUEST" if what == "reject" else "ALLOW")


def test_only_ext_proc_may_write_what_the_guard_reads() -> None:
    """The guard is worth what its sources are: nothing else in the chain may set that metadata."""
    bootstrap = rendered(AUTH)
    names = [one["name"].removeprefix("envoy.filters.http.") for one in hcm(bootstrap)["http_filters"]]
    # What is in front answers or refuses by itself, and writes no metadata.
    assert names[:4] == ["cors", "rbac.paths", "ext_proc", "rbac"]
    policy = http_filter(bootstrap, "rbac")["typed_config"]["rules"]
    assert policy["action"] == "ALLOW"
    matchers = [one["sourced_metadata"]["metadata_matcher"] for one in policy["policies"]["picked"]["principals"]]
    assert [(matcher["filter"], matcher["path"]) for matcher in matchers] == [
        ("envoy.lb", [{"key": "x-gateway-destination-endpoint"}]),
        ("infer-gateway", [{"key": "admitted"}]),
    ]
    # Filters that read answers write elsewhere.
    assert set(re.findall(r"'metadata_namespace': '([^']*)'", str(bootstrap))) == {"infer-gateway.usage"}
    balancer = bootstrap["static_resources"]["clusters"][1]["load_balancing_policy"]["policies"][0]
    sources = balancer["typed_extension_config"]["typed_config"]["override_host_sources"]
    assert [list(source) for source in sources] == [["metadata"]]
    for route in hcm(bootstrap)["route_config"]["virtual_hosts"][0]["routes"]:
        assert "metadata" not in route
        overridden = route.get("typed_per_filter_config", {}).keys()
        assert not {name for name in overridden if name.endswith(("ext_proc", "rbac"))}


def test_nothing_is_let_in_by_another_way() -> None:
    manager = hcm(rendered(AUTH))
    # Upgrades, CONNECT and HTTP/1.0 are refused by Envoy as long as nobody turns them on.
    assert "upgrade_configs" not in manager
    assert "http_protocol_options" not in manager
    assert "allow_connect" not in manager["http2_protocol_options"]
    assert rendered(AUTH)["admin"]["address"]["pipe"]["mode"] == 0o600
    # To model servers Envoy speaks HTTP/1.1 without trailers, unless told otherwise: what a client says there ends here.
    (options,) = rendered(AUTH)["static_resources"]["clusters"][1]["typed_extension_protocol_options"].values()
    assert options["explicit_http_config"] == {"http_protocol_options": {}}


def test_limits_and_addresses() -> None:
    bootstrap = rendered(
        "listener: {host: 127.0.0.1, port: 1234, maxBodyBytes: 1Mi}\n"
        "transport: {address: '[::1]:9002'}\n"
        "envoy: {messageTimeout: 250ms, retries: 4}\n"
    )
    listener = bootstrap["static_resources"]["listeners"][0]
    assert listener["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 1234}
    assert http_filter(bootstrap, "ext_proc")["typed_config"]["message_timeout"] == "0.25s"
    route = hcm(bootstrap)["route_config"]["virtual_hosts"][0]["routes"][0]
    assert route["request_body_buffer_limit"] == 1 << 20
    assert route["route"]["retry_policy"]["num_retries"] == 4
    sidecar = bootstrap["static_resources"]["clusters"][0]
    endpoint = sidecar["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    assert endpoint["address"]["socket_address"] == {"address": "::1", "port_value": 9002}


LISTENER = """
listener:
  headersWithUnderscores: forward
  cors: {origins: ["https://a.test", "https://*.b.test", "*"], credentials: false}
  paths: ["/v1/*", "/health"]
"""


ROUTES = """
pools:
  a: {static: ["10.0.0.1:80"], engine: llamacpp}
routes:
- targets: [{pool: a}]
"""


def test_with_routes_nothing_goes_to_a_pool_by_chance() -> None:
    for document in ("", ROUTES):
        bootstrap = rendered(document)
        assert http_filter(bootstrap, "rbac")["disabled"] is not bool(document)
        mutable = http_filter(bootstrap, "ext_proc")["typed_config"]["mutation_rules"]["allow_expression"]["regex"]
        # Bodies may be decoded, and name another model.
        assert re.fullmatch(mutable, "content-length")
        assert re.fullmatch(mutable, "content-encoding")
        models = next(one for one in bootstrap["static_resources"]["clusters"] if one["name"] == "models")
        (policy,) = models["load_balancing_policy"]["policies"]
        (fallback,) = policy["typed_extension_config"]["typed_config"]["fallback_policy"]["policies"]
        name = fallback["typed_extension_config"]["name"]
        assert name == f"envoy.load_balancing_policies.{'subset' if document else 'least_request'}"


def test_connections_suit_the_engines_of_all_pools() -> None:
    assert "max_requests_per_connection: 1 #" in render(loads(ROUTES, "f").config)
