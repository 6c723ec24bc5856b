"""The scheduler's part of the configuration. Frozen values, not yet checked against what plugins there are.

`scheduler.builder.validate` returns the errors of a configuration, `scheduler.builder.build` makes a profile from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

#: Most pods in a decision: the best, and four to retry at. More retries would outlive any client's patience.
MAX_PODS: Final = 5


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a pod may have on hand until requests that may be dropped are. As the reference picker has them."""

    #: Requests that wait in its engine.
    waiting: float = 5
    #: Used share of its KV cache, 0-1.
    kv_usage: float = 0.8


BOUNDS: Final = Bounds()


@dataclass(frozen=True, slots=True)
class PluginConfig:
    """Arguments of one plugin, as written: the plugin's own `Params` checks them."""

    name: str
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScorerRef:
    """A scorer and how much its scores count. `weight` is finite and >= 0; 0 computes the score and ignores it."""

    name: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """Which plugins take part, and their arguments. None for `*_enabled` means the defaults; () means none."""

    plugin_config: tuple[PluginConfig, ...] = ()
    filters_enabled: tuple[str, ...] | None = None
    filters_disabled: tuple[str, ...] = ()
    scores_enabled: tuple[ScorerRef, ...] | None = None
    scores_disabled: tuple[str, ...] = ()


#: The rule where nothing is configured: by what a request costs everybody, with no filter, so that nothing is refused
#: which an engine would serve.
LEAST_COST = SchedulerConfig(filters_enabled=(), scores_enabled=(ScorerRef("least-cost"),))
