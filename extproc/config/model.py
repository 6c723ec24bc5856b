"""The configuration: every key, its default and its meaning. The reference and the JSON schema are made from this."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from extproc.auth.base import AuthPolicy, Issuer
from extproc.config import authentication, fields, routing
from extproc.config.endpoints import EndpointsConfig
from extproc.config.fields import DAY, HOUR, AsTuple, Bytes, Seconds, Section, Text, Texts
from extproc.config.routing import DEFAULT_POOL
from extproc.routing.routes import Route, Routes, Target
from scheduler.config import PluginConfig, SchedulerConfig, ScorerRef

if TYPE_CHECKING:
    from scheduler.disaggregation import Disaggregation

#: Processes that decide. What one picks all others write down, so that many more would do nothing else.
MAX_WORKERS = 8


class PluginEntry(Section):
    """Arguments of one plugin."""

    name: Text = Field(description="Name of the plugin.")
    args: fields.Arguments = Field(
        default={},
        description="Arguments of the plugin. Each one is optional; what is left out has the plugin's default.",
    )


class ScorerEntry(Section):
    """A score plugin and its weight."""

    name: Text = Field(description="Name of the plugin.")
    weight: fields.Weight = Field(
        default=1.0, description="How much its scores count: 0 or more. 0 computes the score for explanations only."
    )


_OrDefaults = BeforeValidator(fields.not_null)


class FilterPlugins(Section):
    """Plugins that say which pods may serve a request at all."""

    enabled: Annotated[Texts | None, _OrDefaults] = Field(
        default=None,
        description="Exactly these filters, in this order. [] means none; left out, the defaults are used.",
    )
    disabled: Texts = Field(default=(), description="Filters that are removed, from the defaults too.")


class ScorePlugins(Section):
    """Plugins that say how good each pod is for a request."""

    enabled: Annotated[Annotated[tuple[ScorerEntry, ...], AsTuple] | None, _OrDefaults] = Field(
        default=None,
        description="Exactly these scorers. [] means none; left out, the defaults are used, each with weight 1.",
    )
    disabled: Texts = Field(default=(), description="Scorers that are removed, from the defaults too.")


class PluginLists(Section):
    """Which plugins take part in a decision."""

    filter: FilterPlugins = Field(
        default=FilterPlugins(), alias="Filter", description="Filters: which pods may serve a request."
    )
    score: ScorePlugins = Field(
        default=ScorePlugins(), alias="Score", description="Scorers: how good each pod is for a request."
    )


class SchedulingConfig(Section):
    """How a pod is picked."""

    plugin_config: Annotated[tuple[PluginEntry, ...], AsTuple] = Field(default=(), description="Arguments of plugins.")
    plugins: PluginLists = Field(default=PluginLists(), description="Which plugins are enabled and disabled.")


_JwksUri = Annotated[str, AfterValidator(authentication.jwks_uri)]
_HeaderName = Annotated[str, AfterValidator(authentication.identity_header)]


class IssuerConfig(Section):
    """Somebody whose tokens are accepted."""

    issuer: Text | None = Field(
        default=None, description="JWT issuer: what a token's `iss` must be, exactly. Left out, `iss` is not checked."
    )
    audiences: Texts = Field(
        default=(), description="JWT audiences: a token's `aud` must name one of them. Left out, `aud` is not checked."
    )
    jwks_uri: _JwksUri | None = Field(
        default=None,
        description="Where the key set (JWKS) is: https://, http:// or file:///. Setting it turns authentication on.",
    )
    ca_file: fields.FilePath | None = Field(
        default=None,
        description="PEM file of the certificate authorities trusted for jwksUri, in place of the system's.",
    )


class AuthConfig(IssuerConfig):
    """Authentication by JWT. On when `jwksUri` (or `issuers`) is given."""

    issuers: Annotated[tuple[IssuerConfig, ...], AsTuple, Field(min_length=1)] | None = Field(
        default=None,
        description="Several issuers, in place of issuer, audiences and jwksUri; each needs a name of its own.",
    )
    algorithms: (
        Annotated[tuple[Annotated[str, AfterValidator(authentication.algorithm)], ...], AsTuple, Field(min_length=1)]
        | None
    ) = Field(
        default=None,
        description="Signature algorithms that are accepted. Left out: all asymmetric ones, as they fit the key.",
    )
    required_claims: dict[str, fields.Scalar] = Field(
        default={},
        description="Claims that a token must have: equal to the value, or a list (or `scope` string) that holds it.",
    )
    models: Text | None = Field(
        default=None,
        description="Claim that lists the models that the bearer may use. A token without it may use none."
        " Left out, every token may use every model.",
    )
    clock_skew: Annotated[float, Seconds(0, HOUR)] = Field(
        default=60.0, description="How far `nbf` and `iat` may lie in the future. `exp` gets no such grace."
    )
    jwks_max_stale: Annotated[float, Seconds(60, 30 * DAY)] = Field(
        default=DAY, description="How long a key set is used after it was last fetched, while its provider is down."
    )
    forward_token: bool = Field(
        default=False, description="Whether model servers get the Authorization header. false: it is removed."
    )
    identity_headers: Annotated[dict[_HeaderName, Text], AfterValidator(authentication.lower_names)] = Field(
        default={},
        description="Headers that tell model servers who is asking: header name → claim."
        " What a client sends under such a name is removed.",
    )


class ListenerConfig(Section):
    """Where Envoy takes requests."""

    host: fields.IP = Field(default="0.0.0.0", description="IP address.")  # noqa: S104 - a gateway is there to be reached
    port: fields.Port = Field(default=8080, description="Port; 0: a free one.")
    max_body_bytes: Annotated[int, Bytes(1 << 10, 1 << 30)] = Field(
        default=16 << 20, description="Largest request body: bytes, or a size such as 16Mi. What is larger gets a 413."
    )


class TlsConfig(Section):
    """What the ext_proc server proves, and what it asks of gateways."""

    self_signed: bool = Field(
        default=False,
        description="Whether a certificate is made at the start. Gateways cannot verify it: they have to skip that.",
    )
    cert_file: fields.FilePath | None = Field(
        default=None,
        description="PEM file of the certificate and what leads to its root. Read again when it changes.",
    )
    key_file: fields.FilePath | None = Field(
        default=None, description="PEM file of the certificate's key, without passphrase. Read again when it changes."
    )
    client_ca_file: fields.FilePath | None = Field(
        default=None,
        description="PEM file of authorities: only gateways with a certificate of one of these are served."
        " Left out: every gateway.",
    )


class TransportConfig(Section):
    """How Envoy reaches the sidecar."""

    address: fields.TransportAddress = Field(
        default="unix:///var/run/infer-gateway/extproc.sock", description="unix:///absolute/path, or host:port."
    )
    mode: Literal["auto", "sidecar", "grpcio"] = Field(
        default="auto",
        description="Server in use. sidecar: lean, for one Envoy on a Unix socket. grpcio: for any gateway."
        " auto: sidecar on a Unix socket, else grpcio.",
    )
    tls: TlsConfig | None = Field(default=None, description="TLS, for an address of host:port. Left out: plain text.")
    drain_timeout: Annotated[float, Seconds(0, HOUR)] = Field(
        default=30.0, description="How long requests in flight may go on after SIGTERM."
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=MAX_WORKERS,
        description="Processes that decide, each on a socket of its own beside `address`. They share what they know."
        " More than one is for more decisions than one core makes.",
    )
    standby: bool = Field(
        default=False,
        description="Whether one process more stands by: Envoy turns to it at once when the others are gone.",
    )
    max_concurrent_streams: int = Field(
        default=100_000, ge=1, le=2**31 - 1, description="Most ext_proc streams (requests) on one connection."
    )

    @property
    def alone(self) -> bool:
        """Whether one process is all there is."""
        return self.workers == 1 and not self.standby

    @property
    def lean(self) -> bool:
        """Whether the sidecar's own server is used."""
        return self.mode == "sidecar" or (self.mode == "auto" and self.address.startswith("unix:"))


