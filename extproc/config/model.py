"""The whole configuration: its sections, and values that follow from several of them."""

from collections.abc import Mapping
from dataclasses import replace

from pydantic import Field

from extproc.auth.base import AuthPolicy
from extproc.config.fields import Section
from extproc.config.sections import routing
from extproc.config.sections.authentication import AuthConfig
from extproc.config.sections.disaggregation import DisaggregationConfig
from extproc.config.sections.endpoints import EndpointsConfig
from extproc.config.sections.engines import EnginesConfig
from extproc.config.sections.envoy import EnvoyConfig
from extproc.config.sections.listener import ListenerConfig
from extproc.config.sections.objectives import ObjectivesConfig
from extproc.config.sections.observability import AdminConfig, DebugConfig, LoggingConfig, TracingConfig
from extproc.config.sections.routing import DEFAULT_POOL
from extproc.config.sections.scheduling import SchedulingConfig
from extproc.config.sections.sharing import SharingConfig
from extproc.config.sections.transport import TransportConfig
from extproc.routing.routes import Route, Routes, Target
from scheduler.config import SchedulerConfig


class GatewayConfig(Section):
    """The whole configuration."""

    scheduler: SchedulingConfig = Field(default=SchedulingConfig(), description="How a pod is picked.")
    auth: AuthConfig | None = Field(
        default=None, description="Authentication by JWT or API key. Left out: every request is let in."
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
    sharing: SharingConfig = Field(
        default=SharingConfig(), description="What gateways tell each other. Without a server, each decides for itself."
    )
    listener: ListenerConfig = Field(default=ListenerConfig(), description="Where Envoy takes requests.")
    transport: TransportConfig = Field(default=TransportConfig(), description="How Envoy reaches the sidecar.")
    admin: AdminConfig = Field(default=AdminConfig(), description="Health, metrics and debug pages.")
    envoy: EnvoyConfig = Field(default=EnvoyConfig(), description="What of Envoy's own set-up follows from here.")
    logging: LoggingConfig = Field(default=LoggingConfig(), description="Logs.")
    tracing: TracingConfig = Field(default=TracingConfig(), description="Spans of requests.")
    debug: DebugConfig = Field(default=DebugConfig(), description="What explains the gateway's decisions.")
    engines: EnginesConfig = Field(default=EnginesConfig(), description="What clients may say to engines.")
    disaggregation: DisaggregationConfig = Field(
        default=DisaggregationConfig(), description="Prompts computed by other pods than those that answer."
    )

    objectives: ObjectivesConfig = Field(
        default=ObjectivesConfig(), description="How urgent requests are, behind a foreign data plane."
    )

    def all_pools(self) -> Mapping[str, EndpointsConfig]:
        """Every pool by name, that of `endpoints` first; it is left out where routes do without and it has no pods."""
        asked = {target.pool for route in self.routes for target in route.targets}
        if self.routes and self.pools and self.endpoints.empty and DEFAULT_POOL not in asked:
            return self.pools
        return {DEFAULT_POOL: self.endpoints, **self.pools}

    def scheduling(self) -> SchedulerConfig:
        """The plugins. Behind a foreign data plane no filter is on that is not named: as the reference, it routes."""
        config = self.scheduler.config()
        if self.transport.own_envoy or config.filters_enabled is not None:
            return config
        return replace(config, filters_enabled=())

    def reference_names(self) -> Mapping[str, str]:
        """Pool → its name in the reference picker's metrics: that of its InferencePool, where there is one."""
        found = {name: pool.kubernetes for name, pool in self.all_pools().items()}
        return {
            name: name if one is None or one.inference_pool is None else one.inference_pool.name
            for name, one in found.items()
        }

    def most_pods(self) -> int:
        """Most addresses in an answer, 1 to `MAX_PODS`."""
        if self.transport.max_endpoints is not None:
            return self.transport.max_endpoints
        return 1 + self.envoy.retries if self.transport.own_envoy else 1

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

    def auth_policy(self) -> AuthPolicy | None:
        """None: authentication is off.

        Raises:
            ValueError: the values cannot be used together. Never for a configuration that came from `load`.
        """
        return None if self.auth is None else self.auth.policy()

    def token_headers(self) -> tuple[str, ...]:
        """Headers that credentials may be in, beside Authorization; none while authentication is off."""
        return () if self.auth is None or self.auth_policy() is None else self.auth.token_headers

    def identity_headers(self) -> Mapping[str, str]:
        """Header name (lower case) → claim; empty while authentication is off."""
        return {} if self.auth is None or self.auth_policy() is None else self.auth.identity_headers
