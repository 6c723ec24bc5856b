from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from extproc.auth.base import AuthPolicy, Issuer
from extproc.config import AuthConfig, EndpointsConfig, GatewayConfig
from extproc.config.decode import _model
from extproc.protocol.events import BodyMode, ProtocolConfig
from scheduler.config import LEAST_COST, PluginConfig, SchedulerConfig, ScorerRef

KEYS = "https://idp.example.com/jwks"


def config(**data: Any) -> GatewayConfig:
    return GatewayConfig.model_validate(data)


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        inner = _model(field.annotation)
        if inner is not None and inner is not model:
            yield from models(inner)


def test_every_key_is_documented_and_in_camel_case() -> None:
    seen = list(models(GatewayConfig))
    assert len({model.__name__ for model in seen}) > 30
    for model in seen:
        assert model.__doc__
        assert model.model_config["extra"] == "forbid"
        assert model.model_config["strict"] is True
        assert model.model_config["frozen"] is True
        for field in model.model_fields.values():
            assert field.description
            assert field.description.endswith(".")
            assert field.alias
            assert "_" not in field.alias


def test_defaults() -> None:
    default = GatewayConfig()
    assert default == config()
    assert default.auth is None
    assert (default.listener.host, default.listener.port, default.listener.max_body_bytes) == (
        "0.0.0.0",
        8080,
        16777216,
    )
    transport = default.transport
    assert transport.address == "unix:///var/run/infer-gateway/extproc.sock"
    assert (transport.mode, transport.drain_timeout, transport.max_concurrent_streams) == ("auto", 30.0, 100000)
    assert (default.admin.host, default.admin.port) == ("127.0.0.1", 9090)
    envoy = default.envoy
    assert envoy.admin_socket == "/var/run/infer-gateway/envoy-admin.sock"
    assert envoy.endpoints_file == "/var/run/infer-gateway/xds/endpoints.yaml"
    assert (envoy.request_timeout, envoy.stream_idle_timeout) == (900.0, 900.0)
    assert (envoy.connect_timeout, envoy.message_timeout, envoy.retries) == (1.0, 5.0, 2)
    assert (default.logging.level, default.logging.format) == ("info", "json")
    assert (default.debug.decisions, default.debug.response_header) == (256, False)
    endpoints = default.endpoints
    assert (endpoints.static, endpoints.dns, endpoints.engine, endpoints.engines) == ((), (), "vllm", {})
    assert (endpoints.file, endpoints.kubernetes) == (None, None)
    scrape = endpoints.scrape
    assert (scrape.interval, scrape.timeout, scrape.path, scrape.scheme) == (0.2, 1.0, "/metrics", "http")


def test_defaults_of_auth() -> None:
    auth = AuthConfig.model_validate({"jwksUri": KEYS})
    assert (auth.clock_skew, auth.jwks_max_stale, auth.forward_token) == (60.0, 86400.0, False)
    assert (auth.issuer, auth.audiences, auth.issuers, auth.algorithms, auth.models) == (None, (), None, None, None)
    assert (auth.required_claims, auth.identity_headers) == ({}, {})


def test_values_never_change() -> None:
    default = GatewayConfig()
    with pytest.raises(ValidationError, match="frozen"):
        default.listener.port = 1  # type: ignore[misc]  # that is the test


@pytest.mark.parametrize("key", [key for key, field in GatewayConfig.model_fields.items() if key != "auth"])
def test_an_empty_section_is_an_absent_one(key: str) -> None:
    assert config(**{key: None}) == config(**{key: {}}) == GatewayConfig()


def test_the_scheduler_section() -> None:
    assert config().scheduler.config() == config(scheduler={}).scheduler.config() == LEAST_COST
    assert config(scheduler={"plugins": {}}).scheduler.config() == SchedulerConfig()
    scheduler = {
        "pluginConfig": [{"name": "a", "args": {"x": [1, {"y": None}]}}, {"name": "b"}, {"name": "c", "args": None}],
        "plugins": {
            "Filter": {"enabled": ["f", "g"], "disabled": ["h"]},
            "Score": {"enabled": [{"name": "s"}, {"name": "t", "weight": 2}], "disabled": ["u"]},
        },
    }
    assert config(scheduler=scheduler).scheduler.config() == SchedulerConfig(
        plugin_config=(PluginConfig("a", {"x": [1, {"y": None}]}), PluginConfig("b"), PluginConfig("c")),
        filters_enabled=("f", "g"),
        filters_disabled=("h",),
        scores_enabled=(ScorerRef("s", 1.0), ScorerRef("t", 2.0)),
        scores_disabled=("u",),
    )


