"""Anthropic's Messages API. `max_tokens` is optional here."""

from typing import Any

from modelsim.api.base import (
    DEFAULT_ANSWER,
    Ask,
    Body,
    Reply,
    Streamer,
    Usage,
    content_text,
    conversation_text,
    event,
    read_flag,
    read_limit,
    read_model,
    tools_text,
)


class Messages:
    def read(self, body: Body) -> Ask:
        limit = read_limit(body, "max_tokens")
        system = content_text(body.get("system"), "system")
        return Ask(
            model=read_model(body),
            prompt=tools_text(body) + system + conversation_text(body.get("messages"), "messages"),
            max_tokens=limit or DEFAULT_ANSWER,
            limited=limit is not None,
            stream=read_flag(body, "stream"),
        )

    def unary(self, reply: Reply, text: str, usage: Usage) -> dict[str, Any]:
        content = [{"type": "text", "text": text}]
        return {**_message(reply, usage), "content": content, "stop_reason": _stop_reason(reply)}

    def stream(self, reply: Reply) -> Streamer:
        return _MessageStreamer(reply)


def _usage(usage: Usage) -> dict[str, int]:
    """Anthropic counts what came from the cache apart from the rest of the input."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def _message(reply: Reply, usage: Usage) -> dict[str, Any]:
    return {
        "id": f"msg_{reply.id}",
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(usage),
    }


def _stop_reason(reply: Reply) -> str:
    return "max_tokens" if reply.ask.limited else "end_turn"


class _MessageStreamer:
    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def opening(self) -> bytes:
        return b""

    def begin(self, usage: Usage) -> bytes:
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        start = {"type": "message_start", "message": _message(self._reply, usage)}
        return event("message_start", start) + event("content_block_start", block)

    def token(self, text: str, *, last: bool) -> bytes:  # noqa: ARG002 - the end is an event of its own
        delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        return event("content_block_delta", delta)

    def end(self, usage: Usage) -> bytes:
        stop = {"stop_reason": _stop_reason(self._reply), "stop_sequence": None}
        return (
            event("content_block_stop", {"type": "content_block_stop", "index": 0})
            + event("message_delta", {"type": "message_delta", "delta": stop, "usage": _usage(usage)})
            + event("message_stop", {"type": "message_stop"})
        )
