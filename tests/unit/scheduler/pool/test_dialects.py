import pytest

from scheduler.pool.dialects import DIALECTS, LLAMACPP, SGLANG, SIGNALS, TRTLLM, VLLM, Dialect, custom


def test_by_name() -> None:
    assert DIALECTS == {"vllm": VLLM, "sglang": SGLANG, "trtllm": TRTLLM, "llamacpp": LLAMACPP}


def test_signals_are_the_fields_that_hold_names() -> None:
    assert set(SIGNALS) == set(Dialect.__struct_fields__) - {"name", "path", "health_path", "closes_connections"}


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=str)
def test_every_engine_tells_its_load_in_names_that_a_user_might_write(dialect: Dialect) -> None:
    assert dialect.waiting
    assert dialect.running
    written = {signal: getattr(dialect, signal) for signal in SIGNALS}
    mine = custom(written, name=dialect.name, path=dialect.path)
    assert {signal: getattr(mine, signal) for signal in SIGNALS} == written
    assert (mine.name, mine.path) == (dialect.name, dialect.path)


def test_custom() -> None:
    dialect = custom(
        {"waiting": "my:waiting", "kv_usage": ["a", 'b{type="fraction",x="\\""}']}, name="mine", path="/stats"
    )
    assert dialect == Dialect(
        name="mine", path="/stats", waiting=("my:waiting",), kv_usage=("a", 'b{type="fraction",x="\\""}')
    )


def test_custom_keeps_what_it_does_not_mention() -> None:
    dialect = custom({"waiting": "my:waiting"}, base=VLLM)
    assert dialect.waiting == ("my:waiting",)
    assert dialect.running == VLLM.running


def test_unknown_signal() -> None:
    with pytest.raises(ValueError, match="unknown signal 'queued'; one of waiting, running, kv_usage"):
        custom({"queued": "x"})


@pytest.mark.parametrize("name", ["", "1x", "x y", "x{", "x{}", "x{a}", "x{a=b}", 'x{a="b"', 'x{a="b"}1', "é"])
def test_no_metric_name(name: str) -> None:
    with pytest.raises(ValueError, match="waiting: .* is no metric name"):
        custom({"waiting": name})
