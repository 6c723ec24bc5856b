from __future__ import annotations

import json
from typing import Any

import pytest

from extproc.parsers import Api, parse
from extproc.parsers.digest import digest

PATH = "/v1/chat/completions"
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "Tells it.", "parameters": {"type": "object"}},
}
TOOL_TEXT = (
    '\x1ef[{"function":{"description":"Tells it.","name":"weather","parameters":{"type":"object"}},"type":"function"}]'
)


def text_of(**fields: Any) -> str:
    return str(parse(PATH, json.dumps({"model": "m", **fields}).encode()).prompt)


def test_a_request() -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "function": {"name": "weather", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "Sun."},
    ]
    parsed = parse(PATH, json.dumps({"model": "llama", "stream": True, "messages": messages, "tools": [TOOL]}).encode())
    assert (parsed.model, parsed.stream, parsed.api) == ("llama", True, Api.OPENAI_CHAT)
    assert str(parsed.prompt) == (
        TOOL_TEXT + "\x1emsystem\x1etBe kind.\x1emuser\x1etWeather?"
        '\x1emassistant\x1ec[{"function":{"arguments":"{}","name":"weather"},"id":"1"}]'
        "\x1emtool\x1etSun.\x1ei1"
    )
    assert parsed.prompt.length == len(str(parsed.prompt))


@pytest.mark.parametrize("tools", [None, []])
def test_no_tools(tools: object) -> None:
    assert text_of(messages=[{"role": "user", "content": "a"}], tools=tools) == "\x1emuser\x1eta"


@pytest.mark.parametrize("tools", ["all", {"a": 1}, [3]])
def test_odd_tools_are_some_text(tools: object) -> None:
    assert text_of(tools=tools) == "\x1ef" + json.dumps(tools, separators=(",", ":"))


def test_cache_control_of_tools_is_no_text() -> None:
    assert text_of(tools=[TOOL, {**TOOL, "cache_control": {"type": "ephemeral"}}]) == text_of(tools=[TOOL, TOOL])


@pytest.mark.parametrize("messages", [None, "hi", 3, {"role": "user", "content": "hi"}, [], True])
def test_messages_of_a_wrong_type_have_no_text(messages: object) -> None:
    assert text_of(messages=messages) == ""


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"role": "user", "content": "a"}, "\x1emuser\x1eta"),
        ({"role": "user", "content": ["a", "b"]}, "\x1emuser\x1eta\x1etb"),
        ({"role": "user", "content": [{"type": "text", "text": "a"}]}, "\x1emuser\x1eta"),
        ({"role": "user", "content": {"type": "text", "text": "a"}}, "\x1emuser\x1eta"),
        ({"role": "user", "content": ""}, "\x1emuser\x1et"),
        ({"role": "user", "content": []}, "\x1emuser"),
        ({"role": "user", "content": None}, "\x1emuser"),
        ({"role": "user"}, "\x1emuser"),
        ({"content": "a"}, "\x1em\x1eta"),
        ({"role": 3, "content": "a"}, "\x1em\x1eta"),
        ({"role": ["user"], "content": "a"}, "\x1em\x1eta"),
        ({"role": "critic", "content": "a"}, "\x1emcritic\x1eta"),
        ({"role": "user", "content": "a\x1eb"}, "\x1emuser\x1eta\x1e\x1eb"),
        ({"role": "user", "content": "a", "name": "bo"}, "\x1emuser\x1eta\x1enbo"),
        ({"role": "user", "content": "a", "name": None}, "\x1emuser\x1eta"),
        ({"role": "assistant", "content": "a", "reasoning_content": "b"}, "\x1emassistant\x1eta\x1egb"),
        ({"role": "assistant", "function_call": {"name": "f"}}, "\x1emassistant"),
        ({"role": "assistant", "content": None, "function_call": {"name": "f"}}, '\x1emassistant\x1ec{"name":"f"}'),
        ({"role": "user", "content": 3}, "\x1emuser\x1ep" + digest(3)),
        ({"role": "user", "content": [None]}, "\x1emuser\x1ep" + digest(None)),
        (
            {"role": "user", "content": [{"type": "text", "text": 3}]},
            "\x1emuser\x1ep" + digest({"type": "text", "text": 3}),
        ),
        (
            {"role": "user", "content": [{"type": ["text"], "text": "a"}]},
            "\x1emuser\x1ep" + digest({"type": ["text"], "text": "a"}),
        ),
        ("hi", "\x1ex" + digest("hi")),
    ],
)
def test_messages(message: object, text: str) -> None:
    assert text_of(messages=[message]) == text


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "iVBORw0K" * 5000}},
        {"type": "image_url", "image_url": {"url": "https://example.com/" + "a" * 5000}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg" * 5000, "format": "wav"}},
        {"type": "file", "file": {"file_data": "JVBERi0x" * 5000}},
        {"type": "video_url", "video_url": {"url": "x" * 5000}},
        {"type": "something_new", "text": "x" * 5000},
    ],
)
def test_what_is_no_text_is_a_short_digest(part: dict[str, Any]) -> None:
    text = text_of(messages=[{"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]}])
    assert text == "\x1emuser\x1etWhat is it?\x1ep" + digest(part)
    other = json.loads(
        json.dumps(part)
        .replace("xxx", "xxy")
        .replace("0K", "0L")
        .replace("RgU", "RgV")
        .replace("0xJ", "0yJ")
        .replace("aaa", "aab")
    )
    assert other != part
    assert digest(other) != digest(part)
