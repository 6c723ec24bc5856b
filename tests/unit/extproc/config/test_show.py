from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from extproc.config import GatewayConfig, dump, json_schema, loads, rule
from scheduler.builder import DEFAULT_FILTERS, DEFAULT_SCORERS

DATA = Path(__file__).parents[3] / "data" / "config"
KEYS = "https://idp.example.com/jwks"


def effective(text: str) -> dict[str, Any]:
    shown = yaml.safe_load(dump(loads(text, "f").config))
    assert isinstance(shown, dict)
    return shown


def test_defaults_are_filled_in() -> None:
    shown = yaml.safe_load(dump(GatewayConfig()))
    assert list(shown) == [
        "scheduler",
        "endpoints",
        "sharing",
        "listener",
        "transport",
        "admin",
        "envoy",
        "logging",
        "tracing",
        "debug",
        "engines",
    ]
    plugins = shown["scheduler"]["plugins"]
    assert plugins["Filter"] == {"enabled": [], "disabled": []}
    assert plugins["Score"]["enabled"] == [{"name": "least-cost", "weight": 1}]
    assert shown["endpoints"]["staleAfter"] == "2s"
    assert shown["endpoints"]["scrape"]["interval"] == "200ms"
    assert shown["listener"]["maxBodyBytes"] == "16Mi"


@pytest.mark.parametrize("text", ["scheduler: {plugins: {}}", "scheduler: {pluginConfig: []}", "plugins: {}"])
def test_as_soon_as_anything_is_written_the_rest_is_the_pages(text: str) -> None:
    shown = effective(text)
    plugins = shown["scheduler"]["plugins"]
    assert plugins["Filter"] == {"enabled": list(DEFAULT_FILTERS), "disabled": []}
    assert plugins["Score"]["enabled"] == [{"name": one.name, "weight": 1} for one in DEFAULT_SCORERS]
    assert {"name": "least-request", "args": {"maxWaitingRequests": 10}} in shown["scheduler"]["pluginConfig"]
    prefix = next(entry for entry in shown["scheduler"]["pluginConfig"] if entry["name"] == "prefix-cache")
    assert prefix["args"] == {"blockSizeToHash": 64, "maxBlocksToMatch": 128}


def test_the_pages_example_does_what_the_page_says() -> None:
    shown = effective((DATA / "page-scheduler.yaml").read_text(encoding="utf-8"))["scheduler"]
    assert shown["plugins"]["Filter"] == {"enabled": ["least-request"], "disabled": ["lora-affinity"]}
    names = ["least-request", "kv-cache", "least-latency", "prefix-cache"]
    assert shown["plugins"]["Score"]["enabled"] == [{"name": name, "weight": 1} for name in names]
    assert {entry["name"]: entry["args"] for entry in shown["pluginConfig"]} == {
        "least-request": {"maxWaitingRequests": 10},
        "least-latency": {"TTFTTPOTWeightFactor": 0.5},
        "prefix-cache": {"blockSizeToHash": 64, "maxBlocksToMatch": 128, "maxHashCacheSize": 50000},
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "1 × least-cost; filters: none (there is no scheduler section)"),
        ("scheduler: {}", "1 × least-cost; filters: none (there is no scheduler section)"),
        (
            "plugins: {Score: {enabled: [{name: queue, weight: 2}, {name: kv-cache}]}}",
            "2 × queue + 1 × kv-cache; filters: least-request (as written, and the page's defaults)",
        ),
        (
            "plugins: {Filter: {enabled: []}, Score: {enabled: []}}",
            "chance; filters: none (as written, and the page's defaults)",
        ),
    ],
)
def test_the_rule_in_words(text: str, words: str) -> None:
    assert rule(loads(text, "f").config) == words


def test_what_is_written_wins_over_defaults() -> None:
    shown = effective(
        """
        scheduler:
          pluginConfig: [{name: gpu-usage}, {name: least-request, args: {maxWaitingRequests: 3}}]
          plugins:
            Filter: {disabled: [least-request]}
            Score: {disabled: [gpu-usage, prefix-cache]}
        endpoints: {engine: trtllm, scrape: {interval: 2s}}
        """
    )
    plugins = shown["scheduler"]["plugins"]
    assert plugins["Filter"] == {"enabled": [], "disabled": ["least-request"]}
    assert [one["name"] for one in plugins["Score"]["enabled"]] == ["least-request", "least-latency"]
    assert plugins["Score"]["disabled"] == ["gpu-usage", "prefix-cache"]
    assert shown["scheduler"]["pluginConfig"][0]["args"]["maxWaitingRequests"] == 3
    assert shown["endpoints"]["staleAfter"] == "10s"
    assert shown["endpoints"]["scrape"]["path"] == "/prometheus/metrics"


def test_weights_are_written_as_people_write_them() -> None:
    enabled = "[{name: kv-cache, weight: 2.0}, {name: least-request, weight: 0.5}]"
    text = dump(loads(f"plugins: {{Score: {{enabled: {enabled}}}}}", "f").config)
    assert "weight: 2\n" in text
    assert "weight: 0.5\n" in text


