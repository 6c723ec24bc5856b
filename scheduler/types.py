"""The words of the scheduler: request, pod, snapshot, decision. Values only; nothing needs a clock or a socket."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: Estimate of characters of prompt text per token, where no answer of the model has reported usage yet. English text
#: under the tokenizers of current models is at 3.5-4.5; the reference endpoint picker takes 4 as well.
CHARS_PER_TOKEN = 4

#: Selections that a snapshot remembers. Filters that look at scraped values make one or two; those that look at the
#: request make many, which must not pile up while no scrape comes. 32 of 512 pods are about 1.5 MB.
MAX_SELECTIONS = 32


class Prompt:
    """The text of a prompt in the order in which a model sees it, in parts until the whole is asked for."""

    __slots__ = ("_parts", "chars_per_token", "length", "memory")

    def __init__(self, parts: Sequence[str] = (), unread: int = 0) -> None:
        """Makes it of its parts, and of the number of unread characters behind them."""
        self._parts = parts
        #: The ratio learnt for the model, or else the estimate.
        self.chars_per_token: float = CHARS_PER_TOKEN
        #: Characters in all.
        self.length = sum(map(len, parts)) + unread
        #: Results of plugins about the text, each by a key of its own: they stay when the text goes.
        self.memory: dict[Any, Any] = {}

    def text(self) -> str:
        """The whole text; lone surrogates may be in it. Empty after `drop_text`."""
        if len(self._parts) > 1:
            self._parts = ("".join(self._parts),)
        return self._parts[0] if self._parts else ""

    def drop_text(self) -> None:
        """Lets go of the text. For requests that were decided and go on for minutes: a prompt may be megabytes."""
        self._parts = ()

    @property
    def tokens(self) -> int:
        """Estimated tokens, at least 1."""
        return int(self.length / self.chars_per_token) + 1

    def __str__(self) -> str:
        return self.text()


class Lookup(Protocol):
    """Names to strings, as a plugin may ask of a request: `header`, `cookie` and `claim` are the kinds."""

    def __call__(self, kind: str, name: str, /) -> str | None: ...


def nothing(kind: str, name: str, /) -> str | None:  # noqa: ARG001 - contract
    """The `Lookup` of a request that came with nothing to look up."""
    return None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request as the scheduler sees it."""

    id: str = ""
    #: The model or LoRA adapter that the client named; empty where the request names none (GET, unread body).
    model: str = ""
    prompt: Prompt = msgspec.field(default_factory=Prompt)
    #: Pods that a gateway allows (`ip:port`), or None for all of the pool. Empty allows none.
    subset: frozenset[str] | None = None
    #: Higher is more urgent; below 0 it may be dropped while there is no room.
    priority: int = 0
    lookup: Lookup = nothing


class Pod(msgspec.Struct, frozen=True):
    """A model server that discovery found ready. Two pods are the same pod when their addresses are equal."""

    #: `ip:port`, or `[ip6]:port`: what Envoy connects to.
    address: str
    #: For people: a pod's name, or the address again.
    name: str = ""
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)


class Adapters(msgspec.Struct, frozen=True):
    """LoRA adapters of a pod as its engine reports them."""

    running: frozenset[str] = frozenset()
    waiting: frozenset[str] = frozenset()
    #: Adapters that fit at once; 0 where the engine does not say.
    capacity: int = 0


NO_ADAPTERS = Adapters()


