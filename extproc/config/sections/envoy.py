"""Envoy's own set-up, as far as it follows from this configuration."""

from typing import Annotated, Literal

from pydantic import Field

from extproc.config import fields
from extproc.config.fields import DAY, HOUR, Bytes, Seconds, Section

#: Variable with the memory of Envoy's container, bytes, as Kubernetes' downward API sets it.
MEMORY_VARIABLE = "INFER_GATEWAY_ENVOY_MEMORY"
#: Bytes that Envoy may take without a given limit: with the rest of a process, well within the 2 GiB of our manifests.
DEFAULT_HEAP = 1 << 30
#: Envoy alone takes some 50 MiB.
LEAST_HEAP = 128 << 20


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

    max_heap: Annotated[int, Bytes(LEAST_HEAP, 1 << 40)] | None = Field(
        default=None,
        description=f"Memory that Envoy may take: at its end it refuses uploads. Left out: three quarters of what"
        f" {MEMORY_VARIABLE} says of its container in bytes, else {DEFAULT_HEAP >> 20}Mi.",
    )

    @property
    def heap(self) -> int:
        """Bytes that Envoy may take."""
        return DEFAULT_HEAP if self.max_heap is None else self.max_heap

    @property
    def body_bytes(self) -> int:
        """Bytes of request bodies that may be under way: beside what else Envoy needs, it stays below its limit."""
        return self.heap * 3 // 8

    usage: Literal["ai-filter", "stable-filters"] = Field(
        default="ai-filter",
        description="Which of Envoy's filters read token usage out of answers. ai-filter: one for all APIs, which Envoy"
        " calls work in progress. stable-filters: two that are not, at 3 µs of Envoy's CPU a streamed token.",
    )
