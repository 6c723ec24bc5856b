"""The last decisions, kept to be asked about: keeping one is an append, and words are found when somebody asks."""

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from scheduler.types import Decision, Request


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
