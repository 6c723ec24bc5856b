from __future__ import annotations

import json
from typing import Any

import pytest

from extproc.parsers import Api, parse


def text_of(**fields: Any) -> str:
    return str(parse("/generate", json.dumps(fields).encode()).prompt)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, ""),
        ({"messages": [{"role": "user", "content": "a"}]}, "\x1emuser\x1eta"),
        (
            {"messages": [{"role": "user", "content": "a"}], "system": "s", "tools": [1]},
            "\x1ef[1]\x1emsystem\x1ets\x1emuser\x1eta",
        ),
        ({"prompt": "a"}, "a"),
        ({"text": "a"}, "a"),
        ({"prompt": "a", "text": "b"}, "a"),
        ({"input": ["a", "b"]}, "\x1eta\x1etb"),
        ({"lora_name": "x", "lora_path": "/x"}, ""),
    ],
)
def test_known_names_are_found(fields: dict[str, Any], text: str) -> None:
    assert text_of(**fields) == text


def test_a_request_without_a_model() -> None:
    parsed = parse("/generate", b'{"text":"a","stream":true}')
    assert (parsed.model, parsed.stream, parsed.api) == ("", True, Api.GENERIC)
