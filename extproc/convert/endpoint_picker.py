"""`EndpointPickerConfig`, of the reference picker of llm-d and of the Gateway API Inference Extension."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from extproc.convert.result import Converted, listed, mapping, number, positive

KIND: Final = "EndpointPickerConfig"
#: Bytes of text that it takes for a token.
BYTES_PER_TOKEN: Final = 4
#: Its own, where a document names no profile.
DEFAULT_SCORERS: Final = {"queue": 2.0, "kv-cache": 2.0, "prefix-cache": 3.0}

#: Scorer of theirs → ours, and what is different.
SCORERS: Final[Mapping[str, tuple[str, str]]] = {
    "queue-scorer": ("queue", ""),
    "kv-cache-utilization-scorer": ("kv-cache", ""),
    "running-requests-size-scorer": ("running-requests", ""),
    "prefix-cache-scorer": ("prefix-cache", ""),
    "precise-prefix-cache-scorer": (
        "prefix-cache",
        "prefixes are learnt from picks: events of engines are not read",
    ),
    "load-aware-scorer": ("queue", "scores are relative to the other pods, without a threshold"),
    "active-request-scorer": ("least-request", "counts what an engine queues as well"),
    "token-load-scorer": ("token-load", "half of the score is lost at halfScoreTokens, without an upper end"),
    "latency-scorer": ("least-latency", "by measured latencies; there are no predictions and no goals of requests"),
    "session-affinity-scorer": ("session-affinity", ""),
}
QUEUE_ALONE: Final = "it looks at the length of a pod's queue alone, and refuses with 429 where no pod is left"
#: Filters of theirs → ours.
FILTERS: Final[Mapping[str, tuple[str, str]]] = {
    "lora-affinity-scorer": ("lora-affinity", "a filter, so that its weight has no meaning"),
    "prefix-cache-affinity-filter": ("prefix-affinity", ""),
    "session-affinity-filter": ("session-affinity", "a scorer: a pod that may not serve is not waited for"),
    "utilization-filter": (
        "least-request",
        QUEUE_ALONE,
    ),
    "utilization-detector": (
        "least-request",
        QUEUE_ALONE,
    ),
}
#: What is there by itself.
IMPLIED: Final = frozenset(
    {
        "single-profile-handler", "max-score-picker", "approx-prefix-cache-producer", "inflight-load-producer",
        "metrics-data-source", "core-metrics-extractor", "openai-parser", "anthropic-parser", "vllmhttp-parser",
        "passthrough-parser",
    }
)  # fmt: skip
#: What is done by `disaggregation`.
ROLES: Final = frozenset(
    {
        "prefill-filter", "decode-filter", "disagg-profile-handler", "pd-profile-handler", "always-disagg-pd-decider",
        "prefix-based-pd-decider", "disagg-headers-handler", "prefill-header-handler",
    }
)  # fmt: skip


def convert(document: Mapping[str, Any]) -> Converted:
    """Ours, to the same effect as far as there is one. Nothing in the document is an error: what is odd is noted."""
    made = Converted()
    plugins = _plugins(document, made)
    profiles = listed(document.get("schedulingProfiles"))
    prefill = [one for one in profiles if "prefill" in str(mapping(one).get("name", "")).lower()]
    used = [one for one in profiles if one not in prefill]
    for extra in used[1:]:
        made.note(f"schedulingProfiles[{mapping(extra).get('name')}]", "one profile decides here: the first")
    if used:
        for number_, one in enumerate(listed(mapping(used[0]).get("plugins"))):
            _reference(mapping(one), plugins, made, f"schedulingProfiles[0].plugins[{number_}]")
    else:
        for name, weight in DEFAULT_SCORERS.items():
            made.score(name, weight)
    for name, plugin in plugins.items():
        _alone(name, plugin, made)
    _roles(plugins, made, has_profile=bool(prefill))
    _saturation(document, plugins, made)
    _others(document, made)
    made.end()
    return made


def _plugins(document: Mapping[str, Any], made: Converted) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Name → type and parameters."""
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for place, one in enumerate(listed(document.get("plugins"))):
        kind = mapping(one).get("type")
        if not isinstance(kind, str):
            made.note(f"plugins[{place}]", "has no type, and is left out")
            continue
        found[str(mapping(one).get("name") or kind)] = (kind, mapping(mapping(one).get("parameters")))
    return found


def _reference(
    one: Mapping[str, Any], plugins: Mapping[str, tuple[str, Mapping[str, Any]]], made: Converted, where: str
) -> None:
    name = str(one.get("pluginRef", ""))
    kind, parameters = plugins.get(name, (name, {}))
    weight = number(one.get("weight"))
    if kind in SCORERS:
        ours, different = SCORERS[kind]
        made.score(ours, 1.0 if weight is None else weight)
    elif kind in FILTERS:
        ours, different = FILTERS[kind]
        if ours == "session-affinity":
            made.score(ours, 1.0 if weight is None else weight)
        else:
            made.filter(ours)
    elif kind == "random-picker":
        made.note(where, "random-picker: with `random` as the only scorer, picks are drawn; left out beside scorers")
        return
    elif kind in IMPLIED or kind in ROLES:
        return
    else:
        made.note(where, f"{kind or 'a plugin without a name'} has no counterpart")
        return
    if different:
        made.note(where, f"{kind} became {ours}: {different}")
    if kind in ARGUMENTS:
        ARGUMENTS[kind](parameters, made)


