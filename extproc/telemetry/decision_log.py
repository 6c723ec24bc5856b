# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""The last decisions, kept to be asked about: keeping one is an append, and words are found when somebody asks."""

from collections import deque
from collections.abc import Iterator
from itertools import islice, starmap
from typing import Any, NamedTuple

from scheduler.types import Decision, Request

#: Decisions that `matches` looks at: the whole log by default, and no more than that takes a tenth of a millisecond.
MATCHED_DECISIONS = 256


class Entry(NamedTuple):
    """A decision as it was made, without the prompt. `at` is wall-clock seconds."""

    at: float
    request_id: str
    #: As the client named it, and as the pods know it.
    model: str
    sent_model: str
    pool: str
    prompt_tokens: int
    decision: Decision


_Fields = tuple[float, str, str, str, str, int, Decision]


class DecisionLog:
    """The last `capacity` decisions; 0 keeps none."""

    def __init__(self, capacity: int) -> None:
        # The fields of an `Entry`, which costs four times a plain tuple to make.
        self._entries: deque[_Fields] = deque(maxlen=capacity)

    def add(self, at: float, request: Request, decision: Decision, *, model: str | None = None, pool: str = "") -> None:
        """Keeps a decision. `model` is the client's name for it, where that is another than the request's."""
        sent = request.model
        asked = sent if model is None else model
        self._entries.append((at, request.id, asked, sent, pool, request.prompt.tokens, decision))

    def matches(self) -> dict[str, float]:
        """Address of a pod -> mean share (0-1) of the prompts that it held, over the newest decisions for it."""
        found: dict[str, list[float]] = {}
        for *_, decision in islice(reversed(self._entries), MATCHED_DECISIONS):
            if decision.prefix_match is not None:
                found.setdefault(decision.pods[0].address, []).append(decision.prefix_match)
        return {address: sum(matches) / len(matches) for address, matches in found.items()}

    def rows(self, limit: int) -> Iterator[dict[str, Any]]:
        """At most `limit` decisions, newest first, each with a row for every pod that is worth showing."""
        for entry in starmap(Entry, list(self._entries)[: -limit - 1 : -1]):
            decision = entry.decision
            yield {
                "time": entry.at,
                "request_id": entry.request_id,
                "model": entry.model,
                "rewritten_model": entry.sent_model if entry.sent_model != entry.model else None,
                "pool": entry.pool,
                "pods": [pod.address for pod in decision.pods],
                "prompt_tokens": entry.prompt_tokens,
                "uncached_tokens": decision.uncached_tokens,
                "prefix_match": decision.prefix_match,
                "prefill": None if decision.prefill is None else decision.prefill.pod.address,
                "filtered": dict(decision.filtered),
                "weights": dict(decision.weights),
                "candidates": decision.explain(),
            }
