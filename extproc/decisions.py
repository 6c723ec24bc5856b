"""The last decisions, kept to be asked about: keeping one is an append, and words are found when somebody asks."""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from scheduler.types import Decision, Request

#: Decisions that `matches` looks at: the whole log by default, and no more than that takes a tenth of a millisecond.
MATCHED_DECISIONS = 256


class Entry(NamedTuple):
    """A decision as it was made, without the prompt. `at` is wall-clock seconds."""

    at: float
    request_id: str
    model: str
    prompt_tokens: int
    decision: Decision


class DecisionLog:
    """The last `capacity` decisions; 0 keeps none."""

    def __init__(self, capacity: int) -> None:
        self._entries: deque[Entry] = deque(maxlen=capacity)

    def add(self, at: float, request: Request, decision: Decision) -> None:
        self._entries.append(Entry(at, request.id, request.model, request.prompt.tokens, decision))

    def matches(self) -> dict[str, float]:
        """Address of a pod -> mean share (0-1) of the prompts that it held, over the newest decisions for it."""
        found: dict[str, list[float]] = {}
        for entry in islice(reversed(self._entries), MATCHED_DECISIONS):
            if entry.decision.prefix_match is not None:
                found.setdefault(entry.decision.pods[0].address, []).append(entry.decision.prefix_match)
        return {address: sum(matches) / len(matches) for address, matches in found.items()}

    def rows(self, limit: int) -> Iterator[dict[str, Any]]:
        """At most `limit` decisions, newest first, each with a row for every pod that is worth showing."""
        for entry in list(self._entries)[: -limit - 1 : -1]:
            decision = entry.decision
            yield {
                "time": entry.at,
                "request_id": entry.request_id,
                "model": entry.model,
                "pods": [pod.address for pod in decision.pods],
                "prompt_tokens": entry.prompt_tokens,
                "uncached_tokens": decision.uncached_tokens,
                "prefix_match": decision.prefix_match,
                "filtered": dict(decision.filtered),
                "weights": dict(decision.weights),
                "candidates": decision.explain(),
            }
