# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""What is counted, in Prometheus' terms. Label values are bounded: see `MAX_MODELS`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import generate_latest

from extproc.outcome.outcome import Outcome
from extproc.telemetry.collectors import (
    BackgroundCounts,
    BodyCounts,
    BodyGauges,
    DiscoveryGauges,
    KeyGauges,
    PluginGauges,
    PodGauges,
    Rows,
    SharingGauges,
)
from extproc.telemetry.instruments import Counters, Histograms
from extproc.telemetry.reference_metrics import ReferenceMetrics

NAMESPACE = "infer_gateway"
#: Model names become label values, and clients choose them. Only a name that a model server has answered for gets a
#: label of its own, and no more than this many of them; all else counts as "other".
MAX_MODELS = 100
OTHER = "other"
#: In the place of a pod that is in the pool no more.
GONE = "gone"

# A decision is tens of microseconds of CPU, more while the process is busy with others.
_DECISION_BUCKETS = (50e-6, 100e-6, 150e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 50e-3, 0.25, 1)
_PLUGIN_BUCKETS = (5e-6, 10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 1e-3, 5e-3, 25e-3)
# vLLM's own bounds for time to first token and time per output token, thinned: the same panels fit both.
_TTFT_BUCKETS = (0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160)
_TPOT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)
_REQUEST_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600)
_SCRAPE_BUCKETS = (1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1)
_SHARE_BUCKETS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)


