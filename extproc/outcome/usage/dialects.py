"""The names under which APIs report token usage, and what their numbers mean."""

from collections.abc import Mapping
from typing import Any

import msgspec

from extproc.parsers.base import Api
from extproc.protocol.events import MAX_COUNT, TokenUsage


class Dialect(msgspec.Struct, frozen=True):
    """Names of one API. A path of two leads into an object inside of the usage object."""

    prompt: str
    completion: str
    cached: tuple[str, ...]
    #: Prompt tokens that `prompt` does not count.
    apart: tuple[str, ...] = ()


OPENAI = Dialect("prompt_tokens", "completion_tokens", ("prompt_tokens_details", "cached_tokens"))
RESPONSES = Dialect("input_tokens", "output_tokens", ("input_tokens_details", "cached_tokens"))
ANTHROPIC = Dialect(
    "input_tokens",
    "output_tokens",
    ("cache_read_input_tokens",),
    ("cache_read_input_tokens", "cache_creation_input_tokens"),
)

_DIALECTS: Mapping[Api, Dialect] = {
    Api.OPENAI_CHAT: OPENAI,
    Api.OPENAI_COMPLETIONS: OPENAI,
    Api.OPENAI_EMBEDDINGS: OPENAI,
    Api.OPENAI_RESPONSES: RESPONSES,
    Api.ANTHROPIC_MESSAGES: ANTHROPIC,
}

#: All usage objects have a key that ends so, and hardly anything else of an answer has.
MARKER = b'_tokens"'


class UsageCounts:
    """Counts gathered from the usage objects of one answer; of a count reported twice, the later one holds."""

    __slots__ = ("_counts", "_dialect")

    def __init__(self, api: Api) -> None:
        #: None: recognized by the names in the usage object.
        self._dialect = _DIALECTS.get(api)
        self._counts: dict[str, int] = {}

    def add(self, usage: object, *, started: bool = False) -> None:
        """Takes over the counts in `usage`. Anything that is no usage object, or no count in it, is ignored.

        Args:
            usage: A decoded usage object.
            started: `usage` was reported before the first token: its count of completion tokens is none.
        """
        if type(usage) is not dict:
            return
        dialect = self._dialect
        if dialect is None:
            dialect = _recognise(usage)
            if dialect is None:
                return
            self._dialect = dialect
        names = (dialect.prompt, *dialect.apart) if started else (dialect.prompt, dialect.completion, *dialect.apart)
        for name in names:
            self._keep(name, usage.get(name))
        cached: object = usage
        for name in dialect.cached:
            cached = cached.get(name) if type(cached) is dict else None
        self._keep(dialect.cached[-1], cached)

    def _keep(self, name: str, value: object) -> None:
        # Not bool, which is an int to isinstance.
        if type(value) is int and 0 <= value <= MAX_COUNT:
            self._counts[name] = value

    @property
    def usage(self) -> TokenUsage:
        dialect = self._dialect
        counts = self._counts
        if dialect is None or not counts:
            return NO_USAGE
        prompt = counts.get(dialect.prompt)
        if prompt is not None:
            prompt += sum(counts.get(name, 0) for name in dialect.apart)
        return TokenUsage(prompt, counts.get(dialect.cached[-1]), counts.get(dialect.completion))


NO_USAGE = TokenUsage()


def _recognise(usage: dict[str, Any]) -> Dialect | None:
    if OPENAI.prompt in usage:
        return OPENAI
    if RESPONSES.prompt not in usage:
        return None
    # Without a word about a cache these two mean the same.
    return RESPONSES if RESPONSES.cached[0] in usage else ANTHROPIC
