"""What operators see: admin pages, logs, traces, explained decisions."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from extproc.config import fields
from extproc.config.fields import AsTuple, Bytes, Section, Text


class AdminConfig(Section):
    """Where the sidecar has its health, metrics and debug pages."""

    host: fields.IP = Field(default="127.0.0.1", description="IP address. These pages have no authentication.")
    port: fields.Port = Field(default=9090, description="Port; 0: a free one.")
    hosts: Annotated[tuple[fields.DnsName, ...], AsTuple] = Field(
        default=(),
        description="Names by which these pages may be asked for, beside IP addresses and localhost: else a page of"
        " somebody else could read them in the browser of whoever may. /healthz, /readyz and /metrics: by any name.",
    )
    reference_metrics: bool = Field(
        default=False,
        description="Whether the metrics page has the reference picker's series as well (inference_pool_*,"
        " inference_objective_*), for autoscalers and dashboards that read them.",
    )


class TraceConfig(Section):
    """A trace of requests that `infer-gateway simulate` can replay, in Mooncake's format. On when `file` is given."""

    file: fields.FilePath | None = Field(default=None, description="File that lines are appended to.")
    key_file: fields.FilePath | None = Field(
        default=None,
        description="File with the secret of 16-64 bytes that prompts' beginnings and subjects are hashed with.",
    )
    max_size: Annotated[int, Bytes(1 << 10, 1 << 40)] = Field(
        default=1 << 30, description="Size from which on nothing more is written."
    )
    characters_per_token: float = Field(
        default=4.0, ge=0.25, le=32, description="Of the prompts: says how much text a block of 512 tokens is."
    )

    @model_validator(mode="after")
    def _keyed(self) -> Self:
        if (self.file is None) != (self.key_file is None):
            raise ValueError("file and keyFile are wanted together: without a key, beginnings could be guessed")
        return self


class LoggingConfig(Section):
    """Logs, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="debug, info, warning or error."
    )
    access: bool = Field(
        default=False, description="Whether each request is a line of JSON on standard output: decision and outcome."
    )
    format: Literal["json", "text"] = Field(default="json", description="json: one object a line. text: for people.")
    trace: TraceConfig = Field(
        default=TraceConfig(), description="A trace of requests that `infer-gateway simulate` can replay."
    )


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
    shares_claim: Text | None = Field(
        default=None,
        description="The claim (with dots: inside of others) that must be true for a bearer to be told why, with scores"
        " and shares of the prompt: they show what others asked. Others are told the pod. With auth off, all are told.",
    )
