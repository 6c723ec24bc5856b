"""What comes out is taken by this gateway's own check, whatever went in; and what is not the same is said."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from extproc.config import loads
from extproc.convert import endpoint_picker, kthena
from extproc.convert.result import CannotConvert
from extproc.convert.source import MAX_TEXT, convert
from scheduler.registry import in_tree_registry

REFERENCE = """
apiVersion: {version}
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- {{name: kv, type: kv-cache-utilization-scorer}}
- {{type: prefix-cache-scorer, parameters: {{hashBlockSize: 16, maxPrefixBlocksToMatch: 256}}}}
- {{type: max-score-picker, parameters: {{maxNumOfEndpoints: 3}}}}
- type: lora-affinity-scorer
- type: no-hit-lru-scorer
schedulingProfiles:
- name: default
  plugins:
  - {{pluginRef: queue-scorer, weight: 2}}
  - {{pluginRef: kv}}
  - {{pluginRef: prefix-cache-scorer, weight: 3}}
  - {{pluginRef: lora-affinity-scorer, weight: 1}}
  - {{pluginRef: no-hit-lru-scorer, weight: 1}}
"""
KTHENA = """
scheduler:
  pluginConfig:
  - {name: least-request, args: {maxWaitingRequests: 20}}
  - {name: prefix-cache, args: {blockSizeToHash: 64, topKMatches: 5}}
  - {name: kvcache-aware, args: {vllmTokenizerPort: 8000}}
  plugins:
    Filter: {enabled: [least-request], disabled: [lora-affinity]}
    Score:
      enabled:
      - {name: least-request, weight: 1}
      - {name: kvcache-aware, weight: 2}
      - {name: prefix-cache, weight: 1}
      - {name: gpu-usage}
