from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.outcome.usage import UsageReader
from extproc.outcome.usage.sse import MAX_EVENT
from extproc.parsers import Api
from extproc.protocol.events import TokenUsage

MANY = settings(max_examples=150)

OPENAI = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "prompt_tokens_details": {"cached_tokens": 4},
}
RESPONSES = {"input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4}}


def event(data: object, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def chat_chunk(text: str, **fields: Any) -> bytes:
    return event({"object": "chat.completion.chunk", "choices": [{"delta": {"content": text}}], **fields})


DONE = b"data: [DONE]\n\n"
CHAT = chat_chunk("a") + chat_chunk("b", usage=None)
CHAT_USAGE = event({"object": "chat.completion.chunk", "choices": [], "usage": OPENAI})
RESPONSE_START = event({"type": "response.created", "response": {"output": [], "usage": None}}, "response.created")
RESPONSE_DELTA = event({"type": "response.output_text.delta", "delta": "a"}, "response.output_text.delta")
MESSAGE_START = event(
    {
        "type": "message_start",
        "message": {
            "role": "assistant",
            "usage": {
                "input_tokens": 6,
                "cache_read_input_tokens": 4,
                "cache_creation_input_tokens": 3,
                "output_tokens": 1,
            },
        },
    },
    "message_start",
)
MESSAGE_TEXT = event(
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "a"}}, "content_block_delta"
)
MESSAGE_DELTA = event({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 15}}, "message_delta")
MESSAGE_STOP = event({"type": "message_stop"}, "message_stop")


def response_end(kind: str) -> bytes:
    return event(
        {"type": f"response.{kind}", "response": {"output": ["a"] * 100, "usage": RESPONSES}}, f"response.{kind}"
    )


STREAMS: list[tuple[Api, bytes, TokenUsage]] = [
    (Api.OPENAI_CHAT, CHAT + CHAT_USAGE + DONE, TokenUsage(10, 4, 5)),
    (Api.OPENAI_CHAT, CHAT_USAGE + CHAT + DONE, TokenUsage(10, 4, 5)),
    (Api.OPENAI_CHAT, CHAT + DONE, TokenUsage()),
    (Api.OPENAI_CHAT, CHAT + CHAT_USAGE[:-30], TokenUsage()),
    (Api.OPENAI_CHAT, b"\xef\xbb\xbf: hi\n\n" + CHAT_USAGE, TokenUsage(10, 4, 5)),
    # Continuous usage: each chunk says how far it is.
    (
        Api.OPENAI_CHAT,
        chat_chunk("a", usage={"prompt_tokens": 9, "completion_tokens": 1})
        + chat_chunk("b", usage={"prompt_tokens": 9, "completion_tokens": 2}),
        TokenUsage(9, None, 2),
    ),
    # The words of a usage object in a text of the answer.
    (Api.OPENAI_CHAT, chat_chunk('{"usage": {"prompt_tokens": 3}}') + DONE, TokenUsage()),
    (Api.OPENAI_COMPLETIONS, event({"choices": [{"text": "a"}]}) + CHAT_USAGE + DONE, TokenUsage(10, 4, 5)),
    (Api.OPENAI_RESPONSES, RESPONSE_START + RESPONSE_DELTA + response_end("completed"), TokenUsage(10, 4, 5)),
    (Api.OPENAI_RESPONSES, RESPONSE_START + response_end("incomplete"), TokenUsage(10, 4, 5)),
    (Api.OPENAI_RESPONSES, RESPONSE_START + response_end("failed"), TokenUsage(10, 4, 5)),
    (Api.OPENAI_RESPONSES, RESPONSE_START + RESPONSE_DELTA, TokenUsage()),
    (Api.ANTHROPIC_MESSAGES, MESSAGE_START + MESSAGE_TEXT + MESSAGE_DELTA + MESSAGE_STOP, TokenUsage(13, 4, 15)),
    # Broken off: what was written is not known, and surely not one token.
    (Api.ANTHROPIC_MESSAGES, MESSAGE_START + MESSAGE_TEXT, TokenUsage(13, 4, None)),
    (Api.GENERIC, CHAT + CHAT_USAGE, TokenUsage(10, 4, 5)),
    (Api.GENERIC, response_end("completed"), TokenUsage(10, 4, 5)),
    (Api.GENERIC, MESSAGE_START + MESSAGE_DELTA, TokenUsage(13, 4, 15)),
    # Events that are not what they should be cost only themselves.
    (Api.OPENAI_CHAT, b'data: {"usage":{"prompt_tokens":\n\n' + CHAT_USAGE, TokenUsage(10, 4, 5)),
    (Api.OPENAI_CHAT, b'data: ["a_tokens"]\n\n' + CHAT_USAGE, TokenUsage(10, 4, 5)),
    (Api.OPENAI_CHAT, b'data: {"usage":"\xff","a_tokens":1}\n\n' + CHAT_USAGE, TokenUsage(10, 4, 5)),
    (Api.OPENAI_CHAT, b'data: {"_tokens":' + b"[" * 5000 + b"\n\n" + CHAT_USAGE, TokenUsage(10, 4, 5)),
    (Api.OPENAI_CHAT, b'data: {"usage":{"prompt_tokens":99},"message":3}\n\n' + CHAT_USAGE, TokenUsage(10, 4, 5)),
]


