"""Characters of prompt text per token, learnt per model from the usage that answers report.

English prose has four, Chinese one to two, source code three, and the text that stands for an image has no meaningful
ratio: where costs are in seconds, four for all would be wrong by two to four times.
"""

from collections import OrderedDict

from scheduler.types import CHARS_PER_TOKEN

#: Tokens that the first guess weighs as much as.
_PRIOR = 2_000.0
#: Tokens over which it is averaged: what a model is used for changes.
_WINDOW = 500_000.0
#: Prompt tokens below which an answer is no evidence: chat templates add a dozen of their own.
LEAST_TOKENS = 64
#: Bounds of what is believed.
LEAST, MOST = 0.25, 32.0
#: Models that are remembered; clients and routes make few, but their number has no bound.
MOST_MODELS = 1_000


class Characters:
    """Characters per token by model. One thread only."""

    def __init__(self) -> None:
        #: Characters and tokens, the least recently learnt model first.
        self._known: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def per_token(self, model: str) -> float:
        known = self._known.get(model)
        return CHARS_PER_TOKEN if known is None else known[0] / known[1]

    def observe(self, model: str, characters: int, tokens: int) -> None:
        """A prompt of so many characters had so many tokens."""
        if tokens < LEAST_TOKENS or not LEAST * tokens <= characters <= MOST * tokens:
            return
        before = self._known.pop(model, (_PRIOR * CHARS_PER_TOKEN, _PRIOR))
        total_characters, total_tokens = before[0] + characters, before[1] + tokens
        if total_tokens > _WINDOW:
            shrink = _WINDOW / total_tokens
            total_characters, total_tokens = total_characters * shrink, total_tokens * shrink
        self._known[model] = total_characters, total_tokens
        if len(self._known) > MOST_MODELS:
            self._known.popitem(last=False)
