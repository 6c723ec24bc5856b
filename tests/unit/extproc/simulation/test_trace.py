import contextlib
import gzip
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.simulation.calls import Call
from extproc.simulation.prompts import text
from extproc.simulation.trace import MAX_LINE, Trace, TraceError, read, write

MOONCAKE = Path(__file__).parents[3] / "data" / "traces" / "mooncake-synthetic.jsonl.gz"


def written(path: Path, *lines: Any) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def row(**fields: Any) -> dict[str, Any]:
    return {"timestamp": 0, "input_length": 1000, "output_length": 5, "hash_ids": [1, 2]} | fields


def test_mooncakes_own_trace_is_read() -> None:
    trace = read(MOONCAKE)
    assert trace.size == 3993
    assert trace.seconds == pytest.approx(1022.025)
    first = trace.calls[0]
    assert (first.prompt_tokens, first.output_tokens, first.blocks[:3], len(first.blocks)) == (40160, 6, (0, 1, 2), 79)


def test_requests_are_put_in_order_and_the_first_comes_at_once(tmp_path: Path) -> None:
    path = written(tmp_path / "t", row(timestamp=9500.5, tenant="a"), "", row(timestamp=9000, model="m"))
    trace = read(path)
    assert [(call.at, call.tenant, call.model) for call in trace.calls] == [(0.0, "", "m"), (0.5005, "a", "")]


def test_what_is_compressed_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(gzip.compress(json.dumps(row()).encode()))
    assert read(path).size == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", ":2: "),
        ("[]", ":2: "),
        ('{"timestamp": 1}', "input_length"),
        (row(timestamp=-1), "timestamp"),
        (row(timestamp="1"), "timestamp"),
        (row(input_length=1.5), "input_length"),
        (row(output_length=10**12), "output_length"),
        (row(hash_ids=[]), "0 hash_ids for 1,000 tokens"),
        (row(hash_ids=[1, 2, 3]), "--block-tokens"),
        (row(hash_ids=["a"]), "hash_ids"),
        ('{"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": ' + "[" * 100_000, ":2: "),
        ('{"timestamp": ' + "1" * (MAX_LINE + 5), "a line has more than"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: Any, said: str) -> None:
    path = written(tmp_path / "t", row(), line)
    with pytest.raises(TraceError, match=":2: ") as caught:
        read(path)
    assert said in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\x1f\x8bnot really", b"\xff\xfe"])
def test_a_file_that_is_no_trace_is_one_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t"
    path.write_bytes(content)
    with pytest.raises(TraceError):
        read(path)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="cannot be read"):
        read(tmp_path / "none")


@given(st.binary(max_size=200))
def test_garbage_is_read_or_is_one_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("garbage") / "t"
    path.write_bytes(content)
    with contextlib.suppress(TraceError):
        read(path)


def test_names_of_full_blocks_alone_are_enough(tmp_path: Path) -> None:
    path = written(tmp_path / "t", row(hash_ids=[1]), row(hash_ids=[1]))
    one, other = read(path).calls
    assert len(one.blocks) == len(other.blocks) == 2
    assert one.blocks[0] == other.blocks[0]
    assert one.blocks[1] != other.blocks[1]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    trace = Trace([Call(0.0, 700, 3, (5, 6), tenant="t", model="m"), Call(1.25, 16, 1, (5,))])
    write(tmp_path / "t", trace)
    found = read(tmp_path / "t")
    fields = ("at", "prompt_tokens", "output_tokens", "blocks", "tenant", "model")
    for mine, other in zip(trace.calls, found.calls, strict=True):
        assert [getattr(mine, name) for name in fields] == [getattr(other, name) for name in fields]


def test_a_trace_is_made_faster_spread_and_cut_into_halves() -> None:
    trace = Trace([Call(float(at), 16, 1, (at,)) for at in range(11)])
    assert trace.faster(2.0).seconds == 5.0
    spread = trace.spread(3.0, Random(1))
    assert all(0 <= call.at - call.blocks[0] < 3.0 for call in spread.calls)
    assert [call.at for call in spread.calls] == sorted(call.at for call in spread.calls)
    first, second = trace.halves()
    assert [call.blocks[0] for call in first.calls] == [0, 1, 2, 3, 4]
    assert [(call.blocks[0], call.at) for call in second.calls][:2] == [(5, 0.0), (6, 1.0)]


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=6), st.lists(st.integers(0, 3), min_size=1, max_size=6),
    st.integers(1, 16),
)  # fmt: skip
def test_prompts_agree_in_text_as_far_as_in_names(one: list[int], other: list[int], last: int) -> None:
    def prompt(names: list[int]) -> bytes:
        return text(Call(0.0, (len(names) - 1) * 16 + last, 1, tuple(names)), 16)

    first, second = prompt(one), prompt(other)
    common = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    agreed = next((at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), None)
    assert len(first) == 4 * ((len(one) - 1) * 16 + last)
    if agreed is None:
        assert first.startswith(second) or second.startswith(first)
    else:
        assert common * 64 <= agreed < (common + 1) * 64
