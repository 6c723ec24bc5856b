import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.telemetry.trace_context import Sampler

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def sampler(ratio: float = 0.0) -> Sampler:
    return Sampler(ratio, random.Random(1))


def test_a_sampled_request_gets_a_span_under_its_clients() -> None:
    context = sampler().begin(f"00-{TRACE}-{PARENT}-01")
    assert context is not None
    assert (context.trace, context.parent) == (TRACE, PARENT)
    assert context.span not in (PARENT, "0" * 16)
    assert context.header == f"00-{TRACE}-{context.span}-01"


@pytest.mark.parametrize("flags", ["00", "02"])
def test_the_clients_flag_decides(flags: str) -> None:
    assert sampler(1.0).begin(f"00-{TRACE}-{PARENT}-{flags}") is None


@pytest.mark.parametrize(
    "header",
    [
        "",
        "garbage",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"ff-{TRACE}-{PARENT}-01",
    ],
)
def test_without_a_valid_context_the_ratio_decides_and_a_trace_begins(header: str) -> None:
    assert sampler(0.0).begin(header) is None
    context = sampler(1.0).begin(header)
    assert context is not None
    assert (context.parent, context.trace == TRACE) == ("", False)


def test_the_share() -> None:
    one = sampler(0.25)
    assert 200 < sum(one.begin("") is not None for _ in range(1000)) < 300


@given(st.text())
def test_any_header_gives_a_valid_one_or_none(header: str) -> None:
    context = sampler(1.0).begin(header)
    assert context is None or re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", context.header)
