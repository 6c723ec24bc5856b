from __future__ import annotations

import json
from typing import Any

import pytest

from extproc.parsers import Api, parse
from extproc.parsers.digest import digest

PATH = "/v1/responses"
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64," + "iVBORw0K" * 1000}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x" * 5000}


def text_of(**fields: Any) -> str:
    return str(parse(PATH, json.dumps({"model": "m", **fields}).encode()).prompt)


def test_a_request() -> None:
    body = {
        "model": "m",
        "stream": True,
        "instructions": "Be kind.",
        "tools": [{"type": "function", "name": "weather"}],
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}, IMAGE]},
            REASONING,
            {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "Sun."},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Sun.", "annotations": []}],
            },
        ],
    }
    parsed = parse(PATH, json.dumps(body).encode())
    assert (parsed.api, parsed.stream) == (Api.OPENAI_RESPONSES, True)
    assert str(parsed.prompt) == (
        '\x1ef[{"name":"weather","type":"function"}]'
        "\x1emsystem\x1etBe kind."
        "\x1emuser\x1etWeather?\x1ep"
        + digest(IMAGE)
        + "\x1ex"
        + digest(REASONING)
        + '\x1ec{"arguments":"{}","call_id":"c1","name":"weather","type":"function_call"}'
        "\x1erc1\x1etSun.\x1ee"
        "\x1emassistant\x1etSun."
    )


def test_a_string_is_a_message_of_the_user() -> None:
    assert text_of(input="hi") == text_of(input=[{"role": "user", "content": "hi"}]) == "\x1emuser\x1ethi"


def test_instructions_and_input_are_told_apart() -> None:
    assert text_of(instructions="a", input="b") != text_of(instructions="ab", input="")
    assert text_of(instructions="a") != text_of(input="a")


@pytest.mark.parametrize("value", [None, 3, {"role": "user"}, True])
def test_input_of_a_wrong_type_has_no_text(value: object) -> None:
    assert text_of(input=value) == ""


def test_odd_items() -> None:
    assert text_of(input=["hi", {}]) == "\x1ex" + digest("hi") + "\x1ex" + digest({})
    assert text_of(input=[{"type": "function_call_output"}]) == "\x1er\x1ee"
