"""One suite over all APIs: what each reads, and that its stream says the same as its whole answer."""

import base64
import json
import struct
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsim.api import APIS
from modelsim.api.base import Ask, Reply, Usage
from modelsim.errors import ApiError

CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES = (
    "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/messages", "/v1/responses",
)  # fmt: skip

HELLO = [{"role": "user", "content": "hello"}]

#: Smallest body of each.
SMALLEST: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HELLO},
    COMPLETIONS: {"prompt": "hello"},
    EMBEDDINGS: {"input": "hello"},
    MESSAGES: {"messages": HELLO},
    RESPONSES: {"input": "hello"},
}
GENERATING = [CHAT, COMPLETIONS, MESSAGES, RESPONSES]


def read(path: str, **fields: Any) -> Ask:
    return APIS[path].read({**SMALLEST[path], **fields})


@pytest.mark.parametrize("path", APIS)
def test_the_smallest_body_will_do(path: str) -> None:
    ask = read(path)
    assert ask.model is None
    assert "hello" in ask.prompt
    assert not ask.stream
    assert ask.max_tokens == (0 if path == EMBEDDINGS else 64)
    assert not ask.limited


@pytest.mark.parametrize("path", APIS)
def test_the_model_is_read(path: str) -> None:
    assert read(path, model="m").model == "m"


@pytest.mark.parametrize("path", GENERATING)
def test_stream_is_read(path: str) -> None:
    assert read(path, stream=True).stream
    assert not read(path, stream=None).stream


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_include_usage_is_read(path: str) -> None:
    assert read(path, stream_options={"include_usage": True}).include_usage
    assert not read(path, stream_options={}).include_usage


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (CHAT, {"max_tokens": 7}),
        (CHAT, {"max_completion_tokens": 7}),
        (CHAT, {"max_completion_tokens": 7, "max_tokens": 9}),
        (CHAT, {"max_completion_tokens": None, "max_tokens": 7}),
        (COMPLETIONS, {"max_tokens": 7}),
        (MESSAGES, {"max_tokens": 7}),
        (RESPONSES, {"max_output_tokens": 7}),
    ],
)
def test_a_limit_is_honoured(path: str, fields: dict[str, Any]) -> None:
    ask = read(path, **fields)
    assert (ask.max_tokens, ask.limited) == (7, True)


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (CHAT, {"model": 3}, "model"),
        (CHAT, {"messages": None}, "messages"),
        (CHAT, {"messages": []}, "messages"),
        (CHAT, {"messages": ["hello"]}, "messages[0]"),
        (CHAT, {"messages": [{"role": 3, "content": "x"}]}, "messages[0].role"),
        (CHAT, {"messages": [*HELLO, {"role": "user", "content": 3}]}, "messages[1].content"),
        (CHAT, {"max_tokens": 0}, "max_tokens"),
        (CHAT, {"max_tokens": "7"}, "max_tokens"),
        (CHAT, {"max_tokens": True}, "max_tokens"),
        (CHAT, {"n": 2}, "n"),
        (CHAT, {"stream": "yes"}, "stream"),
        (CHAT, {"stream_options": []}, "stream_options"),
        (CHAT, {"stream_options": {"include_usage": 1}}, "include_usage"),
        (COMPLETIONS, {"prompt": None}, "prompt"),
        (COMPLETIONS, {"prompt": ["a", "b"]}, "prompt"),
        (COMPLETIONS, {"prompt": []}, "prompt"),
        (COMPLETIONS, {"n": 2}, "n"),
        (COMPLETIONS, {"max_tokens": -1}, "max_tokens"),
        (EMBEDDINGS, {"input": None}, "input"),
        (EMBEDDINGS, {"input": []}, "input"),
        (EMBEDDINGS, {"input": ["a", 3]}, "input"),
        (EMBEDDINGS, {"dimensions": 0}, "dimensions"),
        (EMBEDDINGS, {"dimensions": 5000}, "dimensions"),
        (EMBEDDINGS, {"encoding_format": "int8"}, "encoding_format"),
        (MESSAGES, {"messages": None}, "messages"),
        (MESSAGES, {"system": 3}, "system"),
        (MESSAGES, {"max_tokens": 1.5}, "max_tokens"),
        (RESPONSES, {"input": None}, "input"),
        (RESPONSES, {"instructions": 3}, "instructions"),
        (RESPONSES, {"max_output_tokens": 0}, "max_output_tokens"),
    ],
)
def test_a_bad_body_is_told_its_fault(path: str, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as error:
        read(path, **fields)
    assert (error.value.status, error.value.param) == (400, param)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
FIELDS = [
    "model", "messages", "prompt", "input", "system", "instructions", "stream", "stream_options", "n", "max_tokens",
    "max_completion_tokens", "max_output_tokens", "dimensions", "encoding_format", "tools",
]  # fmt: skip


@given(st.sampled_from(sorted(APIS)), st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=5))
def test_any_body_is_read_or_refused(path: str, fields: dict[str, Any]) -> None:
    with suppress(ApiError):
        assert isinstance(read(path, **fields).prompt, str)