class AdminConfig(Section):
    """Where the sidecar has its health, metrics and debug pages."""

    host: fields.IP = Field(default="127.0.0.1", description="IP address. These pages have no authentication.")
    port: fields.Port = Field(default=9090, description="Port; 0: a free one.")


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


class DisaggregationConfig(Section):
    """Pods that compute prompts for others (prefill), and pods that answer (decode). On with `thresholdTokens`."""

    threshold_tokens: int | None = Field(
        default=None,
        ge=0,
        le=10**9,
        description="Prompt tokens: requests of which the pod that answers would have to compute more go through a"
        " prefill pod. Left out: none does.",
    )
    label: Text = Field(
        default="llm-d.ai/role",
        description="Label of pods whose value is their role: prefill, decode or both. Without it, a pod does both.",
    )


class DebugConfig(Section):
    """What explains the gateway's decisions."""

    decisions: int = Field(
        default=256, ge=0, le=65536, description="Newest decisions kept for the admin pages. 0: none."
    )
    response_header: bool = Field(
        default=False, description="Whether answers say in a header which pod was picked and why."
    )


class GatewayConfig(Section):
    """The whole configuration."""

    scheduler: SchedulingConfig = Field(default=SchedulingConfig(), description="How a pod is picked.")
    auth: AuthConfig | None = Field(
        default=None, description="Authentication by JWT. Left out: every request is let in."
    )
    endpoints: EndpointsConfig = Field(
        default=EndpointsConfig(),
        description=f"Where the pods are, how their state is read. With routes: those of the pool `{DEFAULT_POOL}`.",
    )
    pools: routing.Pools = Field(
        default={}, description="Further pools, by names of your own; each has the keys of `endpoints`."
    )
    routes: routing.Routes = Field(
        default=(),
        description="Which pool gets the requests for which models. Left out: `endpoints` gets them all."
        " With it, a model that no route is for gets a 404.",
    )
    listener: ListenerConfig = Field(default=ListenerConfig(), description="Where Envoy takes requests.")
    transport: TransportConfig = Field(default=TransportConfig(), description="How Envoy reaches the sidecar.")
    admin: AdminConfig = Field(default=AdminConfig(), description="Health, metrics and debug pages.")
    envoy: EnvoyConfig = Field(default=EnvoyConfig(), description="What of Envoy's own set-up follows from here.")
    logging: LoggingConfig = Field(default=LoggingConfig(), description="Logs.")
    tracing: TracingConfig = Field(default=TracingConfig(), description="Spans of requests.")
    debug: DebugConfig = Field(default=DebugConfig(), description="What explains the gateway's decisions.")
    disaggregation: DisaggregationConfig = Field(
        default=DisaggregationConfig(), description="Prompts computed by other pods than those that answer."
    )

    def all_pools(self) -> Mapping[str, EndpointsConfig]:
        """Every pool by name, that of `endpoints` first; it is left out where routes do without and it has no pods."""
        asked = {target.pool for route in self.routes for target in route.targets}
        if self.routes and self.pools and self.endpoints.empty and DEFAULT_POOL not in asked:
            return self.pools
        return {DEFAULT_POOL: self.endpoints, **self.pools}

    def rewrites_answers(self) -> bool:
        """Whether Envoy is to ask what to do with answers."""
        return any(route.rewrite_answers for route in self.routes)

    def routing(self) -> Routes | None:
        """None: everything goes to the pool of `endpoints`."""
        if not self.routes:
            return None
        # Requests that name no model, such as GET /v1/models, go to one pool.
        name = self.routes[0].targets[0].pool if self.endpoints.empty else DEFAULT_POOL
        return Routes([route.rule() for route in self.routes], Route("", (Target(name),)))

    def scheduler_config(self) -> SchedulerConfig:
        plugins = self.scheduler.plugins
        scorers = plugins.score.enabled
        return SchedulerConfig(
            plugin_config=tuple(PluginConfig(entry.name, entry.args) for entry in self.scheduler.plugin_config),
            filters_enabled=plugins.filter.enabled,
            filters_disabled=plugins.filter.disabled,
            scores_enabled=None if scorers is None else tuple(ScorerRef(one.name, one.weight) for one in scorers),
            scores_disabled=plugins.score.disabled,
        )

    def auth_policy(self) -> AuthPolicy | None:
        """None: authentication is off.

        Raises:
            ValueError: the values cannot be used together. Never for a configuration that came from `load`.
        """
        auth = self.auth
        if auth is None or (auth.jwks_uri is None and not auth.issuers):
            return None
        return AuthPolicy(
            issuers=tuple(
                Issuer(one.issuer or "", one.audiences, one.jwks_uri or "", one.ca_file or auth.ca_file)
                for one in auth.issuers or (auth,)
            ),
            algorithms=auth.algorithms,
            required_claims=auth.required_claims,
            models_claim=auth.models,
            clock_skew=auth.clock_skew,
            jwks_max_stale=auth.jwks_max_stale,
        )

    def roles(self) -> "Disaggregation | None":
        """None: each request is one pod's."""
        from scheduler.disaggregation import Disaggregation

        threshold = self.disaggregation.threshold_tokens
        return None if threshold is None else Disaggregation(label=self.disaggregation.label, threshold=threshold)

    def identity_headers(self) -> Mapping[str, str]:
        """Header name (lower case) → claim; empty while authentication is off."""
        return {} if self.auth is None or self.auth_policy() is None else self.auth.identity_headers