def _prefix_cache(parameters: Mapping[str, Any], made: Converted) -> None:
    tokens = positive(parameters.get("blockSizeTokens")) or positive(parameters.get("hashBlockSize"))
    most = positive(parameters.get("maxPrefixBlocksToMatch"))
    longest = positive(parameters.get("maxPrefixTokensToMatch"))
    if most is None and longest is not None and tokens:
        most = longest / tokens
    capacity = positive(parameters.get("lruCapacityPerServer"))
    made.arguments(
        "prefix-cache",
        blockSizeToHash=None if tokens is None else max(int(tokens * BYTES_PER_TOKEN), 1),
        maxBlocksToMatch=None if most is None else max(int(most), 1),
        maxHashCacheSize=None if capacity is None else max(int(capacity), 1),
    )


def _prefix_affinity(parameters: Mapping[str, Any], made: Converted) -> None:
    penalty = number(parameters.get("maxTTFTPenaltyMs"))
    made.arguments(
        "prefix-affinity",
        affinityThreshold=positive(parameters.get("affinityThreshold")),
        peakPrefillThroughput=positive(parameters.get("peakPrefillThroughput")),
        maxPenaltySeconds=None if penalty is None else penalty / 1000,
    )
    if parameters.get("explorationProbability"):
        made.note("prefix-cache-affinity-filter", "explorationProbability has no counterpart: load alone spreads")


def _session(parameters: Mapping[str, Any], made: Converted) -> None:
    header = parameters.get("headerName") or parameters.get("header")
    if isinstance(header, str) and header:
        made.arguments("session-affinity", header=header)
        return
    made.arguments("session-affinity", header="x-session-id")
    made.note(
        "session-affinity",
        "the pod is found by hashing what names a session; x-session-token, which names a pod, is not obeyed."
        " Name the header, cookie or claim of sessions in its arguments",
    )


def _token_load(parameters: Mapping[str, Any], made: Converted) -> None:
    threshold = positive(parameters.get("queueThresholdTokens")) or positive(parameters.get("tokenThreshold"))
    made.arguments("token-load", halfScoreTokens=None if threshold is None else max(int(threshold / 2), 1))


def _utilization(parameters: Mapping[str, Any], made: Converted) -> None:
    depth = number(parameters.get("queueDepthThreshold"))
    made.arguments("least-request", maxWaitingRequests=None if depth is None else max(int(depth), 1))


ARGUMENTS: Final[Mapping[str, Callable[[Mapping[str, Any], Converted], None]]] = {
    "prefix-cache-scorer": _prefix_cache,
    "precise-prefix-cache-scorer": _prefix_cache,
    "prefix-cache-affinity-filter": _prefix_affinity,
    "session-affinity-scorer": _session,
    "session-affinity-filter": _session,
    "token-load-scorer": _token_load,
    "utilization-filter": _utilization,
    "utilization-detector": _utilization,
}


def _alone(name: str, plugin: tuple[str, Mapping[str, Any]], made: Converted) -> None:
    """Converts or notes a plugin that no profile names."""
    kind, parameters = plugin
    if kind == "approx-prefix-cache-producer":
        _prefix_cache(parameters, made)
    elif kind == "max-score-picker":
        most = number(parameters.get("maxNumOfEndpoints"))
        if most is not None and most > 1:
            made.config.setdefault("transport", {})["maxEndpoints"] = min(int(most), 5)
    elif kind == "weighted-random-picker":
        made.note(f"plugins[{name}]", "weighted-random-picker has no counterpart: the best pod is picked")
    elif kind.endswith("-producer") and kind not in IMPLIED:
        made.note(f"plugins[{name}]", f"{kind} has no counterpart")


def _roles(plugins: Mapping[str, tuple[str, Mapping[str, Any]]], made: Converted, *, has_profile: bool) -> None:
    kinds = dict(plugins.values())
    if not has_profile and not kinds.keys() & {"disagg-profile-handler", "pd-profile-handler"}:
        return
    decider = mapping(kinds.get("prefix-based-pd-decider"))
    handler = mapping(kinds.get("pd-profile-handler"))
    threshold = number(decider.get("nonCachedTokens")) or number(handler.get("threshold"))
    made.config["disaggregation"] = {"thresholdTokens": int(threshold or 0)}
    made.note("disaggregation", "one profile decides for both kinds of pods; encode pods have no counterpart")


def _saturation(
    document: Mapping[str, Any], plugins: Mapping[str, tuple[str, Mapping[str, Any]]], made: Converted
) -> None:
    detector = mapping(document.get("saturationDetector"))
    reference = mapping(mapping(document.get("flowControl")).get("saturationDetector")).get("pluginRef")
    kind, parameters = plugins.get(str(reference), ("", {}))
    if kind == "utilization-detector":
        detector = parameters
    elif kind:
        made.note("flowControl.saturationDetector", f"{kind} has no counterpart")
    bounds = {
        "maxWaiting": number(detector.get("queueDepthThreshold")),
        "maxKvUsage": number(detector.get("kvCacheUtilThreshold")),
    }
    given = {key: value for key, value in bounds.items() if value is not None}
    if given:
        made.config["objectives"] = given


def _others(document: Mapping[str, Any], made: Converted) -> None:
    for gate in listed(document.get("featureGates")):
        made.note(f"featureGates[{gate}]", "has no counterpart")
    known = {"apiVersion", "kind", "metadata", "featureGates", "plugins", "schedulingProfiles", "saturationDetector"}
    told = {
        "requestHandler": "parsers are built in, and chosen by path",
        "dataLayer": "metrics are read by `endpoints`: see engine, scrape and staleAfter",
        "flowControl": "only priorities below 0 are told apart: they are dropped while every pod is over its bounds",
    }
    for key in document:
        if key not in known:
            made.note(str(key), told.get(str(key), "is no key that is known"))
