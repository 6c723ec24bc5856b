"""What operators see: admin pages, logs, traces, explained decisions."""

from typing import Literal

from pydantic import Field

from extproc.config import fields
from extproc.config.fields import Section


class AdminConfig(Section):
    """Where the sidecar has its health, metrics and debug pages."""

    host: fields.IP = Field(default="127.0.0.1", description="IP address. These pages have no authentication.")
    port: fields.Port = Field(default=9090, description="Port; 0: a free one.")


class LoggingConfig(Section):
    """Logs, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error."
    )
    access: bool = Field(
        default=False, description="Whether each request is a line of JSON on standard output: decision and outcome."
    )
    format: Literal["json", "text"] = Field(default="json", description="json: one object a line. text: for people.")


class TracingConfig(Section):
    """Spans of requests, sent by OTLP over HTTP. On when `endpoint` is given."""

    endpoint: fields.HttpUrl | None = Field(
        default=None, description="URL of the collector, such as http://collector:4318/v1/traces."
    )
    sample_ratio: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of the requests without trace context that get spans, 0-1. Those with one do as it says.",
    )


class DebugConfig(Section):
    """What explains the gateway's decisions."""

    decisions: int = Field(
        default=256, ge=0, le=65536, description="Newest decisions kept for the admin pages. 0: none."
    )
    response_header: bool = Field(
        default=False, description="Whether answers say in a header which pod was picked and why."
    )
