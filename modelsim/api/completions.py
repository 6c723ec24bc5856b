"""OpenAI Completions, worded as vLLM does."""

from typing import Any

from modelsim.api.base import (
    DEFAULT_ANSWER,
    DONE,
    Ask,
    Body,
    Reply,
    Streamer,
    Usage,
    data,
    openai_usage,
    prompt_text,
    read_flag,
    read_include_usage,
    read_limit,
    read_model,
    require_single,
)


class Completions:
    def read(self, body: Body) -> Ask:
        require_single(body)
        limit = read_limit(body, "max_tokens")
        return Ask(
            model=read_model(body),
            prompt=prompt_text(body.get("prompt"), "prompt"),
            max_tokens=limit or DEFAULT_ANSWER,
            limited=limit is not None,
            stream=read_flag(body, "stream"),
            include_usage=read_include_usage(body),
        )

    def unary(self, reply: Reply, text: str, usage: Usage) -> dict[str, Any]:
        choice = _choice(text, "length" if reply.ask.limited else "stop")
        return {**_head(reply), "choices": [choice], "usage": openai_usage(usage)}

    def stream(self, reply: Reply) -> Streamer:
        return _CompletionStreamer(reply)


def _head(reply: Reply) -> dict[str, Any]:
    return {"id": f"cmpl-{reply.id}", "object": "text_completion", "created": reply.created, "model": reply.model}


def _choice(text: str, reason: str | None) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason, "stop_reason": None}


class _CompletionStreamer:
    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._head = _head(reply)

    def opening(self) -> bytes:
        return b""

    def begin(self, usage: Usage) -> bytes:  # noqa: ARG002 - completions tell their usage at the end
        return b""

    def token(self, text: str, *, last: bool) -> bytes:
        reason = ("length" if self._reply.ask.limited else "stop") if last else None
        return data({**self._head, "choices": [_choice(text, reason)]})

    def end(self, usage: Usage) -> bytes:
        if not self._reply.ask.include_usage:
            return DONE
        return data({**self._head, "choices": [], "usage": openai_usage(usage)}) + DONE
