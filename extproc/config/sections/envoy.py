"""Envoy's own set-up, as far as it follows from this configuration."""

from typing import Annotated, Literal

from pydantic import Field

from extproc.config import fields
from extproc.config.fields import DAY, HOUR, Seconds, Section


class EnvoyConfig(Section):
    """What of Envoy's own set-up follows from here."""

    admin_socket: fields.SocketPath = Field(
        default="/var/run/infer-gateway/envoy-admin.sock", description="Unix socket of Envoy's admin interface."
    )
    endpoints_file: fields.FilePath = Field(
        default="/var/run/infer-gateway/xds/endpoints.yaml", description="File through which Envoy learns of the pods."
    )
    request_timeout: Annotated[float, Seconds(0, DAY)] = Field(
        default=900.0, description="Longest time for a client to send its whole request. 0: no limit."
    )
    stream_idle_timeout: Annotated[float, Seconds(0, DAY)] = Field(
        default=900.0, description="Longest silence, in either direction, before a request is ended. 0: no limit."
    )
    connect_timeout: Annotated[float, Seconds(0.001, HOUR)] = Field(
        default=1.0, description="Longest time to connect to a pod."
    )
    retries: int = Field(default=2, ge=0, le=4, description="Further pods that are tried, next-best first: 0-4.")
    message_timeout: Annotated[float, Seconds(0.001, HOUR)] = Field(
        default=5.0, description="Longest time that Envoy waits for an answer of the sidecar."
    )

    usage: Literal["ai-filter", "stable-filters"] = Field(
        default="ai-filter",
        description="Which of Envoy's filters read token usage out of answers. ai-filter: one for all APIs, which Envoy"
        " calls work in progress. stable-filters: two that are not, at 3 µs of Envoy's CPU a streamed token.",
    )
