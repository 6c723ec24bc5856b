from __future__ import annotations

import pytest

from extproc.parsers import Api, api_of, is_model_api, parse


@pytest.mark.parametrize(
    ("path", "api"),
    [
        ("/v1/chat/completions", Api.OPENAI_CHAT),
        ("/team-a/v1/chat/completions", Api.OPENAI_CHAT),
        ("/v3/chat/completions", Api.OPENAI_CHAT),
        ("/v1/chat/completions?api-version=1", Api.OPENAI_CHAT),
        ("/v1/chat/completions/", Api.OPENAI_CHAT),
        ("/v1/chat/completion%73", Api.OPENAI_CHAT),
        ("/v1%2Fchat/completions?x=%zz", Api.OPENAI_CHAT),
        ("/v1/completions", Api.OPENAI_COMPLETIONS),
        ("/team-a/v1/completions", Api.OPENAI_COMPLETIONS),
        ("/v1/embeddings", Api.OPENAI_EMBEDDINGS),
        ("/v1/responses", Api.OPENAI_RESPONSES),
        ("/v1/messages", Api.ANTHROPIC_MESSAGES),
        ("/v1/messages?beta=true", Api.ANTHROPIC_MESSAGES),
        ("/v1/messages/count_tokens", Api.GENERIC),
        ("/v1/responses/resp_1/cancel", Api.GENERIC),
        ("/mailbox/messages", Api.GENERIC),
        ("/xv1/messages", Api.GENERIC),
        ("/x?next=/v1/messages", Api.GENERIC),
        ("/v1/CHAT/completions", Api.GENERIC),
        ("/tokenize", Api.GENERIC),
        ("/%ff%", Api.GENERIC),
        ("/", Api.GENERIC),
        ("", Api.GENERIC),
        ("*", Api.GENERIC),
    ],
)
def test_api_by_the_end_of_the_path(path: str, api: Api) -> None:
    assert api_of(path) is api
    assert is_model_api(path) is (api is not Api.GENERIC)
    parsed = parse(path, b'{"model":"m"}')
    assert (parsed.api, parsed.model) == (api, "m")


def test_a_spelling_of_the_path_is_the_same_api() -> None:
    assert parse("/v1/chat/completion%73", b"{}").api is Api.OPENAI_CHAT


@pytest.mark.parametrize(
    ("path", "api"),
    [
        ("/openai/deployments/gpt/chat/completions?api-version=1", Api.OPENAI_CHAT),
        ("/openai/deployments/gpt/completions", Api.OPENAI_COMPLETIONS),
        ("/openai/deployments/gpt/embeddings", Api.OPENAI_EMBEDDINGS),
        ("/openai/deployments/gpt/audio/transcriptions", Api.GENERIC),
    ],
)
def test_azures_paths(path: str, api: Api) -> None:
    assert api_of(path) is api
