import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from support.snapshots import P, snapshot

from extproc.outcome.outcome import UNKNOWN, Outcome
from extproc.protocol.events import TokenUsage
from extproc.telemetry.finished import Ended
from extproc.telemetry.tracing import Tracing
from scheduler.builder import build
from scheduler.config import SchedulerConfig
from scheduler.cycle import schedule
from scheduler.registry import in_tree_registry
from scheduler.types import Prompt, Request

SAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED = SAMPLED[:-1] + "0"
REQUEST = Request(
    id="r-1",
    model="m",
    prompt=Prompt(["text that fills a block, so that there is something to match against what pods hold" * 2]),
)


def ended(**changes: Any) -> Ended:
    profile, _ = build(SchedulerConfig(), in_tree_registry())
    decision = schedule(profile, REQUEST, snapshot(P(), P()), now=0.0, rng=random.Random(1))
    outcome = Outcome(status=200, served="10.0.0.9:80", attempts=2, ttft=0.1, usage=TokenUsage(10, 4, 5))
    told = Ended(
        at=1000.0,
        seconds=2.0,
        decision_seconds=0.0001,
        model="asked",
        pool="small",
        request=REQUEST,
        decision=decision,
        outcome=outcome,
        subject="someone",
        traceparent=SAMPLED,
    )
    return msgspec.structs.replace(told, **changes)


class Traced:
    """Tracing into memory; `roll` is what the dice show."""

    def __init__(self) -> None:
        self.roll = 0.5
        self._exporter = InMemorySpanExporter()
        self.tracing = Tracing("http://unused", 0.4, lambda: self.roll, exporter=self._exporter)

    def spans(self, told: Ended) -> dict[str, ReadableSpan]:
        self.tracing.ended(told)
        self.tracing._provider.force_flush()
        spans = {span.name: span for span in self._exporter.get_finished_spans()}
        self._exporter.clear()
        return spans


@pytest.fixture
def traced() -> Iterator[Traced]:
    traced = Traced()
    yield traced
    traced.tracing.close()


def test_a_request_and_its_decision_in_the_clients_trace(traced: Traced) -> None:
    spans = traced.spans(ended())
    outer, inner = spans["infer_gateway.request"], spans["infer_gateway.decide"]
    assert outer.context is not None
    assert inner.parent is not None
    assert outer.parent is not None
    assert f"{outer.context.trace_id:032x}" == SAMPLED[3:35]
    assert f"{outer.parent.span_id:016x}" == SAMPLED[36:52]
    assert inner.parent.span_id == outer.context.span_id
    assert (outer.start_time, outer.end_time) == (998 * 10**9, 1000 * 10**9)
    assert (inner.start_time, inner.end_time) == (998 * 10**9, 998 * 10**9 + 100_000)
    told = dict(outer.attributes or {})
    assert (told["gen_ai.request.model"], told["infer_gateway.pool"]) == ("asked", "small")
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (10, 5)
    assert (told["http.response.status_code"], told["server.address"]) == (200, "10.0.0.9:80")
    assert "infer_gateway.score.least-request" in (inner.attributes or {})
    assert (inner.attributes or {})["infer_gateway.prefix_match"] == 0.0
    assert outer.status.status_code is StatusCode.UNSET


def test_the_clients_flag_decides(traced: Traced) -> None:
    traced.roll = 0.0
    assert traced.spans(ended(traceparent=UNSAMPLED)) == {}


@pytest.mark.parametrize(("roll", "wanted"), [(0.39, True), (0.41, False)])
@pytest.mark.parametrize("traceparent", ["", "garbage"])
def test_without_trace_context_the_dice_do(traced: Traced, roll: float, wanted: bool, traceparent: str) -> None:
    traced.roll = roll
    assert bool(traced.spans(ended(traceparent=traceparent))) is wanted


def test_a_context_that_only_looks_like_one_starts_a_trace(traced: Traced) -> None:
    spans = traced.spans(ended(traceparent="x" * 54 + "1"))
    assert spans["infer_gateway.request"].parent is None


@pytest.mark.parametrize(
    ("outcome", "code"),
    [(UNKNOWN, StatusCode.ERROR), (Outcome(status=503), StatusCode.ERROR), (Outcome(status=404), StatusCode.UNSET)],
)
def test_failures_are_marked(traced: Traced, outcome: Outcome, code: StatusCode) -> None:
    span = traced.spans(ended(outcome=outcome))["infer_gateway.request"]
    assert span.status.status_code is code
    assert "server.address" in (span.attributes or {})


def test_what_nobody_looked_at_is_not_told(traced: Traced) -> None:
    told = ended()
    spans = traced.spans(ended(decision=msgspec.structs.replace(told.decision, prefix_match=None)))
    assert "infer_gateway.prefix_match" not in (spans["infer_gateway.decide"].attributes or {})
