"""The reference picker's metrics, by its names, out of ours: for autoscalers and dashboards that read those."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from extproc.telemetry.collectors import Rows

#: Gauge of a pool → help, and the key in a pod's row whose mean is taken over the pods of which it is known.
_MEANS: Final = {
    "inference_pool_average_kv_cache_utilization": ("Mean share of the pods' KV cache in use.", "kv_usage"),
    "inference_pool_average_queue_size": ("Mean number of requests in the engines' queues.", "waiting"),
    "inference_pool_average_running_requests": ("Mean number of requests that the engines compute.", "running"),
}


class ReferenceMetrics(Collector):
    """Reads rows of pods and our own instruments when a scrape asks.

    Args:
        rows: of the pods.
        pools: pool → its name in the series: that of the InferencePool where there is one.
        requests: our counter by model, pod and status.
        seconds: our histogram of whole requests, by model.
    """

    def __init__(self, rows: Rows, pools: Mapping[str, str], requests: Collector, seconds: Collector) -> None:
        self._rows = rows
        self._pools = pools
        self._requests = requests
        self._seconds = seconds

    def collect(self) -> Iterator[Metric]:
        yield from self._of_pools()
        yield from self._of_requests()
        yield from self._durations()

    def _of_pools(self) -> Iterator[Metric]:
        by_pool: dict[str, list[Mapping[str, Any]]] = {pool: [] for pool in self._pools}
        for row in self._rows():
            if row.get("ready"):
                by_pool.setdefault(row["pool"], []).append(row)
        for name, (text, key) in _MEANS.items():
            gauge = GaugeMetricFamily(name, text, labels=["name"])
            for pool, pods in by_pool.items():
                known = [float(row[key]) for row in pods if row.get(key) is not None]
                if known:
                    gauge.add_metric([self._shown(pool)], sum(known) / len(known))
            yield gauge
        ready = GaugeMetricFamily("inference_pool_ready_pods", "Pods that may be picked.", labels=["name"])
        queue = GaugeMetricFamily(
            "inference_pool_per_pod_queue_size", "Requests in a pod's queue.", labels=["name", "model_server_pod"]
        )
        for pool, pods in by_pool.items():
            ready.add_metric([self._shown(pool)], len(pods))
            for row in pods:
                if row.get("waiting") is not None:
                    queue.add_metric([self._shown(pool), str(row.get("name") or row["address"])], float(row["waiting"]))
        yield ready
        yield queue

    def _of_requests(self) -> Iterator[Metric]:
        labels = ["model_name", "target_model_name"]
        total = CounterMetricFamily("inference_objective_request", "Requests that ended.", labels=labels)
        errors = CounterMetricFamily(
            "inference_objective_request_error", "Those that failed.", labels=[*labels, "error_code"]
        )
        totals: dict[str, float] = {}
        failed: dict[tuple[str, str], float] = {}
        for sample in _samples(self._requests, "_total"):
            model, status = sample.labels["model"], sample.labels["status"]
            totals[model] = totals.get(model, 0.0) + sample.value
            if not status.startswith(("2", "3")):
                failed[model, status] = failed.get((model, status), 0.0) + sample.value
        for model, value in totals.items():
            total.add_metric([model, model], value)
        for (model, status), value in failed.items():
            errors.add_metric([model, model, status], value)
        yield total
        yield errors

    def _durations(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(
            "inference_objective_request_duration_seconds",
            "Request's headers to the end of the answer.",
            labels=["model_name", "target_model_name"],
        )
        for metric in self._seconds.collect():
            for sample in metric.samples:
                labels = {key: value for key, value in sample.labels.items() if key != "model"}
                labels |= {"model_name": sample.labels["model"], "target_model_name": sample.labels["model"]}
                suffix = sample.name.removeprefix(metric.name)
                family.add_sample(family.name + suffix, labels, sample.value)
        yield family

    def _shown(self, pool: str) -> str:
        return self._pools.get(pool, pool)


def _samples(collector: Collector, suffix: str) -> Sequence[Any]:
    return [one for metric in collector.collect() for one in metric.samples if one.name.endswith(suffix)]
