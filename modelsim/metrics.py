"""The `/metrics` page, with vLLM's names, labels, types and buckets."""

from bisect import bisect_left
from collections.abc import Sequence

from modelsim.engine import Engine
from modelsim.events import Event, Finished, FirstToken
from modelsim.profile import BLOCK_SIZE

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Sets of adapters that `vllm:lora_requests_info` remembers. vLLM remembers every set it ever had, as a series whose
#: value is the moment at which it was last true; readers take the latest. Some are kept here, so that readers must.
MAX_ADAPTER_SETS = 64

_TTFT_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0,
    640.0, 2560.0,
)  # fmt: skip
_ITL_BUCKETS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
_LATENCY_BUCKETS = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)  # fmt: skip

_FINISHED_REASONS = ("stop", "length", "abort")


class _Histogram:
    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, model_label: str) -> list[str]:
        lines = []
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{engine="0",le="{bound}",{model_label}}} {total}.0')
        labels = f'engine="0",{model_label}'
        return [*lines, f"{name}_count{{{labels}}} {total}.0", f"{name}_sum{{{labels}}} {self._sum}"]


class Metrics:
    """Counts what one engine's events tell, since its start."""

    def __init__(self, model: str) -> None:
        self._model_label = f'model_name="{_escaped(model)}"'
        self._prompt_tokens = 0
        self._generation_tokens = 0
        self._finished = dict.fromkeys(_FINISHED_REASONS, 0)
        self._ttft = _Histogram(_TTFT_BUCKETS)
        self._itl = _Histogram(_ITL_BUCKETS)
        self._latency = _Histogram(_LATENCY_BUCKETS)
        self._queued = _Histogram(_LATENCY_BUCKETS)
        # (running, waiting) -> Unix time, latest last.
        self._adapter_sets: dict[tuple[str, str], float] = {}

    def observe(self, event: Event) -> None:
        if isinstance(event, FirstToken):
            self._prompt_tokens += event.prompt_tokens
            self._generation_tokens += 1
            self._ttft.observe(event.ttft)
        elif isinstance(event, Finished):
            if not event.completion_tokens:
                self._prompt_tokens += event.prompt_tokens
            self._latency.observe(event.latency)
            self._queued.observe(event.queued)
        else:
            self._generation_tokens += 1
            self._itl.observe(event.gap)

    def count_finished(self, reason: str) -> None:
        """`reason` is stop, length or abort."""
        self._finished[reason] += 1

    def note_adapters(self, engine: Engine, unix_time: float) -> None:
        """Remembers which adapters run and wait now."""
        key = (",".join(engine.running_adapters), ",".join(engine.waiting_adapters))
        self._adapter_sets.pop(key, None)
        self._adapter_sets[key] = unix_time
        if len(self._adapter_sets) > MAX_ADAPTER_SETS:
            del self._adapter_sets[next(iter(self._adapter_sets))]

    def page(self, engine: Engine, *, scripted: int, unix_time: float) -> bytes:
        """The page; `scripted` requests are running besides the engine's."""
        # Labels in alphabetical order, as prometheus_client writes them.
        labels = f'engine="0",{self._model_label}'
        lines: list[str] = []

        def family(name: str, kind: str, text: str, samples: Sequence[str]) -> None:
            lines.extend((f"# HELP {name} {text}", f"# TYPE {name} {kind}", *samples))

        def gauge(name: str, text: str, value: float) -> None:
            family(name, "gauge", text, [f"{name}{{{labels}}} {float(value)}"])

        def counter(name: str, text: str, value: float) -> None:
            family(name, "counter", text, [f"{name}{{{labels}}} {float(value)}"])

        def histogram(name: str, text: str, value: _Histogram) -> None:
            family(name, "histogram", text, value.lines(name, self._model_label))

        gauge("vllm:num_requests_running", "Requests in model execution batches.", engine.running + scripted)
        gauge("vllm:num_requests_waiting", "Requests waiting to be processed.", engine.waiting)
        gauge("vllm:kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", engine.kv_usage)
        counter("vllm:prefix_cache_queries_total", "Queried tokens of the prefix cache.", engine.prefix_queries)
        counter("vllm:prefix_cache_hits_total", "Cached tokens of the prefix cache.", engine.prefix_hits)
        counter("vllm:num_preemptions_total", "Preemptions by the engine.", 0)
        counter("vllm:prompt_tokens_total", "Prefill tokens processed.", self._prompt_tokens)
        counter("vllm:generation_tokens_total", "Generation tokens processed.", self._generation_tokens)
        name = "vllm:request_success_total"
        samples = [
            f'{name}{{engine="0",finished_reason="{reason}",{self._model_label}}} {float(count)}'
            for reason, count in self._finished.items()
        ]
        family(name, "counter", "Successfully processed requests.", samples)
        histogram("vllm:time_to_first_token_seconds", "Time to first token in seconds.", self._ttft)
        histogram("vllm:inter_token_latency_seconds", "Inter-token latency in seconds.", self._itl)
        histogram("vllm:e2e_request_latency_seconds", "End-to-end request latency in seconds.", self._latency)
        histogram("vllm:request_queue_time_seconds", "Time in the WAITING phase.", self._queued)
        name = "vllm:cache_config_info"
        config = f'block_size="{BLOCK_SIZE}",cache_dtype="auto",enable_prefix_caching="True",engine="0"'
        blocks = f'num_gpu_blocks="{engine.config.num_blocks}"'
        family(name, "gauge", "Information of the LLMEngine CacheConfig", [f"{name}{{{config},{blocks}}} 1.0"])
        if engine.config.max_loras:
            self.note_adapters(engine, unix_time)
            name = "vllm:lora_requests_info"
            family(name, "gauge", "Running stats on lora requests.", self._adapter_lines(name, engine.config.max_loras))
        return ("\n".join(lines) + "\n").encode()

    def _adapter_lines(self, name: str, slots: int) -> list[str]:
        return [
            f'{name}{{max_lora="{slots}",running_lora_adapters="{_escaped(running)}"'
            f',waiting_lora_adapters="{_escaped(waiting)}"}} {moment}'
            for (running, waiting), moment in self._adapter_sets.items()
        ]


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
