"""How each engine names its signals: data, not code.

A signal is a list of metric names in order of preference: those of current versions, then those of older ones. A
name may be followed by label values that its series must have: `nv_trt_llm_request_metrics{request_type="waiting"}`.
"""

import re
from collections.abc import Mapping, Sequence

import msgspec

#: Part of every client library's standard metrics.
_STARTED = ("process_start_time_seconds",)


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """Names by signal. An empty list: the engine does not report it, and the signal stays unknown."""

    #: For logs.
    name: str
    #: Where the engine has its metrics page.
    path: str = "/metrics"
    #: Gauges, summed over series (data-parallel ranks): requests in the queue, and requests being computed.
    waiting: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    #: Gauge 0-1, averaged over series: the engine spreads its requests over its ranks itself, so what counts for the
    #: next request is how full the pod is, not how full its fullest rank is.
    kv_usage: tuple[str, ...] = ()
    #: Path at which the engine reports that it can serve.
    health_path: str = "/health"
    #: The engine closes connections after an answer without saying so: the next request on one would be reset, and
    #: retried at another pod though the pick was right.
    closes_connections: bool = False
    #: Histograms in seconds, without `_sum` and `_count`: time to first token, time per output token.
    ttft: tuple[str, ...] = ()
    tpot: tuple[str, ...] = ()
    #: Gauge with labels `running_lora_adapters`, `waiting_lora_adapters` (names, comma-separated) and `max_lora`; its
    #: value is a time, and the series with the newest is what holds.
    adapters: tuple[str, ...] = ()
    #: Size of the KV cache in tokens: a gauge, or one that has it in its labels, as `block_size` and `num_gpu_blocks`,
    #: or as `page_size` and `num_pages`. Summed over series.
    kv_tokens: tuple[str, ...] = ()
    #: Gauge: when the engine's process started, Unix seconds.
    started: tuple[str, ...] = _STARTED


#: Names of the signals, as they are written in the configuration.
SIGNALS = ("waiting", "running", "kv_usage", "ttft", "tpot", "adapters", "kv_tokens", "started")

VLLM = Dialect(
    name="vllm",
    waiting=("vllm:num_requests_waiting",),
    running=("vllm:num_requests_running",),
    kv_usage=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    ttft=("vllm:time_to_first_token_seconds",),
    tpot=("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
    adapters=("vllm:lora_requests_info",),
    kv_tokens=("vllm:cache_config_info",),
)

SGLANG = Dialect(
    name="sglang",
    waiting=("sglang:num_queue_reqs",),
    running=("sglang:num_running_reqs",),
    kv_usage=("sglang:token_usage",),
    ttft=("sglang:time_to_first_token_seconds",),
    tpot=("sglang:inter_token_latency_seconds", "sglang:time_per_output_token_seconds"),
    kv_tokens=("sglang:max_total_num_tokens", "sglang:cache_config_info"),
)

#: `trtllm-serve`. Its `/metrics` is JSON; the exposition is elsewhere.
TRTLLM = Dialect(
    name="trtllm",
    path="/prometheus/metrics",
    waiting=("trtllm_num_requests_waiting",),
    running=("trtllm_num_requests_running",),
    kv_usage=("trtllm_kv_cache_utilization",),
    ttft=("trtllm_time_to_first_token_seconds",),
    tpot=("trtllm_time_per_output_token_seconds",),
)

#: llama.cpp's server, started with `--metrics`. Newer builds have no gauge of the KV cache, and none has histograms.
LLAMACPP = Dialect(
    name="llamacpp",
    waiting=("llamacpp:requests_deferred",),
    running=("llamacpp:requests_processing",),
    kv_usage=("llamacpp:kv_cache_usage_ratio",),
    closes_connections=True,
)

DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in (VLLM, SGLANG, TRTLLM, LLAMACPP)}

#: A metric name, perhaps with label values that a series must have.
_NAME = re.compile(r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{[a-zA-Z_]\w*="([^"\\]|\\.)*"(,[a-zA-Z_]\w*="([^"\\]|\\.)*")*\})?')


def custom(
    signals: Mapping[str, str | Sequence[str]],
    *,
    name: str = "custom",
    path: str = "/metrics",
    base: Dialect | None = None,
) -> Dialect:
    """A dialect as a user writes it: names, or one name, by signal. Signals not mentioned are as in `base`.

    Raises:
        ValueError: a signal is not one of `SIGNALS`, or a name is invalid.
    """
    given = {signal: (names,) if isinstance(names, str) else tuple(names) for signal, names in signals.items()}
    for signal, names in given.items():
        if signal not in SIGNALS:
            raise ValueError(f"unknown signal {signal!r}; one of {', '.join(SIGNALS)}")
        for metric in names:
            if _NAME.fullmatch(metric) is None:
                raise ValueError(
                    f'{signal}: {metric!r} is no metric name, nor one with labels as in name{{label="value"}}'
                )
    return msgspec.structs.replace(base or Dialect(name=name), name=name, path=path, **given)