def test_a_prompt_is_what_a_template_makes_of_the_messages() -> None:
    parts = [{"type": "text", "text": "look: "}, {"type": "image_url", "image_url": {"url": "u"}}]
    calls = [{"function": {"name": "f"}}]
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None, "tool_calls": calls},
    ]
    ask = read(CHAT, messages=messages, tools=[{"name": "f"}])
    assert ask.prompt == (
        '[{"name":"f"}]\n<system>be brief\n<user>look: {"type":"image_url","image_url":{"url":"u"}}\n'
        '<assistant>\n[{"function":{"name":"f"}}]'
    )


def test_turns_of_a_chat_share_their_prefix() -> None:
    first = read(CHAT, messages=HELLO).prompt
    later = [*HELLO, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "more"}]
    assert read(CHAT, messages=later).prompt.startswith(first)


def test_instructions_and_system_come_first() -> None:
    assert read(RESPONSES, instructions="be brief. ", input=HELLO).prompt == "be brief. <user>hello\n"
    assert read(MESSAGES, system=[{"type": "text", "text": "be brief. "}]).prompt == "be brief. <user>hello\n"


@pytest.mark.parametrize("prompt", ["0abc", ["0abc"], [0xABC], [[0xABC]]])
def test_ways_to_write_one_prompt(prompt: object) -> None:
    assert read(COMPLETIONS, prompt=prompt).prompt == "0abc"


def reply(path: str, **fields: Any) -> Reply:
    body = {**SMALLEST[path], **fields}
    return Reply(id="r1", model="m", created=1700000000, ask=APIS[path].read(body), body=body)


USAGE = Usage(20, 16, 3)


def unary(path: str, **fields: Any) -> dict[str, Any]:
    return APIS[path].unary(reply(path, **fields), "The engine behind", USAGE)


def stream(path: str, **fields: Any) -> bytes:
    streamer = APIS[path].stream(reply(path, stream=True, **fields))
    words = ["The", " engine", " behind"]
    return b"".join(
        [
            streamer.opening(),
            streamer.begin(Usage(20, 16, 1)),
            *[streamer.token(word, last=word == words[-1]) for word in words],
            streamer.end(USAGE),
        ]
    )


