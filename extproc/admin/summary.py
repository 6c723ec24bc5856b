"""What the gateway does right now, in one piece, for people: the admin page and `infer-gateway top` show it.

All counts are totals since the start, so that each reader makes the rates of its own interval.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_NAMESPACE = "infer_gateway_"
#: Name in the summary -> counter whose series are added up.
_COUNTS = {
    "retries": "retries_total",
    "fallbacks": "fallbacks_total",
    "plugin_faults": "plugin_faults_total",
    "scrape_failures": "scrape_failures_total",
    "protocol_errors": "protocol_errors_total",
}
#: Name in the summary -> histogram of which the summary has count and sum: enough for the mean of any interval.
_MEANS = {
    "decision": "decision_seconds",
    "prefix_match": "prefix_match_ratio",
    "ttft": "time_to_first_token_seconds",
    "tpot": "time_per_output_token_seconds",
    "request": "request_seconds",
}


def summary(
    families: Iterable["Metric"],
    *,
    version: str,
    uptime: float,
    not_ready: str,
    pods: Iterable[Mapping[str, Any]],
    matches: Mapping[str, float],
    decisions: Iterable[Mapping[str, Any]],
    sources: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The summary, ready for JSON.

    Args:
        families: of the gateway's metrics.
        version: of the gateway.
        uptime: seconds since the start.
        not_ready: why the gateway is not ready, or "".
        pods: a row for each.
        matches: address of a pod -> mean share (0-1) of a prompt that it held, over the last decisions for it.
        decisions: the last ones, newest first.
        sources: of pods, a row for each.
    """
    totals: dict[str, float] = {}
    requests: dict[tuple[str, str], float] = {}
    models: dict[str, float] = {}
    refusals: list[dict[str, Any]] = []
    tokens: dict[str, float] = {}
    for family in families:
        # Two of three samples are buckets of histograms, which the summary does not use.
        for sample in family.samples:
            name = sample.name.removeprefix(_NAMESPACE)
            if name.endswith("_bucket"):
                continue
            labels, value = sample.labels, sample.value
            if labels.get("streamed") == "false":
                continue  # the first byte of an answer in one piece does not show when its first token came
            if name == "requests_total":
                key = labels["pod"], labels["status"]
                requests[key] = requests.get(key, 0.0) + value
                models[labels["model"]] = models.get(labels["model"], 0.0) + value
            elif name == "refusals_total":
                refusals.append({"status": labels["status"], "reason": labels["reason"], "count": value})
            elif name == "tokens_total":
                tokens[labels["kind"]] = tokens.get(labels["kind"], 0.0) + value
            else:
                totals[name] = totals.get(name, 0.0) + value
    return {
        "version": version,
        "uptime": uptime,
        "not_ready": not_ready,
        "streams": totals.get("streams", 0.0),
        "pods": [{**row, "prefix_match": matches.get(row["address"])} for row in pods],
        "requests": [{"pod": pod, "status": status, "count": count} for (pod, status), count in requests.items()],
        "models": models,
        "refusals": refusals,
        "tokens": tokens,
        "counts": {name: totals.get(counter, 0.0) for name, counter in _COUNTS.items()},
        "means": {
            name: {"count": totals.get(f"{histogram}_count", 0.0), "sum": totals.get(f"{histogram}_sum", 0.0)}
            for name, histogram in _MEANS.items()
        },
        "decisions": list(decisions),
        "discovery": list(sources),
    }
