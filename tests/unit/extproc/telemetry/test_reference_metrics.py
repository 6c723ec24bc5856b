from prometheus_client.parser import text_string_to_metric_families

from extproc.outcome.outcome import Outcome
from extproc.telemetry.metrics import Metrics

ROWS = [
    {"pool": "default", "address": "127.0.0.1:1", "name": "a", "ready": True, "waiting": 4, "running": 2, "kv_usage": 0.5},
    {"pool": "default", "address": "127.0.0.1:2", "name": "", "ready": True, "waiting": 0, "running": None, "kv_usage": None},
    {"pool": "default", "address": "127.0.0.1:3", "name": "gone", "ready": False, "waiting": 9, "running": 9, "kv_usage": 1},
]  # fmt: skip


def test_series_by_the_references_names() -> None:
    metrics = Metrics(lambda: ROWS, ("default",))
    metrics.as_reference({"default": "vllm"})
    for status in (200, 200, 503):
        metrics.ended("m", "127.0.0.1:1", Outcome(status=status), 2.0, streamed=False)
    page = metrics.exposition().decode()
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name.startswith("inference_")
    }
    pool = "inference_pool_"
    assert found[f"{pool}average_queue_size", "vllm"] == 2
    assert found[f"{pool}average_running_requests", "vllm"] == 2
    assert found[f"{pool}average_kv_cache_utilization", "vllm"] == 0.5
    assert found[f"{pool}ready_pods", "vllm"] == 2
    assert found[f"{pool}per_pod_queue_size", "a", "vllm"] == 4
    assert found[f"{pool}per_pod_queue_size", "127.0.0.1:2", "vllm"] == 0
    model = next(key[1] for key in found if key[0] == "inference_objective_request_total")
    total = sum(value for key, value in found.items() if key[0] == "inference_objective_request_total")
    assert total == 3
    errors = [value for key, value in found.items() if key[0] == "inference_objective_request_error_total"]
    assert errors == [1]
    counts = [value for key, value in found.items() if key[0] == "inference_objective_request_duration_seconds_count"]
    assert sum(counts) == 3
    assert model


def test_they_are_not_there_unless_they_are_asked_for() -> None:
    assert "inference_" not in Metrics(lambda: ROWS, ("default",)).exposition().decode()
