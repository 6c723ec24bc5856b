from __future__ import annotations

import json
from typing import Any

from extproc.parsers import Api, parse
from extproc.parsers.digest import digest

PATH = "/v1/messages"
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0K" * 1000}}
EPHEMERAL = {"cache_control": {"type": "ephemeral"}}


def text_of(**fields: Any) -> str:
    return str(parse(PATH, json.dumps({"model": "m", **fields}).encode()).prompt)


def test_a_request() -> None:
    body = {
        "model": "claude",
        "max_tokens": 10,
        "stream": True,
        "system": "Be kind.",
        "tools": [{"name": "weather", "input_schema": {}}],
        "messages": [
            {"role": "user", "content": "Weather?"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                    {"type": "tool_use", "id": "t1", "name": "weather", "input": {"b": 1, "a": 2}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "Sun."}, IMAGE]},
                    {"type": "text", "text": "So?"},
                ],
            },
        ],
    }
    parsed = parse(PATH, json.dumps(body).encode())
    assert (parsed.model, parsed.api) == ("claude", Api.ANTHROPIC_MESSAGES)
    assert str(parsed.prompt) == (
        '\x1ef[{"input_schema":{},"name":"weather"}]'
        "\x1emsystem\x1etBe kind.\x1emuser\x1etWeather?"
        '\x1emassistant\x1egHm.\x1ec{"id":"t1","input":{"a":2,"b":1},"name":"weather","type":"tool_use"}'
        "\x1emuser\x1ert1\x1etSun.\x1ep" + digest(IMAGE) + "\x1ee\x1etSo?"
    )


def test_system_as_a_text_and_as_a_block_are_the_same() -> None:
    assert text_of(system="a") == text_of(system=[{"type": "text", "text": "a", **EPHEMERAL}])
    assert text_of(system=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]) == "\x1emsystem\x1eta\x1etb"


def test_the_wandering_cache_control_does_not_tell_turns_apart() -> None:
    def turn(last: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"role": "user", "content": [{"type": "text", "text": "a"}, {**IMAGE, **last}]}]

    later = [*turn({}), {"role": "user", "content": [{"type": "text", "text": "b", **EPHEMERAL}]}]
    assert text_of(messages=later).startswith(text_of(messages=turn(EPHEMERAL)))


def test_a_tool_result_has_an_end() -> None:
    def result(*texts: str) -> dict[str, Any]:
        return {
            "type": "tool_result",
            "tool_use_id": "t",
            "content": [{"type": "text", "text": text} for text in texts],
        }

    inside = [{"role": "user", "content": [result("a", "b")]}]
    outside = [{"role": "user", "content": [result("a"), {"type": "text", "text": "b"}]}]
    assert text_of(messages=inside) != text_of(messages=outside)


def test_odd_blocks() -> None:
    odd = {"type": "thinking", "thinking": 3}
    assert text_of(messages=[{"role": "user", "content": [odd]}]) == "\x1emuser\x1ep" + digest(odd)
    bare = {"type": "tool_result"}
    assert text_of(messages=[{"role": "user", "content": [bare]}]) == "\x1emuser\x1er\x1ee"
