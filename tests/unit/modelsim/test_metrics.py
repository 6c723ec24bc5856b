from collections.abc import Iterable

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from modelsim.engine import Engine, Request
from modelsim.events import Event
from modelsim.metrics import MAX_ADAPTER_SETS, Metrics
from modelsim.profile import EngineConfig, Profile

LABELS = {"engine": "0", "model_name": "m"}


def read(page: bytes) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(page.decode())}


def page_of(engine: Engine, events: Iterable[Event] = (), *, model: str = "m") -> dict[str, Metric]:
    metrics = Metrics(model)
    for event in events:
        metrics.observe(event)
    return read(metrics.page(engine, scripted=0, unix_time=1000.0))


def value(families: dict[str, Metric], name: str, suffix: str = "", **labels: str) -> float:
    (found,) = [
        sample.value
        for sample in families[name].samples
        if sample.name == name + suffix and sample.labels == {**LABELS, **labels}
    ]
    return found


def request(name: str, *, answer: int = 1, adapter: str = "") -> Request:
    return Request(id=name, prompt="x" * 256, max_tokens=answer, adapter=adapter)


def test_names_and_types_are_vllms() -> None:
    families = page_of(Engine())
    assert {name: family.type for name, family in families.items()} == {
        "vllm:num_requests_running": "gauge",
        "vllm:num_requests_waiting": "gauge",
        "vllm:kv_cache_usage_perc": "gauge",
        "vllm:prefix_cache_queries": "counter",
        "vllm:prefix_cache_hits": "counter",
        "vllm:num_preemptions": "counter",
        "vllm:prompt_tokens": "counter",
        "vllm:generation_tokens": "counter",
        "vllm:request_success": "counter",
        "vllm:time_to_first_token_seconds": "histogram",
        "vllm:inter_token_latency_seconds": "histogram",
        "vllm:e2e_request_latency_seconds": "histogram",
        "vllm:request_queue_time_seconds": "histogram",
        "vllm:cache_config_info": "gauge",
        "vllm:lora_requests_info": "gauge",
    }


def test_gauges_tell_of_the_moment() -> None:
    engine = Engine(EngineConfig(max_num_seqs=2, num_blocks=20))
    for name in "abc":
        engine.submit(request(name), 0.0)
    families = page_of(engine)
    assert value(families, "vllm:num_requests_running") == 2
    assert value(families, "vllm:num_requests_waiting") == 1
    assert value(families, "vllm:kv_cache_usage_perc") == 8 / 20
    page = Metrics("m").page(engine, scripted=5, unix_time=0.0)
    assert value(read(page), "vllm:num_requests_running") == 7


def test_counters_and_histograms_tell_of_the_past() -> None:
    engine = Engine(EngineConfig(profile=Profile(overhead=0.3, per_prompt_token=0, inter_token=0.06, per_sequence=0)))
    engine.submit(request("a", answer=3), 0.0)
    engine.submit(request("b", answer=0), 10.0)
    engine.submit(request("c", answer=1), 20.0)
    families = page_of(engine, engine.advance(100.0))
    assert value(families, "vllm:prompt_tokens", "_total") == 3 * 64
    assert value(families, "vllm:generation_tokens", "_total") == 4
    assert value(families, "vllm:prefix_cache_queries", "_total") == 3 * 64
    assert value(families, "vllm:prefix_cache_hits", "_total") == 2 * 48
    ttft, itl = "vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds"
    assert value(families, ttft, "_count") == 2
    assert value(families, ttft, "_sum") == pytest.approx(0.6)
    assert value(families, ttft, "_bucket", le="0.25") == 0
    assert value(families, ttft, "_bucket", le="0.5") == 2
    assert value(families, ttft, "_bucket", le="+Inf") == 2
    assert value(families, itl, "_count") == 2
    assert value(families, itl, "_bucket", le="0.05") == 0
    assert value(families, itl, "_bucket", le="0.075") == 2
    assert value(families, "vllm:e2e_request_latency_seconds", "_count") == 3
    assert value(families, "vllm:request_queue_time_seconds", "_sum") == 0


def test_finished_requests_are_counted_by_reason() -> None:
    metrics = Metrics("m")
    for reason in ("stop", "length", "length", "abort"):
        metrics.count_finished(reason)
    families = read(metrics.page(Engine(), scripted=0, unix_time=0.0))
    counts = {
        reason: value(families, "vllm:request_success", "_total", finished_reason=reason)
        for reason in ("stop", "length", "abort")
    }
    assert counts == {"stop": 1, "length": 2, "abort": 1}


def test_the_cache_tells_its_size() -> None:
    (sample,) = page_of(Engine(EngineConfig(num_blocks=123)))["vllm:cache_config_info"].samples
    assert sample.value == 1
    assert sample.labels["block_size"] == "16"
    assert sample.labels["num_gpu_blocks"] == "123"


def test_adapters_are_told_as_labels_and_the_latest_set_has_the_latest_time() -> None:
    engine = Engine(EngineConfig(max_loras=1))
    metrics = Metrics("m")
    metrics.note_adapters(engine, 1.0)
    engine.submit(request("a", adapter="sql"), 0.0)
    engine.submit(request("b", adapter="law"), 0.0)
    metrics.note_adapters(engine, 2.0)
    samples = read(metrics.page(engine, scripted=0, unix_time=3.5))["vllm:lora_requests_info"].samples
    assert [(sample.labels, sample.value) for sample in samples] == [
        ({"max_lora": "1", "running_lora_adapters": "", "waiting_lora_adapters": ""}, 1.0),
        ({"max_lora": "1", "running_lora_adapters": "sql", "waiting_lora_adapters": "law"}, 3.5),
    ]


def test_old_sets_of_adapters_are_forgotten() -> None:
    metrics = Metrics("m")
    engine = Engine()
    for number in range(MAX_ADAPTER_SETS + 10):
        engine.submit(request(str(number), adapter=f"a{number}"), 0.0)
        metrics.note_adapters(engine, float(number))
    samples = read(metrics.page(engine, scripted=0, unix_time=999.0))["vllm:lora_requests_info"].samples
    assert len(samples) == MAX_ADAPTER_SETS
    assert min(sample.value for sample in samples) == 10


def test_an_engine_without_adapters_tells_nothing_of_them() -> None:
    assert "vllm:lora_requests_info" not in page_of(Engine(EngineConfig(max_loras=0)))


def test_names_with_special_characters_survive() -> None:
    name = 'a "b"\\c\nd'
    families = page_of(Engine(), model=name)
    assert families["vllm:num_requests_running"].samples[0].labels["model_name"] == name