def events(wire: bytes) -> list[tuple[str, Any]]:
    """(name, data) of each event, by the rules of the format."""
    assert wire.endswith(b"\n\n")
    found = []
    for block in wire.decode().removesuffix("\n\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        assert set(fields) in ({"data"}, {"event", "data"})
        data = fields["data"]
        found.append((fields.get("event", ""), data if data == "[DONE]" else json.loads(data)))
    return found


OPENAI_USAGE = {
    "prompt_tokens": 20,
    "total_tokens": 23,
    "completion_tokens": 3,
    "prompt_tokens_details": {"cached_tokens": 16},
}


def test_chat_stream_byte_for_byte() -> None:
    head = b'data: {"id":"chatcmpl-r1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":['
    assert stream(CHAT, max_tokens=3, stream_options={"include_usage": True}) == (
        head
        + b'{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}\n\n'
        + head
        + b'{"index":0,"delta":{"content":"The"},"logprobs":null,"finish_reason":null}]}\n\n'
        + head
        + b'{"index":0,"delta":{"content":" engine"},"logprobs":null,"finish_reason":null}]}\n\n'
        + head
        + b'{"index":0,"delta":{"content":" behind"},"logprobs":null,"finish_reason":"length"}]}\n\n'
        + head
        + b'],"usage":{"prompt_tokens":20,"total_tokens":23,"completion_tokens":3,'
        + b'"prompt_tokens_details":{"cached_tokens":16}}}\n\n'
        + b"data: [DONE]\n\n"
    )


def test_chat_stream_without_usage() -> None:
    messages = events(stream(CHAT))
    assert messages[-1] == ("", "[DONE]")
    assert not any("usage" in message for _, message in messages[:-1])
    assert messages[-2][1]["choices"][0]["finish_reason"] == "stop"


def test_chat_unary() -> None:
    answer = unary(CHAT, max_tokens=3)
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"]["content"] == "The engine behind"
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"] == OPENAI_USAGE
    assert unary(CHAT)["choices"][0]["finish_reason"] == "stop"


def test_completions_unary_and_stream() -> None:
    answer = unary(COMPLETIONS, max_tokens=3)
    assert answer["object"] == "text_completion"
    assert answer["choices"][0]["text"] == "The engine behind"
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"] == OPENAI_USAGE
    *chunks, usage, done = [
        message for _, message in events(stream(COMPLETIONS, stream_options={"include_usage": True}))
    ]
    assert done == "[DONE]"
    assert (usage["choices"], usage["usage"]) == ([], OPENAI_USAGE)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "The engine behind"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "stop"]
    assert events(stream(COMPLETIONS, max_tokens=3))[-2][1]["choices"][0]["finish_reason"] == "length"


def test_messages_unary_and_stream() -> None:
    usage = {
        "input_tokens": 4,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 16,
        "output_tokens": 3,
    }
    answer = unary(MESSAGES, max_tokens=3)
    assert answer["content"] == [{"type": "text", "text": "The engine behind"}]
    assert (answer["type"], answer["stop_reason"], answer["usage"]) == ("message", "max_tokens", usage)
    assert unary(MESSAGES)["stop_reason"] == "end_turn"
    log = events(stream(MESSAGES))
    assert [name for name, _ in log] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert all(name == message["type"] for name, message in log)
    assert log[0][1]["message"]["usage"] == {**usage, "output_tokens": 1}
    assert "".join(message["delta"]["text"] for name, message in log if name == "content_block_delta") == (
        "The engine behind"
    )
    assert log[-2][1]["delta"]["stop_reason"] == "end_turn"
    assert log[-2][1]["usage"] == usage


def test_responses_unary_and_stream() -> None:
    usage = {
        "input_tokens": 20,
        "input_tokens_details": {"cached_tokens": 16},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 23,
    }
    answer = unary(RESPONSES, max_output_tokens=3)
    assert answer["output"][0]["content"][0]["text"] == "The engine behind"
    assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert answer["usage"] == usage
    log = events(stream(RESPONSES))
    assert [name.removeprefix("response.") for name, _ in log] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        *["output_text.delta"] * 3,
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert all(name == message["type"] for name, message in log)
    assert [message["sequence_number"] for _, message in log] == list(range(len(log)))
    assert "".join(message["delta"] for name, message in log if name.endswith(".delta")) == "The engine behind"
    assert log[-1][1]["response"] == unary(RESPONSES)
    assert (log[-1][1]["response"]["status"], log[-1][1]["response"]["usage"]) == ("completed", usage)


def test_embeddings() -> None:
    answer = unary(EMBEDDINGS, input=["a", "b", "a"], dimensions=3)
    vectors = [item["embedding"] for item in answer["data"]]
    assert [item["index"] for item in answer["data"]] == [0, 1, 2]
    assert vectors[0] == vectors[2] != vectors[1]
    assert sum(value * value for value in vectors[0]) == pytest.approx(1)
    assert answer["usage"] == {"prompt_tokens": 20, "total_tokens": 20}


def test_embeddings_in_base64_and_of_tokens() -> None:
    plain = unary(EMBEDDINGS, input=[[1, 2], [3]])["data"]
    packed = unary(EMBEDDINGS, input=[[1, 2], [3]], encoding_format="base64")["data"]
    for one, other in zip(plain, packed, strict=True):
        assert list(struct.unpack("<64f", base64.b64decode(other["embedding"]))) == pytest.approx(one["embedding"])


def test_embeddings_are_not_streamed() -> None:
    with pytest.raises(ApiError, match="not streamed"):
        APIS[EMBEDDINGS].stream(reply(EMBEDDINGS, stream=True))
