"""Where pods are, and how their state is read: the section of a pool."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from extproc.config import fields
from extproc.config.fields import DAY, HOUR, AsTuple, Seconds, Section, Text
from extproc.config.sections.discovery import DnsEndpoint, FileEndpoints, KubernetesEndpoints
from scheduler.pool.dialects import DIALECTS, Dialect, custom

#: How many scrapes in a row may be lost before what is known of a pod no longer counts …
STALE_SCRAPES = 5
#: … and the least time for that, in seconds: one long garbage collection of an engine is no reason to forget its load.
MIN_STALE = 2.0


class StaticEndpoint(Section):
    """A pod that is always there. A plain string is its address."""

    address: fields.PodAddress = Field(description="ip:port, or [ip6]:port.")
    name: str = Field(default="", description="For people. Left empty: the address.")
    labels: dict[str, str] = Field(default={}, description="Labels, for plugins.")

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, data: object) -> object:
        return {"address": data} if isinstance(data, str) else data

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, object]:
        full = handler.resolve_ref_schema(handler(schema))
        return {"anyOf": [{"type": "string", "description": "ip:port, or [ip6]:port."}, full]}


class EngineConfig(Section):
    """How an engine of your own names its metrics: per signal, names in order of preference."""

    waiting: fields.MetricNames = Field(default=(), description="Gauge: requests in the queue.")
    running: fields.MetricNames = Field(default=(), description="Gauge: requests being computed.")
    kv_usage: fields.MetricNames = Field(default=(), description="Gauge, 0-1: used share of the KV cache.")
    ttft: fields.MetricNames = Field(default=(), description="Histogram, seconds: time to first token.")
    tpot: fields.MetricNames = Field(default=(), description="Histogram, seconds: time per output token.")


class ScrapeConfig(Section):
    """How pods are asked for their metrics."""

    interval: Annotated[float, Seconds(0.02, HOUR)] = Field(
        default=0.2,
        description="Time between two scrapes of a pod. Stretched, to 5s at most, where there are more pods than one"
        " process reads beside deciding.",
    )
    timeout: Annotated[float, Seconds(0.01, HOUR)] = Field(
        default=1.0, description="Longest time that a scrape may take."
    )
    path: fields.UrlPath = Field(
        default="/metrics", description="Path of the metrics page. Left out: the engine's own, if that has another."
    )
    scheme: Literal["http", "https"] = Field(default="http", description="http or https.")


class EndpointsConfig(Section):
    """Where the pods are, and how their state is read."""

    static: Annotated[tuple[StaticEndpoint, ...], AsTuple] = Field(
        default=(), description="Pods that are always there."
    )
    dns: Annotated[tuple[DnsEndpoint, ...], AsTuple] = Field(default=(), description="Names that resolve to pods.")
    file: FileEndpoints | None = Field(default=None, description="A file that lists pods.")
    kubernetes: KubernetesEndpoints | None = Field(default=None, description="Pods that Kubernetes knows, watched.")
    local_addresses: Literal["allow", "refuse"] = Field(
        default="allow",
        description="Whether `dns` and `file` may name pods at loopback and link-local addresses: refuse, where whoever"
        " writes them must not have requests sent to this pod's own ports or to the cloud's metadata.",
    )
    engine: Text = Field(
        default="vllm", description=f"Engine of the pods: {', '.join(DIALECTS)}, or one from `engines`."
    )
    engines: dict[str, EngineConfig] = Field(
        default={}, description="Engines of your own: name → names of its metrics."
    )
    accepts_encodings: Annotated[tuple[Literal["gzip", "deflate", "br", "zstd"], ...], AsTuple] = Field(
        default=(),
        description="Content encodings of request bodies that the pods take: gzip, deflate, br, zstd. Other bodies are"
        " decoded by the gateway, as engines know none; so are those whose model gets another name.",
    )
    scrape: ScrapeConfig = Field(default=ScrapeConfig(), description="How pods are asked for their metrics.")
    stale_after: Annotated[float, Seconds(0.1, DAY)] | None = Field(
        default=None,
        description="Age from which a pod's metrics no longer steer."
        f" Left out: {STALE_SCRAPES} scrape intervals, at least {MIN_STALE:g}s; more where scrapes are stretched.",
    )

    @property
    def empty(self) -> bool:
        """Whether there is no source of pods."""
        return not (self.static or self.dns or self.file or self.kubernetes)

    def effective_stale_after(self) -> float:
        """Seconds."""
        return max(STALE_SCRAPES * self.scrape.interval, MIN_STALE) if self.stale_after is None else self.stale_after

    def stale_follows(self) -> bool:
        """Whether the limit on the age of metrics is the default, which grows with the interval of scrapes."""
        usual = max(STALE_SCRAPES * self.scrape.interval, MIN_STALE)
        return self.stale_after is None or self.stale_after == usual

    def dialect(self) -> Dialect:
        """How the pods' engine names its signals, and the path of its page."""
        own = self.engines.get(self.engine)
        if own is not None:
            return custom(own.model_dump(exclude_defaults=True), name=self.engine, path=self.scrape.path)
        known = DIALECTS[self.engine]
        path = self.scrape.path if "path" in self.scrape.model_fields_set else known.path
        return custom({}, name=self.engine, path=path, base=known)

    def with_static(self, addresses: Sequence[str]) -> Self:
        """The same, with these pods (`ip:port`) and no others."""
        pods = tuple(StaticEndpoint.model_validate(address) for address in addresses)
        return self.model_copy(update={"static": pods, "dns": (), "file": None, "kubernetes": None})