sessionSticky: {enabled: true, header: x-user}
auth: {issuer: i, audiences: [a], jwksUri: "https://i/jwks"}
"""


def accepted(made: Any) -> Any:
    """The configuration, after a look at that this gateway takes it."""
    text = made.text("a test")
    return loads(text, "converted").config


@pytest.mark.parametrize("version", ["llm-d.ai/v1alpha1", "inference.networking.x-k8s.io/v1alpha1"])
def test_the_reference_picker(version: str) -> None:
    made = convert(REFERENCE.format(version=version))
    config = accepted(made)
    wanted = config.scheduling()
    assert [(one.name, one.weight) for one in wanted.scores_enabled] == [
        ("queue", 2), ("kv-cache", 1), ("prefix-cache", 3),
    ]  # fmt: skip
    assert wanted.filters_enabled == ("lora-affinity",)
    (prefix,) = wanted.plugin_config
    assert (prefix.name, prefix.args) == ("prefix-cache", {"blockSizeToHash": 64, "maxBlocksToMatch": 256})
    assert config.transport.max_endpoints == 3
    assert [note for note in made.notes if "no-hit-lru-scorer" in note]
    assert [note for note in made.notes if "lora-affinity" in note]


def test_without_profiles_its_own_defaults_hold() -> None:
    made = convert("{apiVersion: llm-d.ai/v1alpha1, kind: EndpointPickerConfig, plugins: [{type: queue-scorer}]}")
    scores = accepted(made).scheduling().scores_enabled
    assert {one.name: one.weight for one in scores} == endpoint_picker.DEFAULT_SCORERS


def test_prefill_and_decode() -> None:
    document = {
        "kind": "EndpointPickerConfig",
        "plugins": [
            {"type": "prefill-filter"},
            {"type": "decode-filter"},
            {"type": "queue-scorer"},
            {"type": "disagg-profile-handler"},
            {"type": "prefix-based-pd-decider", "parameters": {"nonCachedTokens": 512}},
        ],
        "schedulingProfiles": [
            {"name": "prefill", "plugins": [{"pluginRef": "prefill-filter"}]},
            {"name": "decode", "plugins": [{"pluginRef": "decode-filter"}, {"pluginRef": "queue-scorer"}]},
        ],
    }
    assert accepted(convert(yaml.safe_dump(document))).disaggregation.threshold_tokens == 512


def test_sticky_until_saturated_and_bounds() -> None:
    document = {
        "kind": "EndpointPickerConfig",
        "plugins": [
            {
                "type": "prefix-cache-affinity-filter",
                "parameters": {"affinityThreshold": 0.7, "maxTTFTPenaltyMs": 9000, "explorationProbability": 0.1},
            },
            {"type": "token-load-scorer"},
            {"name": "d", "type": "utilization-detector", "parameters": {"queueDepthThreshold": 9}},
        ],
        "schedulingProfiles": [
            {"plugins": [{"pluginRef": "prefix-cache-affinity-filter"}, {"pluginRef": "token-load-scorer"}]}
        ],
        "flowControl": {"saturationDetector": {"pluginRef": "d"}},
    }
    made = convert(yaml.safe_dump(document))
    config = accepted(made)
    assert config.scheduling().filters_enabled == ("prefix-affinity",)
    assert config.scheduling().plugin_config[0].args == {"affinityThreshold": 0.7, "maxPenaltySeconds": 9.0}
    assert config.objectives.max_waiting == 9
    assert [note for note in made.notes if "explorationProbability" in note]


@pytest.mark.parametrize("wrapped", [False, True])
def test_kthenas_router(wrapped: bool) -> None:
    text = KTHENA
    if wrapped:
        text = yaml.safe_dump({"kind": "ConfigMap", "data": {"routerConfiguration": KTHENA, "other": "not: [yaml"}})
    made = convert(text)
    config = accepted(made)
    wanted = config.scheduling()
    assert {one.name: one.weight for one in wanted.scores_enabled} == {
        "least-request": 1, "prefix-cache": 3, "session-affinity": 1,
    }  # fmt: skip
    assert wanted.filters_enabled == ("least-request",)
    arguments = {one.name: one.args for one in wanted.plugin_config}
    assert arguments == {
        "least-request": {"maxWaitingRequests": 20},
        "prefix-cache": {"blockSizeToHash": 64},
        "session-affinity": {"header": "x-user"},
    }
    assert config.auth.jwks_uri == "https://i/jwks"
    for what in ("topKMatches", "kvcache-aware", "disabled", "session-affinity", "vllmTokenizerPort", "no weight"):
        assert [note for note in made.notes if what in note], what


@pytest.mark.parametrize("table", [endpoint_picker.SCORERS, endpoint_picker.FILTERS, kthena.RENAMED])
def test_counterparts_exist(table: dict[str, tuple[str, str]]) -> None:
    assert {ours for ours, _ in table.values()} <= set(in_tree_registry().names())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "neither"),
        ("just a text", "neither"),
        ("kind: Deployment", "neither"),
        ("a: [", "no YAML"),
        ("{scheduler: {}}\n---\n{auth: {}}\n", "2 configurations"),
        ("#" * (MAX_TEXT + 1), "more than"),
    ],
)
def test_what_is_none(text: str, reason: str) -> None:
    with pytest.raises(CannotConvert, match=reason):
        convert(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "a", "queue-scorer", "default"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "type", "pluginRef", "weight", "plugins", "parameters", "args", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
KEYS = ["plugins", "schedulingProfiles", "saturationDetector", "flowControl", "featureGates", "dataLayer"]


@given(st.dictionaries(st.sampled_from(KEYS), JSON))
def test_any_shape_of_the_reference_is_converted(document: dict[str, Any]) -> None:
    accepted(endpoint_picker.convert({"kind": "EndpointPickerConfig", **document}))


@given(st.dictionaries(st.sampled_from(["plugins", "pluginConfig", "sessionSticky"]), JSON), JSON)
def test_any_shape_of_kthena_is_converted(scheduler: dict[str, Any], sticky: object) -> None:
    accepted(kthena.convert({"scheduler": scheduler, "sessionSticky": sticky}))


NUMBERS = st.sampled_from([0, -1, 0.5, 1e300, float("nan"), float("inf"), True, None, "7", 10**30])


@given(st.sampled_from([*endpoint_picker.SCORERS, *endpoint_picker.FILTERS]), NUMBERS, NUMBERS)
def test_any_number_is_converted(kind: str, weight: object, value: object) -> None:
    names = [
        "blockSizeTokens", "maxPrefixTokensToMatch", "lruCapacityPerServer", "affinityThreshold", "maxTTFTPenaltyMs",
        "peakPrefillThroughput", "queueThresholdTokens", "queueDepthThreshold", "kvCacheUtilThreshold",
    ]  # fmt: skip
    parameters = dict.fromkeys(names, value)
    document = {
        "plugins": [{"type": kind, "parameters": parameters}],
        "schedulingProfiles": [{"plugins": [{"pluginRef": kind, "weight": weight}]}],
        "saturationDetector": parameters,
    }
    accepted(endpoint_picker.convert(document))


def test_where_pods_are(tmp_path: Any) -> None:
    made = convert(REFERENCE.format(version="llm-d.ai/v1alpha1"))
    made.serve("vllm")
    config = accepted(made)
    assert config.endpoints.kubernetes is not None
    assert config.endpoints.kubernetes.inference_pool is not None
    assert config.transport.address == "0.0.0.0:9002"
    assert config.transport.max_endpoints == 3
    assert config.objectives.watch
