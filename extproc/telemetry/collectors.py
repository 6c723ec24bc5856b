"""Gauges that are read when a scrape asks, from their sources: an object that is gone leaves no series behind."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Rows = Callable[[], Iterable[Mapping[str, Any]]]

#: Gauge name -> (help, key in a pod's row).
_POD_GAUGES = {
    "infer_gateway_pod_in_flight": ("Requests picked for the pod that have not ended.", "in_flight"),
    "infer_gateway_pod_in_flight_tokens": ("Their prompt tokens that no cache should hold.", "in_flight_tokens"),
    "infer_gateway_pod_waiting": ("Requests in the engine's queue, as scraped.", "waiting"),
    "infer_gateway_pod_running": ("Requests that the engine computes, as scraped.", "running"),
    "infer_gateway_pod_kv_usage_ratio": ("Used share of the KV cache, as scraped.", "kv_usage"),
    "infer_gateway_pod_resting_seconds": ("Left alone for so long, for failed requests; 0: not.", "resting_for"),
    "infer_gateway_pod_scrape_age_seconds": ("Since the last successful scrape.", "scrape_age"),
}


class PodGauges(Collector):
    """The pods of all pools, and how many each pool has."""

    def __init__(self, rows: Rows, pools: Sequence[str]) -> None:
        self._rows = rows
        self._pools = pools

    def collect(self) -> Iterator[Metric]:
        all_rows = list(self._rows())
        rows = _by_pod(all_rows)
        ready = GaugeMetricFamily("infer_gateway_pods_ready", "Pods that may be picked.")
        ready.add_metric([], sum(1 for row in rows if row.get("ready")))
        yield ready
        in_pool = GaugeMetricFamily(
            "infer_gateway_pool_pods_ready", "Pods of a pool that may be picked.", labels=["pool"]
        )
        counts = dict.fromkeys(self._pools, 0)
        for row in all_rows:
            if row.get("pool") in counts:
                counts[row["pool"]] += bool(row["ready"])
        for pool, count in counts.items():
            in_pool.add_metric([pool], count)
        yield in_pool
        for name, (text, key) in _POD_GAUGES.items():
            gauge = GaugeMetricFamily(name, text, labels=["pod"])
            for row in rows:
                value = row.get(key)
                if value is not None:
                    gauge.add_metric([row["address"]], float(value))
            yield gauge


def _by_pod(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One row a pod: one that is in several pools has the requests of all."""
    merged: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        before = merged.get(row["address"])
        if before is not None:
            sums = {key: before[key] + row[key] for key in ("in_flight", "in_flight_tokens")}
            merged[row["address"]] = {**before, **sums, "ready": before["ready"] or row["ready"]}
        else:
            merged[row["address"]] = row
    return list(merged.values())


