"""The interface of plugins.

A plugin is a class with a `name`, a `Params` model (pydantic, frozen, strict) for its arguments, and one or more of the
methods below. It is built once, from its parameters, and lives as long as the configuration does. All methods run on
one thread, so a plugin needs no locks; none may block, read a clock or roll dice of its own: `cycle.now` and
`cycle.rng` are there.

Optional class attributes: `scraped_only`, True for a scorer that looks at nothing but `kv_usage`, `ttft`, `tpot` and
`adapters` of the pods, is then asked once per snapshot, not per request. `prefers`, True for a filter that finds where
a request is best served, not where it can be served: it runs after the others, the pods that it leaves out remain as
fallbacks, and it refuses nothing. Two more steer the builder (`scheduler.builder`):

- `needs`: names of plugins that must be built along with this one, because this one reads what they prepare. They take
  part in every phase but filter and score, unless they are enabled there too.
- `alone`: True for a scorer that makes no sense beside others.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from scheduler.types import BoolArray, Costs, FloatArray, Pod, Request, Snapshot, Undo

if TYPE_CHECKING:
    from random import Random

#: Scores are in this range; a score outside it is a fault of the plugin.
MIN_SCORE, MAX_SCORE = 0.0, 100.0
#: Score of a pod of which a scorer knows nothing: neither the best nor the worst.
NEUTRAL_SCORE = 50.0


class PluginParams(BaseModel):
    """Base of a plugin's parameters: unknown keys and wrong types are errors, values never change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class NoParams(PluginParams):
    """For a plugin that takes no arguments."""


class Cycle:
    """One decision being made. `state` lets a plugin keep what it computed for a later phase of the same decision."""

    __slots__ = ("costs", "now", "prefix_match", "prefix_span", "rng", "state")

    def __init__(self, *, now: float, rng: "Random") -> None:
        #: Monotonic seconds.
        self.now = now
        self.rng = rng
        self.state: dict[str, Any] = {}
        #: Share (0-1) of the prompt that each candidate's prefix cache is expected to hold, as far as it was matched.
        #: Set by a `Preparer` for the pods it was given; kept in step with the candidates from then on. None: not
        #: determined.
        self.prefix_match: FloatArray | None = None
        #: Share (0-1) of the prompt that was looked at; the rest counts as not held.
        self.prefix_span = 1.0
        #: Cost of the request at each candidate as a scorer found it, for display only: no decision reads it.
        self.costs: Costs | None = None


class Plugin(Protocol):
    """Every plugin class has these."""

    name: ClassVar[str]
    Params: ClassVar[type[PluginParams]]

    def __init__(self, params: Any) -> None:
        """`params` is an instance of `Params`."""
        ...


@runtime_checkable
class Preparer(Protocol):
    """Finds out something that several plugins want to know."""

    def prepare(self, request: Request, pods: Snapshot, cycle: Cycle) -> None:
        """Runs before the filters, over all pods that the request may go to. Leaves what it found in `cycle`."""
        ...


@runtime_checkable
class Filter(Protocol):
    """Decides which pods may serve a request at all."""

    def keep(self, request: Request, pods: Snapshot, cycle: Cycle) -> BoolArray:
        """True for each pod that stays. Shape `(len(pods),)`. Keeping none refuses the request."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """Rates how good each pod is for a request."""

    def score(self, request: Request, pods: Snapshot, cycle: Cycle) -> FloatArray:
        """A score of 0-100 for each pod, higher is better. Shape `(len(pods),)`; never NaN.

        The returned array must not be changed afterwards: the decision keeps it to explain itself.
        """
        ...


class PreparerPlugin(Plugin, Preparer, Protocol):
    """A whole plugin that prepares. Type checkers compare classes with it: `PLUGIN: type[PreparerPlugin] = Mine`."""


class FilterPlugin(Plugin, Filter, Protocol):
    """A whole plugin that filters. Type checkers compare classes with it: `PLUGIN: type[FilterPlugin] = Mine`."""


class ScorerPlugin(Plugin, Scorer, Protocol):
    """A whole plugin that scores. Type checkers compare classes with it: `PLUGIN: type[ScorerPlugin] = Mine`."""


#: A class that configurations can enable.
PluginClass = type[FilterPlugin] | type[ScorerPlugin]


@runtime_checkable
class Recorder(Protocol):
    """Wants to know what was picked."""

    def picked(self, request: Request, pod: Pod, cycle: Cycle) -> Undo | None:
        """Note that `pod` gets the request. The answer takes the note back if the request never reaches the pod."""
        ...


@runtime_checkable
class PodWatcher(Protocol):
    """Keeps something per pod, which must go when the pod goes."""

    def left(self, pod: Pod) -> None:
        """The pod is gone, or its engine was restarted: forget all that was known of the pod."""
        ...


@runtime_checkable
class Reporter(Protocol):
    """Has numbers of its own that somebody may want to watch."""

    def statistics(self) -> Mapping[str, float]:
        """Gauges by name. Asked for now and then, never during a decision."""
        ...


class Tell(Protocol):
    """Lets the other processes of the gateway know what was noted of a pod."""

    def __call__(self, address: str, data: bytes, /) -> Undo:
        """The answer takes it back there."""
        ...


@runtime_checkable
class Sharer(Protocol):
    """Notes what was picked, and can do so together with the plugins of its name in other processes."""

    def share(self, secret: int, tell: Tell) -> None:
        """From now on call `tell` with each note. `secret`: 64 bits that all processes have alike.

        Before the first request; and again with another secret, under which nothing holds that was noted before.
        """
        ...

    def told(self, address: str, data: bytes) -> Undo:
        """Another process noted `data` of a pod. The returned function takes the note back.

        Raises:
            ValueError: `data` is no note, or of another version; nothing was noted.
        """
        ...

    def memory(self) -> Iterator[tuple[str, bytes]]:
        """State for a process that was just started: addresses of pods, and the notes of each."""
        ...
