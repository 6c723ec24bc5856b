"""How a pod is picked: plugins, their arguments and weights."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from extproc.config import fields
from extproc.config.fields import AsTuple, Section, Text, Texts
from scheduler.config import LEAST_COST, PluginConfig, SchedulerConfig, ScorerRef


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
        description="Exactly these filters, in this order. [] means none. Left out: `least-request`; none behind a"
        " foreign data plane, where no request is refused as long as there is a pod.",
    )
    disabled: Texts = Field(default=(), description="Filters that are removed, from the defaults too.")


class ScorePlugins(Section):
    """Plugins that say how good each pod is for a request."""

    enabled: Annotated[Annotated[tuple[ScorerEntry, ...], AsTuple] | None, _OrDefaults] = Field(
        default=None,
        description="Exactly these scorers. [] means none; left out, `least-request`, `kv-cache`, `least-latency` and "
        "`prefix-cache`, each with weight 1.",
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
    """How a pod is picked. Without a key in it: by `least-cost` alone, which needs no weights."""

    plugin_config: Annotated[tuple[PluginEntry, ...], AsTuple] = Field(default=(), description="Arguments of plugins.")
    plugins: PluginLists = Field(default=PluginLists(), description="Which plugins are enabled and disabled.")

    def config(self) -> SchedulerConfig:
        """What the scheduler's builder takes.

        Where nothing at all is written, that is the rule of least cost; as soon as anything is, what is left out has
        the defaults of the documented page.
        """
        if not self.model_fields_set:
            return LEAST_COST
        scorers = self.plugins.score.enabled
        return SchedulerConfig(
            plugin_config=tuple(PluginConfig(entry.name, entry.args) for entry in self.plugin_config),
            filters_enabled=self.plugins.filter.enabled,
            filters_disabled=self.plugins.filter.disabled,
            scores_enabled=None if scorers is None else tuple(ScorerRef(one.name, one.weight) for one in scorers),
            scores_disabled=self.plugins.score.disabled,
        )
