from __future__ import annotations

from typing import Any

import pytest

from extproc.outcome.usage.dialects import MARKER, UsageCounts
from extproc.parsers import Api
from extproc.protocol.events import MAX_COUNT, TokenUsage

OPENAI = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 4},
}
RESPONSES = {"input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4}}
ANTHROPIC = {"input_tokens": 6, "output_tokens": 5, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 3}


def read(api: Api, *usages: object) -> TokenUsage:
    counts = UsageCounts(api)
    for usage in usages:
        counts.add(usage)
    return counts.usage


@pytest.mark.parametrize(
    ("api", "usage", "told"),
    [
        (Api.OPENAI_CHAT, OPENAI, TokenUsage(10, 4, 5)),
        (Api.OPENAI_COMPLETIONS, OPENAI, TokenUsage(10, 4, 5)),
        (Api.OPENAI_EMBEDDINGS, {"prompt_tokens": 10, "total_tokens": 10}, TokenUsage(10)),
        (Api.OPENAI_CHAT, {**OPENAI, "prompt_tokens_details": None}, TokenUsage(10, None, 5)),
        (Api.OPENAI_CHAT, {"prompt_tokens": 0, "completion_tokens": 0}, TokenUsage(0, None, 0)),
        (Api.OPENAI_CHAT, {"completion_tokens": 5}, TokenUsage(None, None, 5)),
        (Api.OPENAI_RESPONSES, RESPONSES, TokenUsage(10, 4, 5)),
        # Anthropic counts cached tokens apart: all of the prompt is their sum.
        (Api.ANTHROPIC_MESSAGES, ANTHROPIC, TokenUsage(13, 4, 5)),
        (Api.ANTHROPIC_MESSAGES, {"input_tokens": 6, "output_tokens": 5}, TokenUsage(6, None, 5)),
        (Api.ANTHROPIC_MESSAGES, {**ANTHROPIC, "cache_creation_input_tokens": None}, TokenUsage(10, 4, 5)),
        (Api.GENERIC, OPENAI, TokenUsage(10, 4, 5)),
        (Api.GENERIC, RESPONSES, TokenUsage(10, 4, 5)),
        (Api.GENERIC, ANTHROPIC, TokenUsage(13, 4, 5)),
        (Api.GENERIC, {"input_tokens": 6}, TokenUsage(6)),
        (Api.GENERIC, {"tokens": 6}, TokenUsage()),
        # Names of another API are not taken for one's own.
        (Api.OPENAI_CHAT, RESPONSES, TokenUsage()),
    ],
)
def test_names(api: Api, usage: dict[str, Any], told: TokenUsage) -> None:
    assert read(api, usage) == told


@pytest.mark.parametrize("api", Api)
@pytest.mark.parametrize("usage", [None, [], 3, "usage", {}, True])
def test_no_usage(api: Api, usage: object) -> None:
    assert read(api, usage) == TokenUsage()


@pytest.mark.parametrize("count", [None, True, "10", 10.0, -1, [10], {}, MAX_COUNT + 1, 10**400])
def test_what_is_no_count_is_unknown(count: object) -> None:
    usage = {**OPENAI, "completion_tokens": count, "prompt_tokens_details": {"cached_tokens": count}}
    assert read(Api.OPENAI_CHAT, usage) == TokenUsage(10, None, None)
    assert read(Api.OPENAI_CHAT, {"prompt_tokens_details": count}) == TokenUsage()


def test_the_later_count_counts_and_what_is_not_told_again_stays() -> None:
    assert read(Api.OPENAI_CHAT, OPENAI, {"completion_tokens": 9}) == TokenUsage(10, 4, 9)
    assert read(Api.ANTHROPIC_MESSAGES, ANTHROPIC, {"input_tokens": 7, "output_tokens": 9}) == TokenUsage(14, 4, 9)
    assert read(Api.GENERIC, {"output_tokens": 3}, OPENAI, {"completion_tokens": 6}) == TokenUsage(10, 4, 6)


def test_no_completion_is_counted_before_it_started() -> None:
    counts = UsageCounts(Api.ANTHROPIC_MESSAGES)
    counts.add({**ANTHROPIC, "output_tokens": 1}, started=True)
    assert counts.usage == TokenUsage(13, 4, None)


@pytest.mark.parametrize("usage", [OPENAI, RESPONSES, ANTHROPIC])
def test_every_dialect_has_the_marker(usage: dict[str, Any]) -> None:
    for name in list(usage)[:2]:
        assert MARKER in f'"{name}"'.encode()
