import pytest
from prometheus_client.parser import text_string_to_metric_families

from extproc.outcome.outcome import UNKNOWN, Outcome
from extproc.protocol.events import TokenUsage
from extproc.telemetry.metrics import MAX_MODELS, Metrics

ROW = {
    "address": "10.0.0.1:80", "ready": True, "in_flight": 2, "in_flight_tokens": 30, "waiting": 1.0, "running": None,
    "kv_usage": 0.5, "scrape_age": 0.1,
}  # fmt: skip


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    page = metrics.exposition().decode()
    return {
        (
            sample.name.removeprefix("infer_gateway_"),
            *(f"{k}={v}" for k, v in sorted(sample.labels.items())),
        ): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


def test_a_request_that_ended_well() -> None:
    metrics = Metrics(list)
    outcome = Outcome(
        status=200, served="b", attempts=3, ttft=0.2, stream=1.0, usage=TokenUsage(100, 60, 11), details="via_upstream"
    )
    metrics.ended("m", "a", outcome, 1.5, streamed=True)
    got = samples(metrics)
    assert got["requests_total", "model=m", "pod=b", "status=200"] == 1
    assert got["retries_total",] == 2
    assert got["fallbacks_total",] == 1
    assert got["time_to_first_token_seconds_sum", "model=m", "streamed=true"] == 0.2
    assert got["time_per_output_token_seconds_sum", "model=m"] == 0.1
    assert got["request_seconds_sum", "model=m"] == 1.5
    for kind, tokens in (("prompt", 100), ("cached", 60), ("completion", 11)):
        assert got["tokens_total", f"kind={kind}", "model=m"] == tokens


@pytest.mark.parametrize(("attempts", "retries"), [(None, 0), (0, 0), (1, 0), (2, 1), (3, 2)])
def test_all_attempts_but_the_first_are_retries(attempts: int | None, retries: int) -> None:
    metrics = Metrics(list)
    metrics.ended("m", "a", Outcome(status=200, attempts=attempts), 0.1, streamed=True)
    assert samples(metrics)["retries_total",] == retries


def test_a_request_of_which_nothing_is_known() -> None:
    metrics = Metrics(list)
    metrics.ended("m", "a", UNKNOWN, 1.5, streamed=True)
    got = samples(metrics)
    assert got["requests_total", "model=other", "pod=a", "status=unknown"] == 1
    assert got["retries_total",] == got["fallbacks_total",] == 0
    assert not [key for key in got if key[0].startswith(("time_to_first", "time_per_output", "tokens"))]


def test_model_names_are_bounded_and_earned() -> None:
    metrics = Metrics(list)
    metrics.ended("guessed", "a", Outcome(status=404), 0.1, streamed=True)
    for number in range(MAX_MODELS + 5):
        metrics.ended(f"m{number}", "a", Outcome(status=200), 0.1, streamed=True)
    models = {
        label for key in samples(metrics) if key[0] == "requests_total" for label in key if label.startswith("model=")
    }
    assert len(models) == MAX_MODELS + 1
    assert "model=other" in models
    assert "model=guessed" not in models


def test_pods_are_counted_by_pool_and_once_in_all() -> None:
    one = {**ROW, "pool": "a", "waiting": 3}
    other = {**ROW, "pool": "b", "ready": False}
    got = samples(Metrics(lambda: [one, other, {**one, "address": "10.0.0.2:80"}], ("a", "b", "c")))
    assert [got["pool_pods_ready", f"pool={pool}"] for pool in "abc"] == [2, 0, 0]
    assert got["pods_ready",] == 2
    # A pod of two pools has the requests of both; what its engine says is one thing.
    assert (got["pod_in_flight", "pod=10.0.0.1:80"], got["pod_waiting", "pod=10.0.0.1:80"]) == (4, 3)


def test_pods_are_read_when_the_page_is() -> None:
    rows = [dict(ROW)]
    metrics = Metrics(lambda: rows)
    got = samples(metrics)
    assert got["pods_ready",] == 1
    assert got["pod_in_flight", "pod=10.0.0.1:80"] == 2
    assert ("pod_running", "pod=10.0.0.1:80") not in got
    rows.clear()
    assert not [key for key in samples(metrics) if "pod=10.0.0.1:80" in key]


def test_the_other_counters() -> None:
    metrics = Metrics(list)
    metrics.opened()
    metrics.opened()
    metrics.closed()
    metrics.decided(0.0001, None)
    metrics.decided(0.0001, 0.5)
    metrics.refused(401, "expired")
    metrics.authenticated("ok")
    metrics.plugin("kv-cache", "score")(1e-5)
    metrics.plugin_fault("mine", "filter")
    metrics.scraped(0.002)
    metrics.scrape_failed("timeout")
    metrics.protocol_error()
    got = samples(metrics)
    assert got["streams",] == 1
    assert got["decision_seconds_count",] == 2
    assert got["prefix_match_ratio_count",] == 1
    assert got["refusals_total", "reason=expired", "status=401"] == 1
    assert got["auth_total", "result=ok"] == 1
    assert got["plugin_seconds_count", "phase=score", "plugin=kv-cache"] == 1
    assert got["plugin_faults_total", "phase=filter", "plugin=mine"] == 1
    assert got["scrape_seconds_count",] == got["scrape_failures_total", "reason=timeout"] == 1
    assert got["protocol_errors_total",] == 1


def test_key_sets_are_shown_by_issuer() -> None:
    metrics = Metrics(list)
    assert not [key for key in samples(metrics) if key[0].startswith("jwks_")]
    fresh = {"issuer": "a", "keys": 3, "age": 12.5, "usable": True, "fetches": 4, "failures": 1}
    never = {"issuer": "b", "keys": 0, "age": None, "usable": False, "fetches": 2, "failures": 2}
    metrics.watch_keys(lambda: [fresh, never])
    got = samples(metrics)
    assert got["jwks_age_seconds", "issuer=a"] == 12.5
    assert ("jwks_age_seconds", "issuer=b") not in got
    assert [got["jwks_keys", f"issuer={name}"] for name in "ab"] == [3, 0]
    assert [got["jwks_usable", f"issuer={name}"] for name in "ab"] == [1, 0]
    assert [got["jwks_fetches_total", f"issuer={name}"] for name in "ab"] == [4, 2]
    assert [got["jwks_fetch_failures_total", f"issuer={name}"] for name in "ab"] == [1, 2]


def test_a_pod_that_left_leaves_no_series() -> None:
    metrics = Metrics(list)
    for pod in ("a", "b"):
        metrics.ended("m", pod, Outcome(status=200), 0.1, streamed=True)
    metrics.pod_left("a")
    assert [key for key in samples(metrics) if "pod=a" in key] == []
    assert samples(metrics)["requests_total", "model=m", "pod=b", "status=200"] == 1


def test_plugins_tell_of_themselves() -> None:
    metrics = Metrics(list)
    metrics.watch_plugins(lambda: {"prefix-cache": {"entries": 5}})
    assert samples(metrics)["plugin_state", "name=entries", "plugin=prefix-cache"] == 5


def test_the_first_byte_of_an_answer_in_one_piece_is_told_apart() -> None:
    metrics = Metrics(list)
    outcome = Outcome(status=200, ttft=2.0, stream=0.001, usage=TokenUsage(completion=50))
    metrics.ended("m", "a", outcome, 2.1, streamed=False)
    got = samples(metrics)
    assert got["time_to_first_token_seconds_sum", "model=m", "streamed=false"] == 2.0
    assert not [key for key in got if key[0].startswith("time_per_output_token")]
