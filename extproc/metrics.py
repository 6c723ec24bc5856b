"""What is counted, in Prometheus' terms. Label values are bounded: see `MAX_MODELS`."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from extproc.outcomes import Outcome

NAMESPACE = "infer_gateway"
#: Model names become label values, and clients choose them. Only a name that a model server has answered for gets a
#: label of its own, and no more than this many of them; all else counts as "other".
MAX_MODELS = 100
OTHER = "other"

# A decision is tens of microseconds of CPU, more while the process is busy with others.
_DECISION_BUCKETS = (50e-6, 100e-6, 150e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 50e-3, 0.25, 1)
_PLUGIN_BUCKETS = (5e-6, 10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 1e-3, 5e-3, 25e-3)
# vLLM's own bounds for time to first token and time per output token, thinned: the same panels fit both.
_TTFT_BUCKETS = (0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160)
_TPOT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)
_REQUEST_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600)
_SCRAPE_BUCKETS = (1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1)
_SHARE_BUCKETS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)

Rows = Callable[[], Iterable[Mapping[str, Any]]]


class Metrics:
    """All metrics of one gateway, in a registry of their own. `pods` yields a row per pod when a scrape asks."""

    def __init__(self, pods: Rows) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Pods(pods))
        counter, histogram = self._counter, self._histogram
        self._requests = counter("requests", "Requests that ended.", "model", "pod", "status")
        self._refusals = counter("refusals", "Requests answered by the gateway.", "status", "reason")
        self._retries = counter("retries", "Further tries that Envoy made upstream.")
        self._fallbacks = counter("fallbacks", "Requests served by another pod than the one picked.")
        self._tokens = counter("tokens", "Tokens as the model servers counted them.", "model", "kind")
        self._decision = histogram("decision_seconds", "From the whole request to the pick.", _DECISION_BUCKETS)
        self._plugin = histogram("plugin_seconds", "Time in one plugin.", _PLUGIN_BUCKETS, "plugin", "phase")
        self._plugin_faults = counter("plugin_faults", "Times a plugin failed and was left out.", "plugin", "phase")
        self._ttft = histogram(
            "time_to_first_token_seconds", "Request sent to first byte of the answer's body.", _TTFT_BUCKETS, "model"
        )
        self._tpot = histogram(
            "time_per_output_token_seconds", "Per output token after the first.", _TPOT_BUCKETS, "model"
        )
        self._seconds = histogram(
            "request_seconds", "Request's headers to the end of the answer.", _REQUEST_BUCKETS, "model"
        )
        self._prefix_match = histogram(
            "prefix_match_ratio", "Share of the prompt's blocks that the picked pod was seen to hold.", _SHARE_BUCKETS
        )
        self._scrape_failures = counter("scrape_failures", "Failed scrapes of pods.", "reason")
        self._scrape = histogram("scrape_seconds", "Time of a successful scrape.", _SCRAPE_BUCKETS)
        self._protocol_errors = counter("protocol_errors", "ext_proc streams ended for illegal messages.")
        self._auth = counter("auth", "Requests whose token was looked at: ok, or why not.", "result")
        self._streams = Gauge("streams", "Open ext_proc streams.", namespace=NAMESPACE, registry=self.registry)
        self._models: set[str] = set()
        self._children: dict[tuple[object, ...], Any] = {}

    def watch_keys(self, rows: Rows) -> None:
        """Shows the key sets of the issuers: a row for each, when a scrape asks. Call it once."""
        self.registry.register(_Keys(rows))

    # The request path. Children are kept: a look-up by labels costs four times the update.

    def _model(self, name: str, outcome: Outcome) -> str:
        """The label value for a model's name: its own once a request to it has succeeded."""
        models = self._models
        if name in models:
            return name
        if outcome.status is not None and outcome.status < 400 and len(models) < MAX_MODELS:
            models.add(name)
            return name
        return OTHER

    def decided(self, seconds: float, prefix_match: float | None) -> None:
        self._decision.observe(seconds)
        if prefix_match is not None:
            self._prefix_match.observe(prefix_match)

    def refused(self, status: int, reason: str) -> None:
        self._child(self._refusals, str(status), reason).inc()

    def authenticated(self, result: str) -> None:
        """A request whose token was looked at: `ok`, or the reason of the refusal."""
        self._child(self._auth, result).inc()

    def opened(self) -> None:
        self._streams.inc()

    def closed(self) -> None:
        self._streams.dec()

    def protocol_error(self) -> None:
        self._protocol_errors.inc()

    def ended(self, model: str, picked: str, outcome: Outcome, seconds: float) -> None:
        """A request that was routed is over, `seconds` after its headers."""
        label = self._model(model, outcome)
        status = "unknown" if outcome.status is None else str(outcome.status)
        self._child(self._requests, label, outcome.served or picked, status).inc()
        self._child(self._seconds, label).observe(seconds)
        if outcome.attempts is not None and outcome.attempts > 1:
            self._retries.inc(outcome.attempts - 1)
        if outcome.served and outcome.served != picked:
            self._fallbacks.inc()
        if outcome.ttft is not None:
            self._child(self._ttft, label).observe(outcome.ttft)
        if (tpot := outcome.tpot) is not None:
            self._child(self._tpot, label).observe(tpot)
        usage = outcome.usage
        for kind, tokens in (("prompt", usage.prompt), ("cached", usage.cached), ("completion", usage.completion)):
            if tokens is not None:
                self._child(self._tokens, label, kind).inc(tokens)

    # Observers of the scheduler and its pool

    def plugin(self, name: str, phase: str, seconds: float) -> None:
        self._child(self._plugin, name, phase).observe(seconds)

    def plugin_fault(self, name: str, phase: str) -> None:
        self._child(self._plugin_faults, name, phase).inc()

    def scraped(self, seconds: float) -> None:
        self._scrape.observe(seconds)

    def scrape_failed(self, reason: str) -> None:
        self._child(self._scrape_failures, reason).inc()

    def exposition(self) -> bytes:
        """The page in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, namespace=NAMESPACE, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, text, labels, namespace=NAMESPACE, registry=self.registry, buckets=buckets)

    def _child(self, metric: Any, *labels: str) -> Any:
        key = (metric, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child


#: Gauge name -> (help, key in a pod's row).
_POD_GAUGES = {
    "infer_gateway_pod_in_flight": ("Requests picked for the pod that have not ended.", "in_flight"),
    "infer_gateway_pod_in_flight_tokens": ("Their prompt tokens that no cache should hold.", "in_flight_tokens"),
    "infer_gateway_pod_waiting": ("Requests in the engine's queue, as scraped.", "waiting"),
    "infer_gateway_pod_running": ("Requests that the engine computes, as scraped.", "running"),
    "infer_gateway_pod_kv_usage_ratio": ("Used share of the KV cache, as scraped.", "kv_usage"),
    "infer_gateway_pod_scrape_age_seconds": ("Since the last successful scrape.", "scrape_age"),
}


class _Pods(Collector):
    """Gauges read from the pool when they are asked for, so that a pod that left leaves no series behind."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def collect(self) -> Iterator[Metric]:
        rows = list(self._rows())
        ready = GaugeMetricFamily("infer_gateway_pods_ready", "Pods that may be picked.")
        ready.add_metric([], sum(1 for row in rows if row.get("ready")))
        yield ready
        for name, (text, key) in _POD_GAUGES.items():
            gauge = GaugeMetricFamily(name, text, labels=["pod"])
            for row in rows:
                value = row.get(key)
                if value is not None:
                    gauge.add_metric([row["address"]], float(value))
            yield gauge


class _Keys(Collector):
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
