from __future__ import annotations

import json
from typing import Any

import pytest

from extproc.parsers import parse
from extproc.parsers.openai_embeddings import MAX_INPUTS


def text_of(**fields: Any) -> str:
    return str(parse("/v1/embeddings", json.dumps({"model": "m", **fields}).encode()).prompt)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "\x1eta"),
        (["a"], "\x1eta"),
        (["a", "b"], "\x1eta\x1etb"),
        (["ab"], "\x1etab"),
        ([1, 23], "\x1ed1,23,"),
        ([[1, 23], [4]], "\x1ed1,23,\x1ed4,"),
        (["a", {"image": "x"}, None, "b"], "\x1eta\x1etb"),
        ([], ""),
        (None, ""),
        (3, ""),
        ({"image": "x"}, ""),
    ],
)
def test_inputs(value: object, text: str) -> None:
    assert text_of(input=value) == text


def test_the_first_inputs_count() -> None:
    assert text_of(input=["ab"] * 2000) == "\x1etab" * MAX_INPUTS


def test_all_of_the_token_ids_of_one_input_count() -> None:
    assert text_of(input=[7] * 1000) == "\x1ed" + "7," * 1000


def test_messages() -> None:
    assert text_of(messages=[{"role": "user", "content": "a"}]) == "\x1emuser\x1eta"
