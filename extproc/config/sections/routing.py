"""Which pool gets the requests for which models."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from extproc.config import fields
from extproc.config.fields import AsTuple, Section, Text, Texts
from extproc.config.sections.endpoints import EndpointsConfig
from extproc.config.units import describe
from extproc.routing.routes import Route, Rule, Target

#: Name of the pool whose section is `endpoints`.
DEFAULT_POOL = "default"

#: Pools are labels of metrics, and Envoy's metadata: no spaces, nothing that would have to be quoted.
_POOL_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9._-]{0,61}[a-zA-Z0-9])?")


def _pool_name(text: str) -> str:
    if not _POOL_NAME.fullmatch(text):
        reason = "must be a name of up to 63 letters, digits, dots, hyphens and underscores"
        raise ValueError(f"{reason}, not {describe(text)}")
    return text


Pools = Annotated[
    dict[Annotated[str, AfterValidator(_pool_name)], EndpointsConfig], BeforeValidator(fields.empty_mapping)
]


class TargetConfig(Section):
    """A pool that gets a share of a route's requests."""

    pool: Text = Field(description=f"Name of a pool, or `{DEFAULT_POOL}` for the pods of `endpoints`.")
    weight: fields.Weight = Field(
        default=100.0, description="Its share, over the sum of the route's weights: 0 or more. 0: no requests."
    )
    model: Text | None = Field(
        default=None,
        description="Name that is put into the request in place of the client's. Left out, and for adapters: none.",
    )

    def target(self) -> Target:
        return Target(self.pool, self.weight, self.model or "")


class RouteConfig(Section):
    """Where requests for some models go. Without model, models and adapters: all that no other route is for."""

    name: str = Field(default="", description="For people.")
    model: Text | None = Field(default=None, description="Name of a model, as clients give it.")
    models: Texts = Field(default=(), description="Several names, in place of `model`.")
    adapters: Texts = Field(default=(), description="Names of LoRA adapters. They are never rewritten.")
    targets: Annotated[tuple[TargetConfig, ...], AsTuple] = Field(
        description="Pools that get the requests, each its share. One without a ready pod is passed over.",
        # Checked elsewhere: where the only target is wrong, the message is not that there is none.
        json_schema_extra={"minItems": 1},
    )

    rewrite_answers: bool = Field(
        default=False,
        description="Whether answers name the model as the client did. Each piece of such an answer goes through the"
        " sidecar, and the headers of all. Compressed ones are not touched.",
    )

    def all_models(self) -> tuple[str, ...]:
        return self.models if self.model is None else (self.model, *self.models)

    def rule(self) -> Rule:
        route = Route(self.name, tuple([target.target() for target in self.targets]), self.rewrite_answers)
        return Rule(route, self.all_models(), self.adapters)


Routes = Annotated[tuple[RouteConfig, ...], AsTuple, BeforeValidator(fields.empty_list)]