def test_enabled_absent_is_not_enabled_empty() -> None:
    empty = config(scheduler={"plugins": {"Filter": {"enabled": []}, "Score": {"enabled": []}}}).scheduler.config()
    assert (empty.filters_enabled, empty.scores_enabled) == ((), ())
    for kind in ("Filter", "Score"):
        with pytest.raises(ValidationError, match="leave the key out for the defaults"):
            config(scheduler={"plugins": {kind: {"enabled": None}}})


def test_auth_is_off() -> None:
    for auth in (None, {}, {"issuer": "me"}):
        assert config(auth=auth).auth_policy() is None
        assert config(auth=auth).identity_headers() == {}
    assert config(auth={"identityHeaders": {"x-user": "sub"}}).identity_headers() == {}


def test_auth_as_on_the_page() -> None:
    auth = {"issuer": "testing@secure.istio.io", "audiences": ["matrixinfer.io"], "jwksUri": KEYS}
    assert config(auth=auth).auth_policy() == AuthPolicy(
        (Issuer("testing@secure.istio.io", ("matrixinfer.io",), KEYS),)
    )


def test_all_of_auth() -> None:
    auth = {
        "jwksUri": KEYS,
        "caFile": "/etc/ca.pem",
        "algorithms": ["RS256", "EdDSA"],
        "requiredClaims": {"tier": "gold", "level": 3, "ok": True},
        "models": "allowed_models",
        "clockSkew": "5s",
        "jwksMaxStale": "2h",
        "identityHeaders": {"X-User": "sub"},
    }
    assert config(auth=auth).auth_policy() == AuthPolicy(
        issuers=(Issuer("", (), KEYS, "/etc/ca.pem"),),
        algorithms=("RS256", "EdDSA"),
        required_claims={"tier": "gold", "level": 3, "ok": True},
        models_claim="allowed_models",
        clock_skew=5.0,
        jwks_max_stale=7200.0,
    )
    assert config(auth=auth).identity_headers() == {"x-user": "sub"}


def test_several_issuers() -> None:
    issuers = [
        {"issuer": "a", "audiences": ["x"], "jwksUri": KEYS},
        {"issuer": "b", "jwksUri": "file:///b", "caFile": "/b.pem"},
    ]
    policy = config(auth={"issuers": issuers, "caFile": "/all.pem"}).auth_policy()
    assert policy is not None
    assert policy.issuers == (Issuer("a", ("x",), KEYS, "/all.pem"), Issuer("b", (), "file:///b", "/b.pem"))


@pytest.mark.parametrize(
    ("endpoints", "seconds"),
    [({}, 2.0), ({"scrape": {"interval": "1s"}}, 5.0), ({"staleAfter": "700ms"}, 0.7), ({"staleAfter": 3}, 3.0)],
)
def test_when_metrics_are_stale(endpoints: dict[str, Any], seconds: float) -> None:
    assert EndpointsConfig.model_validate(endpoints).effective_stale_after() == pytest.approx(seconds)


def test_engines() -> None:
    assert EndpointsConfig().dialect().waiting == ("vllm:num_requests_waiting",)
    assert EndpointsConfig().dialect().path == "/metrics"
    own = {"engine": "mine", "engines": {"mine": {"kvUsage": ["a", 'b{c="d"}']}}, "scrape": {"path": "/m"}}
    dialect = EndpointsConfig.model_validate(own).dialect()
    assert (dialect.name, dialect.path, dialect.kv_usage, dialect.waiting) == ("mine", "/m", ("a", 'b{c="d"}'), ())


def test_an_engine_of_its_own_path() -> None:
    other = EndpointsConfig.model_validate({"engine": "trtllm"}).dialect()
    assert other.path == "/prometheus/metrics"
    chosen = EndpointsConfig.model_validate({"engine": "trtllm", "scrape": {"path": "/metrics"}}).dialect()
    assert chosen.path == "/metrics"
    assert chosen.waiting == other.waiting


