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
from extproc.telemetry.finished import Ended, Refused
from extproc.telemetry.trace_context import TraceContext
from extproc.telemetry.tracing import Tracing
from scheduler.builder import build
from scheduler.config import SchedulerConfig
from scheduler.cycle import schedule
from scheduler.registry import in_tree_registry
from scheduler.types import Prompt, Request

TRACE = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "b7ad6b7169203331")
REFUSED = Refused(
    at=1000.0, seconds=0.5, request_id="r-2", path="/v1/embeddings", model="m", subject="someone", status=503,
    code="no_ready_endpoint", detail="cause", trace=TRACE,
)  # fmt: skip
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
        path="/v1/chat/completions",
        trace=TRACE,
    )
    return msgspec.structs.replace(told, **changes)


class Traced:
    """Tracing into memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracing = Tracing("http://unused", exporter=self._exporter)

    def spans(self, over: Ended | Refused) -> dict[str, ReadableSpan]:
        if isinstance(over, Refused):
            self.tracing.refused(over)
        else:
            self.tracing.ended(over)
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
    outer, inner = spans["chat asked"], spans["infer_gateway.decide"]
    assert outer.context is not None
    assert inner.parent is not None
    assert inner.context is not None
    assert outer.parent is not None
    assert f"{outer.context.trace_id:032x}" == TRACE.trace
    assert f"{outer.parent.span_id:016x}" == TRACE.parent
    assert f"{outer.context.span_id:016x}" == TRACE.span, "the span that the pod was told of"
    assert inner.parent.span_id == outer.context.span_id
    assert f"{inner.context.span_id:016x}" != TRACE.span
    assert (outer.start_time, outer.end_time) == (998 * 10**9, 1000 * 10**9)
    assert (inner.start_time, inner.end_time) == (998 * 10**9, 998 * 10**9 + 100_000)
    told = dict(outer.attributes or {})
    assert (told["gen_ai.request.model"], told["infer_gateway.pool"]) == ("asked", "small")
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (10, 5)
    assert (told["http.response.status_code"], told["server.address"]) == (200, "10.0.0.9:80")
    assert "infer_gateway.score.least-request" in (inner.attributes or {})
    assert (inner.attributes or {})["infer_gateway.prefix_match"] == 0.0
    assert outer.status.status_code is StatusCode.UNSET


def test_a_request_without_a_span_gets_none(traced: Traced) -> None:
    assert traced.spans(ended(trace=None)) == {}
    assert traced.spans(msgspec.structs.replace(REFUSED, trace=None)) == {}


def test_a_trace_that_begins_here_has_no_parent(traced: Traced) -> None:
    span = traced.spans(ended(trace=msgspec.structs.replace(TRACE, parent="")))["chat asked"]
    assert span.parent is None
    assert span.context is not None
    assert (f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}") == (TRACE.trace, TRACE.span)


def test_a_refusal_has_a_span(traced: Traced) -> None:
    span = traced.spans(REFUSED)["embeddings m"]
    assert (span.start_time, span.end_time) == (999_500_000_000, 1000 * 10**9)
    told = dict(span.attributes or {})
    assert (told["http.response.status_code"], told["error.type"], told["url.path"]) == (
        503,
        "no_ready_endpoint",
        REFUSED.path,
    )
    assert span.status.status_code is StatusCode.ERROR
    assert (
        traced.spans(msgspec.structs.replace(REFUSED, status=403))["embeddings m"].status.status_code
        is StatusCode.UNSET
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/chat/completions", "chat asked"),
        ("/v1/completions", "text_completion asked"),
        ("/v1/messages", "chat asked"),
    ],
)
def test_names_of_spans(traced: Traced, path: str, name: str) -> None:
    assert name in traced.spans(ended(path=path))


@pytest.mark.parametrize(
    ("outcome", "code"),
    [(UNKNOWN, StatusCode.ERROR), (Outcome(status=503), StatusCode.ERROR), (Outcome(status=404), StatusCode.UNSET)],
)
def test_failures_are_marked(traced: Traced, outcome: Outcome, code: StatusCode) -> None:
    span = traced.spans(ended(outcome=outcome))["chat asked"]
    assert span.status.status_code is code
    assert "server.address" in (span.attributes or {})


def test_what_nobody_looked_at_is_not_told(traced: Traced) -> None:
    told = ended()
    spans = traced.spans(ended(decision=msgspec.structs.replace(told.decision, prefix_match=None)))
    assert "infer_gateway.prefix_match" not in (spans["infer_gateway.decide"].attributes or {})
