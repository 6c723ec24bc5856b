import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

from scheduler.pool.dialects import DIALECTS, LLAMACPP, SGLANG, TRTLLM, VLLM, Dialect, custom
from scheduler.pool.signals import NOTHING, NotMetrics, Sample, SignalReader
from scheduler.types import NO_ADAPTERS, Adapters

MINE = custom(
    {"waiting": "w", "running": "r", "kv_usage": "kv", "ttft": ["t", "old_t"], "adapters": "lora"}, name="mine"
)


def read(text: str, dialect: Dialect = MINE) -> Sample:
    return SignalReader(dialect).read(text.encode())


class Engine:
    """A page as the Python client writes it, with all signals of a dialect under the names at one place of its lists."""

    def __init__(self, dialect: Dialect, place: int = 0) -> None:
        self.registry = CollectorRegistry()
        self.gauges = {
            signal: Gauge(self._name(getattr(dialect, signal), place), "Text.", ["engine"], registry=self.registry)
            for signal in ("waiting", "running", "kv_usage")
        }
        self.histograms = {
            signal: Histogram(self._name(names, place), "Text.", ["engine"], registry=self.registry)
            for signal in ("ttft", "tpot")
            if (names := getattr(dialect, signal))
        }

    @staticmethod
    def _name(names: Sequence[str], place: int) -> str:
        return names[min(place, len(names) - 1)]

    def page(self) -> bytes:
        return generate_latest(self.registry)


@pytest.mark.parametrize("place", [0, 1], ids=["current", "old"])
@pytest.mark.parametrize("dialect", [VLLM, SGLANG, TRTLLM, LLAMACPP], ids=lambda dialect: dialect.name)
def test_dialects(dialect: Dialect, place: int) -> None:
    engine, reader = Engine(dialect, place), SignalReader(dialect)
    engine.gauges["waiting"].labels("0").set(3)
    engine.gauges["running"].labels("0").set(7)
    engine.gauges["kv_usage"].labels("0").set(0.25)
    for histogram in engine.histograms.values():
        histogram.labels("0").observe(100.0)
    assert reader.read(engine.page()) == Sample(waiting=3, running=7, kv_usage=0.25)
    for seconds, histogram in enumerate(engine.histograms.values(), 1):
        histogram.labels("0").observe(seconds)
        histogram.labels("0").observe(seconds)
    told = Sample(waiting=3, running=7, kv_usage=0.25, ttft=1.0, tpot=2.0, first_tokens=2)
    assert reader.read(engine.page()) == (told if engine.histograms else Sample(waiting=3, running=7, kv_usage=0.25))


@pytest.mark.parametrize("dialect", [VLLM, TRTLLM], ids=lambda dialect: dialect.name)
def test_openmetrics(dialect: Dialect) -> None:
    engine, reader = Engine(dialect), SignalReader(dialect)
    engine.gauges["waiting"].labels("0").set(3)
    engine.histograms["ttft"].labels("0").observe(100.0, {"trace_id": "x"})
    assert reader.read(openmetrics(engine.registry)) == Sample(waiting=3)
    engine.histograms["ttft"].labels("0").observe(2.0, {"trace_id": "y"})
    assert reader.read(openmetrics(engine.registry)) == Sample(waiting=3, ttft=2.0, first_tokens=1)


def test_names_with_underscores_for_colons_are_other_names_elsewhere() -> None:
    assert read("vllm_num_requests_waiting 3\n", VLLM) == NOTHING


def test_ranks_are_summed_and_their_kv_usage_averaged() -> None:
    engine = Engine(VLLM)
    for rank, (waiting, running, usage) in enumerate([(1, 2, 0.9), (0, 4, 0.1), (5, 6, 0.5)]):
        engine.gauges["waiting"].labels(str(rank)).set(waiting)
        engine.gauges["running"].labels(str(rank)).set(running)
        engine.gauges["kv_usage"].labels(str(rank)).set(usage)
    sample = SignalReader(VLLM).read(engine.page())
    assert (sample.waiting, sample.running) == (6, 12)
    assert sample.kv_usage == pytest.approx(0.5)


def test_the_current_name_wins_over_the_old_one() -> None:
    page = "vllm:gpu_cache_usage_perc 0.9\nvllm:kv_cache_usage_perc 0.1\n"
    assert read(page, VLLM).kv_usage == 0.1


def test_an_engine_that_changes_names_is_followed() -> None:
    reader = SignalReader(VLLM)
    for name in ("kv_cache", "gpu_cache", "gpu_cache", "kv_cache"):
        assert reader.read(f"vllm:{name}_usage_perc 0.5\n".encode()).kv_usage == 0.5


