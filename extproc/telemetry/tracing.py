"""OpenTelemetry spans of requests: one for the request, one in it for the decision. An extra: `infer-gateway[otel]`.

Spans are made when a request is over, with the times that are known by then. Their identifiers were drawn at its
beginning (`extproc.telemetry.trace_context`): the pod got them, and its engine's spans hang under the gateway's.
"""

import logging
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from extproc import __version__
from extproc.telemetry.finished import Ended, Refused
from extproc.telemetry.trace_context import TraceContext

log = logging.getLogger(__name__)


class _Identifiers(RandomIdGenerator):
    """Gives the span that begins next the identifiers that its request has already."""

    def __init__(self) -> None:
        self.next: TraceContext | None = None

    def generate_span_id(self) -> int:
        given, self.next = self.next, None
        return super().generate_span_id() if given is None else int(given.span, 16)

    def generate_trace_id(self) -> int:
        return super().generate_trace_id() if self.next is None else int(self.next.trace, 16)


class Tracing:
    """A `Witness` that sends spans to a collector, by OTLP over HTTP.

    Args:
        endpoint: URL of the collector, such as `http://collector:4318/v1/traces`.
        exporter: in place of the one for `endpoint`.
    """

    def __init__(self, endpoint: str, *, exporter: SpanExporter | None = None) -> None:
        resource = Resource.create({"service.name": "infer-gateway", "service.version": __version__})
        self._identifiers = _Identifiers()
        # What is sampled was decided at the request's beginning.
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=resource, id_generator=self._identifiers, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("infer-gateway", __version__)

    def ended(self, ended: Ended) -> None:
        if ended.trace is None:
            return
        end = int(ended.at * 1e9)
        start = end - int(ended.seconds * 1e9)
        span = self._begin(ended.path, ended.model, ended.trace, _attributes(ended), start)
        decided = start + int(ended.decision_seconds * 1e9)
        inner = self._tracer.start_span(
            "infer_gateway.decide", set_span_in_context(span), SpanKind.INTERNAL, _decision(ended), (), start
        )
        inner.end(decided)
        _set_status(span, ended.outcome.status)
        span.end(end)

    def refused(self, refused: Refused) -> None:
        if refused.trace is None:
            return
        end = int(refused.at * 1e9)
        attributes: dict[str, Any] = {
            "http.response.status_code": refused.status,
            "error.type": refused.code,
            "infer_gateway.request_id": refused.request_id,
        }
        start = end - int(refused.seconds * 1e9)
        span = self._begin(refused.path, refused.model, refused.trace, attributes, start)
        _set_status(span, refused.status)
        span.end(end)

    def _begin(self, path: str, model: str, trace: TraceContext, attributes: dict[str, Any], start: int) -> Span:
        operation = _operation(path)
        attributes |= {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "infer_gateway",
            "gen_ai.request.model": model,
            "url.path": path,
        }
        parent = Context()
        if trace.parent:
            remote = SpanContext(int(trace.trace, 16), int(trace.parent, 16), is_remote=True, trace_flags=TraceFlags(1))
            parent = set_span_in_context(NonRecordingSpan(remote), parent)
        self._identifiers.next = trace
        # "{operation} {model}": the conventions' name of a span of inference.
        return self._tracer.start_span(f"{operation} {model}".rstrip(), parent, SpanKind.SERVER, attributes, (), start)

    def close(self) -> None:
        """Sends what is waiting, and ends. May take some seconds where the collector is away."""
        self._provider.shutdown()


def _operation(path: str) -> str:
    """`gen_ai.operation.name` of an API."""
    if path.endswith("/embeddings"):
        return "embeddings"
    return "text_completion" if path.endswith("/completions") and not path.endswith("/chat/completions") else "chat"


def _attributes(ended: Ended) -> dict[str, Any]:
    """By OpenTelemetry's conventions for generative AI and HTTP, as far as they have names."""
    outcome, usage = ended.outcome, ended.outcome.usage
    known = {
        "gen_ai.response.model": ended.request.model,
        "gen_ai.usage.input_tokens": usage.prompt,
        "gen_ai.usage.cache_read.input_tokens": usage.cached,
        "gen_ai.usage.output_tokens": usage.completion,
        "gen_ai.server.time_to_first_token": outcome.ttft,
        "http.response.status_code": outcome.status,
        "server.address": outcome.served or ended.decision.pod.address,
        "infer_gateway.pool": ended.pool,
        "infer_gateway.attempts": outcome.attempts,
        "infer_gateway.request_id": ended.request.id,
    }
    return {name: value for name, value in known.items() if value is not None}


def _decision(ended: Ended) -> dict[str, Any]:
    decision = ended.decision
    attributes: dict[str, Any] = {"infer_gateway.pods": [pod.address for pod in decision.pods]}
    row = decision.candidates.rows[decision.pod.address]
    for name, scores in decision.scores.items():
        attributes[f"infer_gateway.score.{name}"] = round(float(scores[row]), 2)
    if decision.prefix_match is not None:
        attributes["infer_gateway.prefix_match"] = decision.prefix_match
    return attributes


def _set_status(span: Span, status: int | None) -> None:
    if status is None or status >= 500:
        span.set_status(Status(StatusCode.ERROR))