def test_pods_as_text_and_in_full() -> None:
    pods = EndpointsConfig.model_validate(
        {"static": ["10.0.0.1:80", {"address": "[::1]:80", "name": "local", "labels": {"gpu": "h100"}}]}
    ).static
    assert [(pod.address, pod.name, pod.labels) for pod in pods] == [
        ("10.0.0.1:80", "", {}),
        ("[::1]:80", "local", {"gpu": "h100"}),
    ]


def test_other_pods_in_their_place() -> None:
    elsewhere = {"file": {"path": "/pods"}, "kubernetes": {"service": {"name": "s"}}}
    endpoints = EndpointsConfig.model_validate({"dns": [{"name": "a", "port": 1}], "engine": "sglang", **elsewhere})
    changed = endpoints.with_static(["10.0.0.1:80"])
    assert [pod.address for pod in changed.static] == ["10.0.0.1:80"]
    assert (changed.dns, changed.file, changed.kubernetes) == ((), None, None)
    assert changed.engine == "sglang"
    assert isinstance(changed, EndpointsConfig)
    with pytest.raises(ValidationError):
        endpoints.with_static(["vllm:80"])


@pytest.mark.parametrize(
    ("transport", "lean"),
    [
        ({}, True),
        ({"mode": "grpcio"}, False),
        ({"address": "127.0.0.1:9002"}, True),
        ({"mode": "sidecar", "address": "127.0.0.1:9002"}, True),
    ],
)
def test_the_own_server_is_for_everybody_unless_the_other_is_asked_for(transport: dict[str, str], lean: bool) -> None:
    assert config(transport=transport).transport.lean is lean


@pytest.mark.parametrize(
    ("transport", "own", "most"),
    [
        ({}, True, 3),
        ({"mode": "sidecar"}, True, 3),
        ({"mode": "grpcio"}, False, 1),
        ({"mode": "grpcio", "dataPlane": "own"}, True, 3),
        ({"dataPlane": "foreign"}, False, 1),
        ({"address": "127.0.0.1:9002"}, False, 1),
        ({"address": "127.0.0.1:9002", "maxEndpoints": 4}, False, 4),
        ({"address": "127.0.0.1:9002", "dataPlane": "own"}, True, 3),
        ({"maxEndpoints": 1}, True, 1),
    ],
)
def test_the_length_of_the_list_follows_from_who_asks(transport: dict[str, object], own: bool, most: int) -> None:
    made = config(transport=transport)
    assert (made.transport.own_envoy, made.most_pods()) == (own, most)
    assert config(transport={"maxEndpoints": None}, envoy={"retries": 0}).most_pods() == 1


def test_behind_a_foreign_data_plane_no_filter_is_on_that_is_not_named() -> None:
    foreign = {"dataPlane": "foreign"}
    written = {"plugins": {"Score": {"enabled": [{"name": "queue"}]}}}
    assert config(scheduler=written).scheduling().filters_enabled is None
    assert config(scheduler=written, transport=foreign).scheduling().filters_enabled == ()
    assert config(transport=foreign).scheduling().filters_enabled == ()
    named = {"plugins": {"Filter": {"enabled": ["least-request"]}}}
    assert config(transport=foreign, scheduler=named).scheduling().filters_enabled == ("least-request",)


def test_what_is_assumed_of_an_envoy_that_does_not_tell() -> None:
    assert config().transport.assumed == ProtocolConfig(BodyMode.BUFFERED)
    assert config(transport={"bodyMode": "STREAMED"}).transport.assumed == ProtocolConfig(BodyMode.STREAMED)
    duplex = BodyMode.FULL_DUPLEX_STREAMED
    assert config(transport={"bodyMode": duplex.name}).transport.assumed == ProtocolConfig(duplex, duplex)


def test_roles_of_pods() -> None:
    assert config().disaggregation.roles() is None
    assert config(disaggregation={"label": "x"}).disaggregation.roles() is None
    assert config(disaggregation={"thresholdTokens": 0}).disaggregation.roles() is not None
    assert config().disaggregation.label == "llm-d.ai/role"


def test_pools_have_the_names_of_their_inference_pools_in_reference_metrics() -> None:
    pools = {
        "big": {"kubernetes": {"inferencePool": {"name": "llama-pool"}}},
        "small": {"kubernetes": {"service": {"name": "vllm", "port": 8000}}},
        "still": {"static": ["127.0.0.1:1"]},
    }
    names = {"default": "default", "big": "llama-pool", "small": "small", "still": "still"}
    assert config(pools=pools).reference_names() == names
