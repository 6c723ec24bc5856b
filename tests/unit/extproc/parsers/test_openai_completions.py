from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.parsers import parse

MANY = settings(max_examples=150)

ids = st.lists(st.integers(0, 200_000), max_size=20)


def text_of(prompt: object) -> str:
    return str(parse("/v1/completions", json.dumps({"model": "m", "prompt": prompt}).encode()).prompt)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("Once upon", "Once upon"),
        ("a\x1etb", "a\x1e\x1etb"),
        (["Once", "Twice"], "Once"),
        ([12, 3, 456], "\x1ed12,3,456,"),
        ([[12, 3], [4]], "\x1ed12,3,"),
        ([[]], "\x1ed"),
        ([12, "a\x1e"], '\x1ed12,"a\\u001e",'),
        ("", ""),
        ([], "\x1ed"),
        (None, ""),
        (3, ""),
        ({"text": "a"}, ""),
        ([{"prompt_embeds": "a"}], ""),
        ([None], ""),
    ],
)
def test_prompts(prompt: object, text: str) -> None:
    assert text_of(prompt) == text


@MANY
@given(ids, ids)
def test_more_token_ids_only_append(one: list[int], more: list[int]) -> None:
    assert text_of(one + more).startswith(text_of(one))


@MANY
@given(ids, ids)
def test_different_token_ids_have_different_texts(one: list[int], other: list[int]) -> None:
    assert (text_of(one) == text_of(other)) is (one == other)
    assert text_of(str(one)) != text_of(one)


def test_a_text_is_not_copied() -> None:
    # `Prompt.head` encodes only what is asked for of a prompt in one part.
    assert parse("/v1/completions", b'{"model":"m","prompt":"abc"}').prompt._parts == ["abc"]