FULL = f"""
scheduler:
  pluginConfig: [{{name: prefix-cache, args: {{blockSizeToHash: 16}}}}]
  plugins:
    Filter: {{enabled: [], disabled: [lora-affinity]}}
    Score: {{enabled: [{{name: gpu-usage, weight: 0.25}}, {{name: prefix-cache}}], disabled: [random]}}
auth:
  issuers: [{{issuer: a, audiences: ["on", "1e3", "0x1F", ".nan", "null", "{"é" * 3}"], jwksUri: {KEYS}}}]
  requiredClaims: {{tier: gold, level: 3, share: 0.5, big: 1e20, ok: true, text: "true", "yes": "no"}}
  identityHeaders: {{X-User: sub}}
  algorithms: [RS256]
endpoints:
  static: [10.0.0.1:80, {{address: "[::1]:80", name: "12:30:00", labels: {{version: "1", "": "a\\nb"}}}}]
  dns: [{{name: vllm, port: 8000, interval: 1m30s}}]
  engine: mine
  engines: {{mine: {{waiting: ['a{{b="c"}}']}}}}
listener: {{maxBodyBytes: 1000001}}
envoy: {{requestTimeout: 0, connectTimeout: 0.0015}}
"""


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        FULL,
        "endpoints: {engine: trtllm}",
        *[path.read_text() for path in sorted(DATA.glob("*.yaml")) if "template" not in path.name],
    ],
)
def test_what_is_shown_loads_as_the_same(text: str) -> None:
    config = loads(text, "f").config
    shown = dump(config)
    again = loads(shown, "f").config
    assert dump(again) == shown
    assert again.auth_policy() == config.auth_policy()
    assert again.identity_headers() == config.identity_headers()
    assert again.endpoints.dialect() == config.endpoints.dialect()
    assert again.endpoints.effective_stale_after() == pytest.approx(config.endpoints.effective_stale_after())
    for section in ("listener", "transport", "admin", "envoy", "logging", "debug"):
        assert getattr(again, section) == getattr(config, section)
    assert again.endpoints.static == config.endpoints.static
    assert again.endpoints.dns == config.endpoints.dns


def test_the_examples_of_the_page_are_shown_with_their_own_keys() -> None:
    shown = effective((DATA / "page-auth.yaml").read_text())
    assert shown["auth"]["issuer"] == "testing@secure.istio.io"
    assert shown["auth"]["audiences"] == ["matrixinfer.io"]
    assert shown["auth"]["jwksUri"].startswith("https://raw.githubusercontent.com/istio/")
    assert shown["scheduler"]["plugins"]["Filter"]["disabled"] == ["lora-affinity"]


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
def test_any_text_survives(text: str) -> None:
    config = GatewayConfig.model_validate({"auth": {"jwksUri": KEYS, "issuer": text}})
    again = loads(dump(config), "f").config
    assert again.auth is not None
    assert again.auth.issuer == text


def test_one_value_in_two_places_is_written_twice() -> None:
    claims = {"a": "b"}
    config = GatewayConfig.model_validate({"scheduler": {"pluginConfig": [{"name": "kv-cache"}]}})
    entries = config.scheduler.plugin_config
    shared = config.scheduler.model_copy(
        update={
            "plugin_config": tuple(entry.model_copy(update={"args": {"x": claims, "y": claims}}) for entry in entries)
        }
    )
    text = dump(config.model_copy(update={"scheduler": shared}))
    assert "&id" not in text
    assert "*id" not in text


def test_the_schema_knows_every_key() -> None:
    schema = json_schema()
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert set(schema["properties"]) == {str(field.alias) for field in GatewayConfig.model_fields.values()}
    assert schema["additionalProperties"] is False
    auth = schema["$defs"]["AuthConfig"]["properties"]
    assert {"issuer", "audiences", "jwksUri", "issuers", "identityHeaders"} <= set(auth)
    assert all("description" in key for key in auth.values())
    pod = schema["$defs"]["EndpointsConfig"]["properties"]["static"]["items"]
    named = schema["$defs"][pod["$ref"].rpartition("/")[2]] if "$ref" in pod else pod
    assert [option["type"] for option in named["anyOf"]] == ["string", "object"]


def test_arguments_without_a_plain_default_are_left_out() -> None:
    shown = effective("plugins: {Filter: {enabled: [lora-affinity]}, Score: {enabled: [{name: queue}]}}")
    assert shown["scheduler"]["pluginConfig"] == []


def test_pools_and_routes_are_shown_whole() -> None:
    pool = {"static": ["10.0.0.1:1"], "engine": "sglang", "scrape": {"interval": "1s"}}
    config = GatewayConfig.model_validate({"pools": {"p": pool}, "routes": [{"targets": [{"pool": "p"}]}]})
    shown = yaml.safe_load(dump(config))
    assert (shown["pools"]["p"]["staleAfter"], shown["pools"]["p"]["scrape"]["path"]) == ("5s", "/metrics")
    assert shown["routes"][0]["targets"] == [{"pool": "p", "weight": 100}]
    again = loads(dump(config), "f").config
    assert (again.routes, again.pools["p"].static) == (config.routes, config.pools["p"].static)


def test_roles_of_pods_are_shown_where_they_count() -> None:
    shown = yaml.safe_load(dump(GatewayConfig.model_validate({"disaggregation": {"thresholdTokens": 5}})))
    assert shown["disaggregation"] == {"thresholdTokens": 5, "label": "llm-d.ai/role"}
    assert "disaggregation" not in yaml.safe_load(dump(GatewayConfig()))


def test_objectives_are_shown_behind_a_foreign_data_plane_only() -> None:
    foreign = effective("transport: {dataPlane: foreign}")
    assert foreign["objectives"] == GatewayConfig().objectives.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert "objectives" not in effective("transport: {dataPlane: own}")


@pytest.mark.parametrize("text", [".nan", "-.inf", "1e999", "9" * 5000])
def test_text_that_looks_like_a_number_beyond_the_limits_stays_text(text: str) -> None:
    config = GatewayConfig.model_validate({"auth": {"jwksUri": KEYS, "audiences": [text]}})
    shown = dump(config)
    assert f"'{text}'" in shown
    again = loads(shown, "f").config
    assert again.auth is not None
    assert again.auth.audiences == (text,)