def test_series_chosen_by_labels() -> None:
    page = 'nv_m{request_type="waiting",model="m"} 4\nnv_m{request_type="scheduled",model="m"} 9\n'
    triton = custom({"waiting": 'nv_m{request_type="waiting"}', "running": 'nv_m{request_type="scheduled",model="m"}'})
    assert read(page, triton) == Sample(waiting=4, running=9)
    assert read(page, custom({"waiting": 'nv_m{request_type="other"}'})) == NOTHING


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-1", "x"])
def test_values_that_make_no_sense_are_unknown(value: str) -> None:
    assert (
        read(f"# x\nw {value}\nr {value}\nkv {value}\n# TYPE t histogram\nt_sum {value}\nt_count {value}\n") == NOTHING
    )


def test_one_rank_without_a_value_makes_the_sum_unknown() -> None:
    assert read('w{rank="0"} 1\nw{rank="1"} NaN\n').waiting is None


def test_kv_usage_is_at_most_1() -> None:
    assert read("kv 1.02\n").kv_usage == 1.0


def histogram(total: float, count: float, name: str = "t") -> bytes:
    return f"# TYPE {name} histogram\n{name}_count {count}\n{name}_sum {total}\n".encode()


@pytest.mark.parametrize(
    ("page", "dialect", "tokens"),
    [
        ('vllm:cache_config_info{block_size="16",num_gpu_blocks="1000"} 1', VLLM, 16_000),
        (
            'vllm:cache_config_info{r="0",block_size="16",num_gpu_blocks="9"} 1\nvllm:cache_config_info{r="1",block_size="16",num_gpu_blocks="6"} 1',
            VLLM,
            240,
        ),
        ('vllm:cache_config_info{block_size="16",num_gpu_blocks="None"} 1', VLLM, None),
        ('vllm:cache_config_info{enable_prefix_caching="True"} 1', VLLM, None),
        ('sglang:max_total_num_tokens{model_name="m"} 471258', SGLANG, 471_258),
        ('sglang:cache_config_info{page_size="64",num_pages="100"} 1', SGLANG, 6_400),
        ("sglang:max_total_num_tokens NaN", SGLANG, None),
    ],
)
def test_the_size_of_the_kv_cache(page: str, dialect: Dialect, tokens: float | None) -> None:
    assert read(page + "\n", dialect).kv_tokens == tokens


class TestHistogram:
    def test_mean_of_what_is_new(self) -> None:
        reader = SignalReader(MINE)
        assert reader.read(histogram(1000, 10)).ttft is None
        assert reader.read(histogram(1001, 14)).ttft == 0.25
        assert reader.read(histogram(1001, 14)).ttft is None
        assert reader.read(histogram(1003, 15)).ttft == 2.0

    def test_over_all_ranks(self) -> None:
        reader = SignalReader(MINE)
        for first, second, mean in ((0, 0, None), (1, 3, 1.0)):
            page = f't_sum{{r="0"}} {first}\nt_count{{r="0"}} {first}\nt_sum{{r="1"}} {second}\nt_count{{r="1"}} {second}\n'
            assert reader.read(page.encode()).ttft == mean

    def test_a_count_that_goes_back_is_a_restart(self) -> None:
        reader = SignalReader(MINE)
        reader.read(histogram(1000, 10))
        assert reader.read(histogram(1, 4)) == Sample(ttft=0.25, first_tokens=4, restarted=True)
        assert reader.read(histogram(2, 5)) == Sample(ttft=1.0, first_tokens=1)
        assert reader.read(histogram(0, 0)) == Sample(restarted=True)

    def test_a_page_without_it_changes_nothing(self) -> None:
        reader = SignalReader(MINE)
        reader.read(histogram(10, 10))
        assert reader.read(b"w 1\n").ttft is None
        assert reader.read(b"# TYPE t histogram\nt_sum 9\n").ttft is None
        assert reader.read(b"# TYPE t histogram\nt_count 9\n").ttft is None
        assert reader.read(histogram(12, 11)).ttft == 2.0

    def test_another_name_is_not_compared_with_the_first(self) -> None:
        reader = SignalReader(MINE)
        reader.read(histogram(10, 10))
        assert reader.read(histogram(1, 1, "old_t")) == NOTHING
        assert reader.read(histogram(3, 2, "old_t")).ttft == 2.0

    def test_a_sum_that_falls_while_the_count_grows_is_a_restart(self) -> None:
        """An engine that started anew and has served more than before: longer between two pages than it ran."""
        reader = SignalReader(MINE)
        reader.read(histogram(100, 10))
        sample = reader.read(histogram(5, 11))
        assert sample.restarted
        assert sample.ttft == 5 / 11
        assert not reader.read(histogram(5, 11)).restarted

    @given(st.lists(st.lists(st.floats(0, 100), max_size=5), min_size=1, max_size=5))
    def test_agrees_with_the_observations(self, scrapes: list[list[float]]) -> None:
        reader, total, count = SignalReader(MINE), 0.0, 0
        reader.read(histogram(0, 0))
        for observed in scrapes:
            total, count = total + math.fsum(observed), count + len(observed)
            sample = reader.read(histogram(total, count))
            assert not sample.restarted
            if observed:
                assert sample.ttft == pytest.approx(math.fsum(observed) / len(observed), abs=1e-9)
            else:
                assert sample.ttft is None