class KeyGauges(Collector):
    """The key sets of the issuers. Their names are configuration, so the labels are bounded."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def collect(self) -> Iterator[Metric]:
        keys = GaugeMetricFamily("infer_gateway_jwks_keys", "Usable keys of the issuer.", labels=["issuer"])
        usable = GaugeMetricFamily(
            "infer_gateway_jwks_usable", "1: tokens can be checked. 0: no keys, or too old ones.", labels=["issuer"]
        )
        age = GaugeMetricFamily(
            "infer_gateway_jwks_age_seconds", "Since the key set was last fetched.", labels=["issuer"]
        )
        fetches = CounterMetricFamily("infer_gateway_jwks_fetches", "Fetches of the key set.", labels=["issuer"])
        failures = CounterMetricFamily("infer_gateway_jwks_fetch_failures", "Fetches that failed.", labels=["issuer"])
        for row in self._rows():
            labels = [row["issuer"]]
            keys.add_metric(labels, row["keys"])
            usable.add_metric(labels, row["usable"])
            fetches.add_metric(labels, row["fetches"])
            failures.add_metric(labels, row["failures"])
            if row["age"] is not None:
                age.add_metric(labels, row["age"])
        yield from (keys, usable, age, fetches, failures)


class PluginGauges(Collector):
    """What plugins report of themselves: plugin -> name -> value."""

    def __init__(self, statistics: Callable[[], Mapping[str, Mapping[str, float]]]) -> None:
        self._statistics = statistics

    def collect(self) -> Iterator[Metric]:
        gauge = GaugeMetricFamily(
            "infer_gateway_plugin_state", "What a plugin holds, by its own names.", labels=["plugin", "name"]
        )
        for plugin, values in self._statistics().items():
            for name, value in values.items():
                gauge.add_metric([plugin, name], float(value))
        yield gauge


#: Name of the metric -> (help, name of the number).
_SHARING_GAUGES = {
    "infer_gateway_sharing_up": ("1: this gateway's messages come back from Redis. 0: it decides for itself.", "up"),
    "infer_gateway_sharing_age_seconds": ("Since a message of this gateway came back.", "age"),
    "infer_gateway_sharing_members": ("Processes of other gateways that are heard.", "members"),
    "infer_gateway_sharing_strangers": ("Those of them that have another secret.", "strangers"),
    "infer_gateway_sharing_in_flight": ("Requests that other gateways have in flight.", "in_flight"),
}
_SHARING_COUNTERS = {
    "infer_gateway_sharing_lost_messages": ("Messages of other gateways that never came.", "lost"),
    "infer_gateway_sharing_duplicate_messages": ("Messages that came twice, and were left out.", "duplicates"),
    "infer_gateway_sharing_dropped_events": ("Events that others were never told of.", "dropped"),
    "infer_gateway_sharing_unknown_events": ("Events and messages that were not understood.", "unknown"),
    "infer_gateway_sharing_foreign_notes": ("Notes under another secret, which were left out.", "foreign"),
    "infer_gateway_sharing_reseeds": ("Times the secret changed, and all was learnt anew.", "reseeded"),
}


class SharingGauges(Collector):
    """What this process sends to other gateways, and receives from them."""

    def __init__(self, statistics: Callable[[], Mapping[str, float]]) -> None:
        self._statistics = statistics

    def collect(self) -> Iterator[Metric]:
        values = self._statistics()
        if not values:
            return
        for name, (text, key) in _SHARING_GAUGES.items():
            yield GaugeMetricFamily(name, text, values[key])
        for name, (text, key) in _SHARING_COUNTERS.items():
            yield CounterMetricFamily(name, text, values[key])
        for what, text in (("bytes", "Bytes of messages."), ("messages", "Messages.")):
            family = CounterMetricFamily(f"infer_gateway_sharing_{what}", text, labels=["direction"])
            for direction in ("sent", "heard"):
                family.add_metric([direction], values[f"{direction}_{what}"])
            yield family


class BackgroundCounts(Collector):
    """How often background tasks died: kind -> count."""

    def __init__(self, deaths: Callable[[], Iterable[tuple[str, int]]]) -> None:
        self._deaths = deaths

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(
            "infer_gateway_background_deaths", "Background tasks that died and were started again.", labels=["task"]
        )
        for task, count in self._deaths():
            family.add_metric([task], count)
        yield family


class DiscoveryGauges(Collector):
    """How sources of pods are reached. Their names are configuration, so the labels are bounded."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def collect(self) -> Iterator[Metric]:
        labels = ["pool", "source"]
        up = GaugeMetricFamily("infer_gateway_discovery_up", "1: the source's latest answer was good.", labels=labels)
        since = GaugeMetricFamily(
            "infer_gateway_discovery_since_contact_seconds", "Since the source last gave a sign of life.", labels=labels
        )
        failures = CounterMetricFamily(
            "infer_gateway_discovery_failures", "Times the source gave no good answer.", labels=[*labels, "reason"]
        )
        for row in self._rows():
            of = [row["pool"], row["source"]]
            up.add_metric(of, float(row["up"]))
            since.add_metric(of, row["seconds_since_contact"])
            for reason, count in row["failures"].items():
                failures.add_metric([*of, reason], count)
        yield from (up, since, failures)


class BodyCounts(Protocol):
    """Counts bodies: `Bodies`."""

    held: int
    evicted: int
    late: int


class BodyGauges(Collector):
    """Request bodies that Envoy holds."""

    def __init__(self, bodies: BodyCounts) -> None:
        self._bodies = bodies

    def collect(self) -> Iterator[Metric]:
        name = "infer_gateway_body_bytes"
        yield GaugeMetricFamily(name, "Bytes of large request bodies that room is kept for.", self._bodies.held)
        ended = CounterMetricFamily(
            "infer_gateway_bodies_ended", "Uploads that were ended before they were whole.", labels=["reason"]
        )
        ended.add_metric(["evicted"], self._bodies.evicted)
        ended.add_metric(["late"], self._bodies.late)
        yield ended