class Snapshot:
    """The pods at one moment, one array per signal, all of one length and in one order.

    Scraped columns (`kv_usage` to `adapters`) never change after construction; a value that is unknown or stale is NaN
    (an empty `Adapters`). Live columns are true when read and must not be written: `in_flight` to `prefill`, and
    `waiting` and `running`, which the store corrects by what it sends between two scrapes.
    """

    __slots__ = (
        "_rows", "_selected", "adapters", "derived", "in_flight", "in_flight_tokens", "kv_tokens", "kv_usage",
        "missing", "pods", "prefill", "refusing", "resting", "running", "served", "tpot", "ttft", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        pods: tuple[Pod, ...],
        *,
        waiting: FloatArray,
        running: FloatArray,
        kv_usage: FloatArray,
        kv_tokens: FloatArray,
        ttft: FloatArray,
        tpot: FloatArray,
        adapters: tuple[Adapters, ...],
        in_flight: IntArray,
        in_flight_tokens: IntArray,
        served: IntArray,
        prefill: FloatArray,
        resting: BoolArray | None = None,
    ) -> None:
        self.pods = pods
        #: Pods that failed lately and are left alone for now; None: no pod.
        self.resting = resting
        #: Pods that answered that they have no room; None: no pod.
        self.refusing: BoolArray | None = None
        #: By model: pods that answered that they do not know the model.
        self.missing: dict[str, BoolArray] = {}
        #: Requests in the engine's queue, including those that arrived since the scrape as far as the gateway knows.
        self.waiting = waiting
        #: Requests that the engine is computing.
        self.running = running
        #: Used share of the KV cache, 0-1.
        self.kv_usage = kv_usage
        #: Tokens that the KV cache has room for.
        self.kv_tokens = kv_tokens
        #: Time to first token, seconds.
        self.ttft = ttft
        #: Time per output token, seconds.
        self.tpot = tpot
        self.adapters = adapters
        #: Requests picked for a pod by this gateway that have not ended.
        self.in_flight = in_flight
        #: Their prompt tokens that no cache was expected to hold (estimated).
        self.in_flight_tokens = in_flight_tokens
        #: Requests ever picked for the pod by this gateway.
        self.served = served
        #: Three rows: seconds of prefill that were sent to a pod without a first token yet, the monotonic time as of
        #: which, and the seconds that the pod computes a prompt token. See `scheduler.pool.backlog` for how it shrinks.
        self.prefill = prefill
        #: Results that a plugin derived from scraped columns alone, by a key of its own: computed once per snapshot.
        self.derived: dict[Any, Any] = {}
        self._rows: dict[str, int] | None = None
        self._selected: dict[bytes, tuple[npt.NDArray[np.intp], Snapshot]] = {}

    @classmethod
    def of(
        cls,
        pods: Iterable[Pod | str],
        *,
        waiting: Sequence[float] | None = None,
        running: Sequence[float] | None = None,
        kv_usage: Sequence[float] | None = None,
        kv_tokens: Sequence[float] | None = None,
        ttft: Sequence[float] | None = None,
        tpot: Sequence[float] | None = None,
        adapters: Sequence[Adapters] | None = None,
        in_flight: Sequence[int] | None = None,
        in_flight_tokens: Sequence[int] | None = None,
        served: Sequence[int] | None = None,
        backlog: Sequence[float] | None = None,
        pace: Sequence[float] | None = None,
    ) -> "Snapshot":
        """A snapshot from plain sequences, for tests and tools; what is left out is unknown, or 0 where we count.

        `backlog` is in seconds, as of time 0; `pace` in seconds per prompt token, 0.0001 where it is left out.
        """
        every = tuple([Pod(pod) if isinstance(pod, str) else pod for pod in pods])

        def scraped(values: Sequence[float] | None) -> FloatArray:
            return np.full(len(every), np.nan) if values is None else np.array(values, np.float64)

        def live(values: Sequence[int] | None) -> IntArray:
            return np.zeros(len(every), np.int64) if values is None else np.array(values, np.int64)

        return cls(
            every,
            waiting=scraped(waiting),
            running=scraped(running),
            kv_usage=scraped(kv_usage),
            kv_tokens=scraped(kv_tokens),
            ttft=scraped(ttft),
            tpot=scraped(tpot),
            adapters=(NO_ADAPTERS,) * len(every) if adapters is None else tuple(adapters),
            in_flight=live(in_flight),
            in_flight_tokens=live(in_flight_tokens),
            served=live(served),
            prefill=np.array(
                [
                    [0.0] * len(every) if backlog is None else backlog,
                    [0.0] * len(every),
                    [1e-4] * len(every) if pace is None else pace,
                ],
                np.float64,
            ),
        )

    def __len__(self) -> int:
        return len(self.pods)

    @property
    def rows(self) -> Mapping[str, int]:
        """Row of each pod by address."""
        if self._rows is None:
            self._rows = {pod.address: row for row, pod in enumerate(self.pods)}
        return self._rows

    def select(self, keep: BoolArray) -> "Snapshot":
        """The snapshot of the kept pods, in the same order. Its live columns are copies of this moment.

        Scraped columns and what was derived from them are shared between equal selections, so a filter that decides by
        scraped values costs the gathering of five columns a request.
        """
        mask = keep.tobytes()
        known = self._selected.get(mask)
        if known is not None:
            rows, selected = known
            return selected._with_live_of(self, rows)  # noqa: SLF001 - its own class
        rows = np.flatnonzero(keep)
        picked = rows.tolist()
        selected = Snapshot(
            tuple([self.pods[row] for row in picked]),
            waiting=self.waiting[rows],
            running=self.running[rows],
            kv_usage=self.kv_usage[rows],
            kv_tokens=self.kv_tokens[rows],
            ttft=self.ttft[rows],
            tpot=self.tpot[rows],
            adapters=tuple([self.adapters[row] for row in picked]),
            in_flight=self.in_flight[rows],
            in_flight_tokens=self.in_flight_tokens[rows],
            served=self.served[rows],
            prefill=self.prefill[:, rows],
            resting=_any(None if self.resting is None else self.resting[rows]),
        )
        if self.refusing is not None:
            selected.refusing = _any(self.refusing[rows])
        selected.missing = {model: mask[rows] for model, mask in self.missing.items()}
        if len(self._selected) < MAX_SELECTIONS:
            self._selected[mask] = (rows, selected)
        return selected

    def _with_live_of(self, whole: "Snapshot", rows: npt.NDArray[np.intp]) -> "Snapshot":
        """This selection with the live columns of `whole`; everything else is shared, caches included."""
        other = Snapshot.__new__(Snapshot)
        other.pods = self.pods
        other.resting = self.resting
        other.refusing = self.refusing
        other.missing = self.missing
        other.waiting = whole.waiting[rows]
        other.running = whole.running[rows]
        other.kv_usage = self.kv_usage
        other.kv_tokens = self.kv_tokens
        other.ttft = self.ttft
        other.tpot = self.tpot
        other.adapters = self.adapters
        other.in_flight = whole.in_flight[rows]
        other.in_flight_tokens = whole.in_flight_tokens[rows]
        other.served = whole.served[rows]
        other.prefill = whole.prefill[:, rows]
        other.derived = self.derived
        other._rows = self._rows  # noqa: SLF001 - its own class
        other._selected = self._selected  # noqa: SLF001 - its own class
        return other

    def derive(self, key: object, compute: Callable[["Snapshot"], Any]) -> Any:
        """`compute(self)`, once per snapshot: for parts of a score that depend on scraped columns alone."""
        try:
            return self.derived[key]
        except KeyError:
            value = self.derived[key] = compute(self)
            return value


