"""OpenTelemetry spans of requests: one for the request, one in it for the decision. An extra: `infer-gateway[otel]`.

Spans are made when a request is over, with the times that are known by then, so that the request path pays for nothing
but the look at a flag. The client's trace context goes on to the model server untouched.
"""

import logging
from collections.abc import Callable
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from extproc import __version__
from extproc.telemetry.finished import Ended

log = logging.getLogger(__name__)

#: Length of a `traceparent` of version 00: https://www.w3.org/TR/trace-context/#traceparent-header.
_TRACEPARENT_LENGTH = 55


class Tracing:
    """A `Witness` that sends spans to a collector, by OTLP over HTTP.

    Args:
        endpoint: URL of the collector, such as `http://collector:4318/v1/traces`.
        ratio: share (0-1) of the requests without trace context that get spans. Those with one do as it says.
        roll: a number of 0-1.
        exporter: in place of the one for `endpoint`.
    """

    def __init__(
        self, endpoint: str, ratio: float, roll: Callable[[], float], *, exporter: SpanExporter | None = None
    ) -> None:
        self._ratio = ratio
        self._roll = roll
        resource = Resource.create({"service.name": "infer-gateway", "service.version": __version__})
        # What is sampled was decided by then: see `_wanted`.
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter(endpoint=endpoint)))
        self._tracer = self._provider.get_tracer("infer-gateway", __version__)
        self._context = TraceContextTextMapPropagator()

    def ended(self, ended: Ended) -> None:
        if not self._wanted(ended.traceparent):
            return
        end = int(ended.at * 1e9)
        start = end - int(ended.seconds * 1e9)
        parent = self._context.extract({"traceparent": ended.traceparent})
        span = self._tracer.start_span("infer_gateway.request", parent, SpanKind.SERVER, _attributes(ended), (), start)
        decided = start + int(ended.decision_seconds * 1e9)
        inner = self._tracer.start_span(
            "infer_gateway.decide", set_span_in_context(span), SpanKind.INTERNAL, _decision(ended), (), start
        )
        inner.end(decided)
        _set_status(span, ended.outcome.status)
        span.end(end)

    def close(self) -> None:
        """Sends what is waiting, and ends. May take some seconds where the collector is away."""
        self._provider.shutdown()

    def _wanted(self, traceparent: str) -> bool:
        if len(traceparent) == _TRACEPARENT_LENGTH:
            # The last digit holds the sampled flag.
            return traceparent[-1] in "13579bdf"
        return self._roll() < self._ratio


def _attributes(ended: Ended) -> dict[str, Any]:
    """By OpenTelemetry's conventions for generative AI and HTTP, as far as they have names."""
    outcome, usage = ended.outcome, ended.outcome.usage
    known = {
        "gen_ai.request.model": ended.model,
        "gen_ai.usage.input_tokens": usage.prompt,
        "gen_ai.usage.cached_tokens": usage.cached,
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