class TestAdapters:
    def line(self, running: str, waiting: str, capacity: str, at: float) -> str:
        labels = f'max_lora="{capacity}",running_lora_adapters="{running}",waiting_lora_adapters="{waiting}"'
        return f"lora{{{labels}}} {at}\n"

    def test_the_newest_holds(self) -> None:
        page = self.line("a,b", "c", "4", 20) + self.line("a", "", "4", 10)
        assert read(page).adapters == Adapters(frozenset("ab"), frozenset("c"), 4)

    def test_of_equal_times_the_last(self) -> None:
        page = self.line("a", "", "4", 1.76e9) + self.line(" b , ,c", "", "4", 1.76e9)
        assert read(page).adapters == Adapters(frozenset("bc"), frozenset(), 4)

    def test_a_reader_follows(self) -> None:
        reader = SignalReader(MINE)
        for name in ("a", "a", "b", ""):
            assert reader.read(self.line(name, "", "2", 1).encode()).adapters == Adapters(
                frozenset(name), frozenset(), 2
            )

    @pytest.mark.parametrize("capacity", ["", "many", "-1", "٣", "9" * 5000])
    def test_capacity_that_is_no_number_is_unknown(self, capacity: str) -> None:
        assert read(self.line("a", "", capacity, 1)).adapters == Adapters(frozenset("a"), frozenset(), 0)

    def test_without_labels_there_are_none(self) -> None:
        assert read("lora 1\n").adapters == NO_ADAPTERS

    def test_a_time_that_is_no_number_does_not_hold(self) -> None:
        assert read(self.line("a", "", "4", 5) + self.line("b", "", "4", math.nan)).adapters == Adapters(
            frozenset("a"), frozenset(), 4
        )


class TestRestart:
    @pytest.mark.parametrize(
        ("first", "second", "restarted"),
        [("1000", "1000", False), ("1000", "1000.9", False), ("1000", "1002", True), ("1000", "900", True)]
        + [("NaN", "1000", False), ("1000", "NaN", False)],
    )
    def test_the_start_time_moves(self, first: str, second: str, restarted: bool) -> None:
        reader = SignalReader(MINE)
        assert not reader.read(f"process_start_time_seconds {first}\n".encode()).restarted
        assert reader.read(f"process_start_time_seconds {second}\n".encode()).restarted == restarted

    def test_pages_without_it_in_between(self) -> None:
        reader = SignalReader(MINE)
        pages = (b"process_start_time_seconds 1000\n", b"w 1\n", b"process_start_time_seconds 2000\nw 1\n")
        assert [reader.read(page).restarted for page in pages] == [False, False, True]


@pytest.mark.parametrize("page", ["<html>w 1</html>", '{"w": 1}', "\x7fELF", "Not Found"])
def test_a_page_that_is_no_exposition(page: str) -> None:
    with pytest.raises(NotMetrics, match="not in Prometheus' text format"):
        read(page)


@pytest.mark.parametrize("page", ["", "# nothing here\n", "other 1\n"])
def test_an_exposition_of_other_things_says_nothing(page: str) -> None:
    assert read(page) == NOTHING


fragments = st.sampled_from(
    [
        b"vllm:num_requests_waiting",
        b"sglang:token_usage",
        b"# TYPE ",
        b"_sum",
        b"_count",
        b"{",
        b"}",
        b'"',
        b"\\",
        b" ",
        b"1",
    ]
    + [
        b"\n",
        b"NaN",
        b'vllm:lora_requests_info{max_lora="9"} 1\n',
        b"vllm:time_to_first_token_seconds",
        b"#",
        b" gauge\n",
    ]
    + [b"process_start_time_seconds 5\n", b"\xff", b"\x00"]
)


@given(st.lists(st.lists(fragments, max_size=30).map(b"".join), min_size=1, max_size=3))
def test_no_page_breaks_a_reader(pages: list[bytes]) -> None:
    for dialect in DIALECTS.values():
        reader = SignalReader(dialect)
        for page in pages:
            try:
                sample = reader.read(page)
            except NotMetrics:
                continue
            for value in (sample.waiting, sample.running, sample.kv_usage, sample.ttft, sample.tpot):
                assert value is None or 0 <= value < math.inf