class Metrics:
    """All metrics of one gateway, in a registry of their own. `pods` yields a row per pod when a scrape asks.

    `pools` are the names of the pools, which have a series each even where no pod is in them.
    """

    def __init__(self, pods: Rows, pools: Sequence[str] = ()) -> None:
        self.registry = CollectorRegistry()
        self._pods = pods
        self.registry.register(PodGauges(pods, pools))
        counters, histograms = self._counters, self._histograms
        self._requests = counters("requests", "Requests that ended.", "model", "pod", "status")
        self._refusals = counters("refusals", "Requests answered by the gateway.", "status", "reason")
        self._retries = counters("retries", "Further tries that Envoy made upstream.")
        self._fallbacks = counters("fallbacks", "Requests served by another pod than the one picked.")
        self._tokens = counters("tokens", "Tokens as the model servers counted them.", "model", "kind")
        self._plugin_slow_runs = counters("plugin_slow_runs", "Runs of plugins over 5 ms.", "plugin", "phase")
        self._plugin_faults = counters("plugin_faults", "Times a plugin failed and was left out.", "plugin", "phase")
        self._scrape_failures = counters("scrape_failures", "Failed scrapes of pods.", "reason")
        self._endpoints_failures = counters("endpoints_write_failures", "Failed writes of Envoy's endpoints file.")
        self._protocol_errors = counters("protocol_errors", "Messages and log entries of Envoy that cannot be read.")
        self._auth = counters("auth", "Requests whose token was looked at: ok, or why not.", "result")
        self._reloads = counters("config_reloads", "Changed configurations that were seen, by result.", "result")
        self._plugin = histograms("plugin_seconds", "Time in one plugin.", _PLUGIN_BUCKETS, "plugin", "phase")
        self._ttft = histograms(
            "time_to_first_token_seconds",
            "Request sent to first byte of the answer's body: that of its first token only where it is streamed.",
            _TTFT_BUCKETS,
            "model",
            "streamed",
        )
        self._tpot = histograms(
            "time_per_output_token_seconds", "Per output token after the first.", _TPOT_BUCKETS, "model"
        )
        self._seconds = histograms(
            "request_seconds", "Request's headers to the end of the answer.", _REQUEST_BUCKETS, "model"
        )
        decision = histograms("decision_seconds", "From the whole request to the pick.", _DECISION_BUCKETS)
        match = histograms(
            "prefix_match_ratio", "Share of the prompt's blocks that the picked pod was seen to hold.", _SHARE_BUCKETS
        )
        scrape = histograms("scrape_seconds", "Time of a successful scrape.", _SCRAPE_BUCKETS)
        self._decision, self._prefix_match, self._scrape = decision.of(), match.of(), scrape.of()
        #: Open ext_proc streams.
        self.streams = 0
        Gauge("streams", "Open ext_proc streams.", namespace=NAMESPACE, registry=self.registry).set_function(
            lambda: self.streams
        )
        self._models: set[str] = set()
        self._on_disk = ""
        for state in ("rejected", "pending"):
            Gauge(
                f"config_{state}",
                "1: the configuration on disk is wrong, the next restart will fail."
                if state == "rejected"
                else "1: the next restart will change something.",
                namespace=NAMESPACE,
                registry=self.registry,
            ).set_function(partial(self._is_on_disk, state))

    def watch_keys(self, rows: Rows) -> None:
        """Shows the key sets of the issuers: a row for each, when a scrape asks. Call it once."""
        self.registry.register(KeyGauges(rows))

    def watch_plugins(self, statistics: Callable[[], Mapping[str, Mapping[str, float]]]) -> None:
        """Shows what plugins report of themselves. Call this once."""
        self.registry.register(PluginGauges(statistics))

    def watch_bodies(self, bodies: BodyCounts) -> None:
        """Shows how many bytes of request bodies are under way. Call it once."""
        self.registry.register(BodyGauges(bodies))

    def watch_health(
        self, deaths: Callable[[], Iterable[tuple[str, int]]], sources: Rows, behind: Callable[[], float]
    ) -> None:
        """Shows how the gateway itself is. Call it once.

        Args:
            deaths: of background tasks, by kind.
            sources: a row for each source of pods.
            behind: seconds for which Envoy's endpoints could not be written.
        """
        self.registry.register(BackgroundCounts(deaths))
        self.registry.register(DiscoveryGauges(sources))
        Gauge(
            "endpoints_behind_seconds",
            "How long Envoy's endpoints file could not be written; 0: it is as it should be.",
            namespace=NAMESPACE,
            registry=self.registry,
        ).set_function(behind)

    def as_reference(self, pools: Mapping[str, str]) -> None:
        """Shows the reference picker's metrics as well. `pools`: pool → its name there. Call it once."""
        self.registry.register(ReferenceMetrics(self._pods, pools, self._requests, self._seconds))

    def watch_pace(self, interval: Callable[[], float]) -> None:
        """Shows how often pods are scraped. Call it once."""
        Gauge(
            "scrape_interval_seconds",
            "Time between two scrapes of a pod that is in force: longer than asked for where there are many.",
            namespace=NAMESPACE,
            registry=self.registry,
        ).set_function(interval)

    def watch_sharing(self, statistics: Callable[[], Mapping[str, float]]) -> None:
        """Shows the messages of other gateways. Call this once."""
        self.registry.register(SharingGauges(statistics))

    def _is_on_disk(self, state: str) -> float:
        return float(self._on_disk == state)

    # The request path

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
        self._refusals.add((str(status), reason))

    def authenticated(self, result: str) -> None:
        """A request whose token was looked at: `ok`, or the reason of the refusal."""
        self._auth.add((result,))

    def opened(self) -> None:
        self.streams += 1

    def closed(self) -> None:
        self.streams -= 1

    def protocol_error(self) -> None:
        self._protocol_errors.add(())

    def ended(
        self, model: str, picked: str, outcome: Outcome, seconds: float, *, streamed: bool, gone: bool = False
    ) -> None:
        """A request that was routed is over, `seconds` after its headers. `gone`: its pod has left since.

        Such a pod gets no series: no code would remove it again.
        """
        label = self._model(model, outcome)
        status = "unknown" if outcome.status is None else str(outcome.status)
        self._requests.add((label, GONE if gone else outcome.served or picked, status))
        self._seconds.of(label).observe(seconds)
        if outcome.attempts is not None and outcome.attempts > 1:
            self._retries.add((), outcome.attempts - 1)
        if outcome.served and outcome.served != picked:
            self._fallbacks.add(())
        if outcome.status is None or outcome.status >= 400:
            return  # an error is no token
        if outcome.ttft is not None:
            self._ttft.of(label, "true" if streamed else "false").observe(outcome.ttft)
        if streamed and (tpot := outcome.tpot) is not None:
            self._tpot.of(label).observe(tpot)
        usage = outcome.usage
        for kind, tokens in (("prompt", usage.prompt), ("cached", usage.cached), ("completion", usage.completion)):
            if tokens is not None:
                self._tokens.add((label, kind), tokens)

    def reloaded(self, result: str) -> None:
        """A changed configuration was seen: `applied`, `pending` a restart, `rejected` as wrong, or `failed`."""
        self._reloads.add((result,))

    def on_disk(self, state: str) -> None:
        """What the configuration on disk is: `rejected`, `pending`, or "" for that in force."""
        self._on_disk = state

    # Observers of the scheduler and its pool

    def plugin(self, name: str, phase: str) -> Callable[[float], None]:
        """What takes the seconds of each run of a plugin."""
        return self._plugin.of(name, phase).observe

    def plugin_fault(self, name: str, phase: str) -> None:
        self._plugin_faults.add((name, phase))

    def plugin_slow(self, name: str, phase: str) -> None:
        """A plugin was slow, and is not left out for it."""
        self._plugin_slow_runs.add((name, phase))

    def scraped(self, seconds: float) -> None:
        self._scrape.observe(seconds)

    def endpoints_not_written(self) -> None:
        self._endpoints_failures.add(())

    def scrape_failed(self, reason: str) -> None:
        self._scrape_failures.add((reason,))

    def exposition(self) -> bytes:
        """The page in Prometheus' text format."""
        return generate_latest(self.registry)

    def pod_left(self, address: str) -> None:
        """Forgets the counts of a pod: pods come and go, and their series must not pile up."""
        self._requests.forget(1, address)

    def _counters(self, name: str, text: str, *labels: str) -> Counters:
        return Counters(f"{NAMESPACE}_{name}", text, labels, self.registry)

    def _histograms(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histograms:
        return Histograms(f"{NAMESPACE}_{name}", text, buckets, labels, self.registry)