def _any(mask: BoolArray | None) -> BoolArray | None:
    return mask if mask is not None and mask.any() else None


class Undo(Protocol):
    """Takes back what a plugin recorded at a pick. Called at most once."""

    def __call__(self) -> None: ...


class Prefill(msgspec.Struct, frozen=True):
    """Where a prompt is computed, if not at the pod that answers."""

    pod: Pod
    #: As of a decision, for this pod.
    uncached_tokens: int
    prefix_match: float | None
    #: As of a decision, for this pod.
    undo: tuple["Undo", ...] = ()


class Costs(msgspec.Struct, frozen=True):
    """Cost of a request to all requests at each candidate, in seconds, by parts."""

    #: For the prefill that is ahead of it.
    waits: Sequence[float]
    #: For its own prefill.
    computes: Sequence[float]
    #: By which the others at the pod are held up.
    others_wait: Sequence[float]
    #: Expected for room in the KV cache.
    room: Sequence[float]

    def of(self, row: int) -> dict[str, Any]:
        """The parts at one candidate and their sum, rounded to milliseconds, and the same in words."""
        parts = (self.waits[row], self.computes[row], self.others_wait[row], self.room[row])
        names = ("waits", "computes", "others_wait", "room")
        texts = ("waits {:.1f} s", "computes {:.1f} s", "others wait {:.1f} s", "for room in the cache {:.1f} s")
        # What does not show at this precision is left out.
        words = [text.format(part) for text, part in zip(texts, parts, strict=True) if part >= 0.05]
        return {
            "seconds": round(sum(parts), 3),
            **{name: round(part, 3) for name, part in zip(names, parts, strict=True)},
            "words": ", ".join(words) or "less than 0.1 s",
        }


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request goes, and why."""

    #: Best first, then the fallbacks in the order in which they are to be tried. At least one; no duplicates.
    pods: tuple[Pod, ...]
    #: The candidates that were scored, in the order of the arrays below.
    candidates: Snapshot
    total: FloatArray | Sequence[float]
    #: Scorer name -> its scores (0-100) before weighting.
    scores: Mapping[str, FloatArray]
    weights: Mapping[str, float]
    #: Filter name -> how many pods were left after it.
    filtered: Mapping[str, int]
    #: Prompt tokens that the picked pod is expected to compute, i.e. that no prefix cache was seen to hold.
    uncached_tokens: int
    #: Share of the prompt's blocks that the picked pod was seen to hold, 0-1; None where no plugin looked.
    prefix_match: float | None
    #: None: the picked pod computes the prompt itself.
    prefill: Prefill | None = None
    #: In the order of `candidates`; None where no plugin counted in seconds.
    costs: Costs | None = None
    #: Call each when the request turns out never to have reached the pod.
    undo: tuple[Undo, ...] = ()

    @property
    def pod(self) -> Pod:
        return self.pods[0]

    def explain(self, limit: int = 16) -> list[dict[str, Any]]:
        """One row a pod, best first: address, total, score per plugin. At most `limit` rows."""
        order = np.argsort(-np.asarray(self.total), kind="stable").tolist()
        # The picked pods first, in their order: ties were broken by more than the totals show.
        rows = self.candidates.rows
        first = [rows[pod.address] for pod in self.pods if pod.address in rows]
        rest = [row for row in order if row not in set(first)]
        return [
            {
                "pod": self.candidates.pods[row].address,
                "name": self.candidates.pods[row].name or self.candidates.pods[row].address,
                "total": round(float(self.total[row]), 3),
                "scores": {name: round(float(score[row]), 3) for name, score in self.scores.items()},
                "in_flight": int(self.candidates.in_flight[row]),
                **({} if self.costs is None else {"cost": self.costs.of(row)}),
            }
            for row in islice([*first, *rest], limit)
        ]