def read(api: Api, content_type: str, chunks: list[bytes]) -> TokenUsage:
    reader = UsageReader(api, content_type)
    for chunk in chunks:
        reader.feed(chunk)
    return reader.usage


def cut(text: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(at % (len(text) + 1) for at in cuts), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize(("api", "stream", "usage"), STREAMS)
def test_streams(api: Api, stream: bytes, usage: TokenUsage) -> None:
    kind = "text/event-stream; charset=utf-8"
    assert read(api, kind, [stream]) == usage
    assert read(api, kind, [stream[at : at + 1] for at in range(len(stream))]) == usage
    # One event a chunk, as they come from an engine.
    assert read(api, kind, [part + b"\n\n" for part in stream.split(b"\n\n")[:-1]]) == usage


@pytest.mark.parametrize(("old", "new"), [(b"\n", b"\r\n"), (b"\n", b"\r")])
@pytest.mark.parametrize(("api", "stream", "usage"), STREAMS)
def test_other_line_ends(api: Api, stream: bytes, usage: TokenUsage, old: bytes, new: bytes) -> None:
    stream = stream.replace(old, new)
    assert read(api, "text/event-stream", [stream]) == usage
    end = new * 2
    assert read(api, "text/event-stream", [part + end for part in stream.split(end)[:-1]]) == usage


@MANY
@given(stream=st.sampled_from(STREAMS), cuts=st.lists(st.integers(0, 1 << 16), max_size=10))
def test_any_chunking_of_a_stream(stream: tuple[Api, bytes, TokenUsage], cuts: list[int]) -> None:
    api, text, usage = stream
    assert read(api, "text/event-stream", cut(text, cuts)) == usage


def test_what_is_known_while_it_streams() -> None:
    reader = UsageReader(Api.ANTHROPIC_MESSAGES, "text/event-stream")
    assert reader.usage == TokenUsage()
    reader.feed(MESSAGE_START)
    assert reader.usage == TokenUsage(13, 4)
    reader.feed(MESSAGE_TEXT)
    reader.feed(MESSAGE_DELTA)
    assert reader.usage == TokenUsage(13, 4, 15)


def test_a_large_last_event_is_read_and_a_huge_one_skipped() -> None:
    def stream(size: int) -> bytes:
        return event({"type": "response.completed", "response": {"output": "a" * size, "usage": RESPONSES}})

    for size, usage in ((MAX_EVENT // 2, TokenUsage(10, 4, 5)), (MAX_EVENT, TokenUsage())):
        text = stream(size)
        for step in (1500, 65536, len(text)):
            chunks = [text[at : at + step] for at in range(0, len(text), step)]
            assert read(Api.OPENAI_RESPONSES, "text/event-stream", chunks) == usage


UNARY = [
    (Api.OPENAI_CHAT, {"choices": [], "usage": OPENAI}, TokenUsage(10, 4, 5)),
    (Api.OPENAI_CHAT, {"error": {"message": "no"}}, TokenUsage()),
    (Api.OPENAI_EMBEDDINGS, {"data": [0.5] * 100, "usage": {"prompt_tokens": 8, "total_tokens": 8}}, TokenUsage(8)),
    (Api.OPENAI_EMBEDDINGS, {"data": [0.5] * 100_000, "usage": {"prompt_tokens": 8}}, TokenUsage(8)),
    (Api.OPENAI_RESPONSES, {"object": "response", "usage": RESPONSES}, TokenUsage(10, 4, 5)),
    (
        Api.ANTHROPIC_MESSAGES,
        {"type": "message", "usage": {"input_tokens": 6, "cache_read_input_tokens": 4, "output_tokens": 9}},
        TokenUsage(10, 4, 9),
    ),
    (Api.GENERIC, {"usage": OPENAI}, TokenUsage(10, 4, 5)),
]


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "application/x+json", ""])
@pytest.mark.parametrize(("api", "answer", "usage"), UNARY)
def test_unary(api: Api, answer: dict[str, Any], usage: TokenUsage, kind: str) -> None:
    text = json.dumps(answer).encode()
    assert read(api, kind, [text]) == usage
    assert read(api, kind, [text[at : at + 1000] for at in range(0, len(text), 1000)]) == usage
    assert read(api, kind, [text[: len(text) // 2]]) == TokenUsage()


@pytest.mark.parametrize(
    "kind", ["text/html", "text/plain", "application/octet-stream", "application/x-ndjson", "json"]
)
def test_other_types_are_not_read(kind: str) -> None:
    assert read(Api.OPENAI_CHAT, kind, [json.dumps({"usage": OPENAI}).encode(), CHAT_USAGE]) == TokenUsage()


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@MANY
@given(
    text=st.lists(
        st.sampled_from([b"data: ", b"\n", b"\r", b'"usage":', b'{"prompt_tokens":3}', b"{", b"}", b'"message":', b"["])
        | st.binary(max_size=8),
        max_size=30,
    ).map(b"".join),
    cuts=st.lists(st.integers(0, 1 << 16), max_size=10),
    api=st.sampled_from(Api),
)
def test_garbage_never_raises_whatever_its_chunking(kind: str, text: bytes, cuts: list[int], api: Api) -> None:
    assert read(api, kind, cut(text, cuts)) == read(api, kind, [text])
