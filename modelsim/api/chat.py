"""OpenAI Chat Completions, worded as vLLM does."""

from typing import Any

from modelsim.api.base import (
    DEFAULT_ANSWER,
    DONE,
    Ask,
    Body,
    Reply,
    Streamer,
    Usage,
    conversation_text,
    data,
    openai_usage,
    read_flag,
    read_include_usage,
    read_limit,
    read_model,
    require_single,
    tools_text,
)


class ChatCompletions:
    def read(self, body: Body) -> Ask:
        require_single(body)
        limit = read_limit(body, "max_completion_tokens", "max_tokens")
        return Ask(
            model=read_model(body),
            prompt=tools_text(body) + conversation_text(body.get("messages"), "messages"),
            max_tokens=limit or DEFAULT_ANSWER,
            limited=limit is not None,
            stream=read_flag(body, "stream"),
            include_usage=read_include_usage(body),
        )

    def unary(self, reply: Reply, text: str, usage: Usage) -> dict[str, Any]:
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "tool_calls": []},
            "logprobs": None,
            "finish_reason": "length" if reply.ask.limited else "stop",
            "stop_reason": None,
        }
        return {**_head(reply, "chat.completion"), "choices": [choice], "usage": openai_usage(usage)}

    def stream(self, reply: Reply) -> Streamer:
        return _ChatStreamer(reply)


def _head(reply: Reply, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{reply.id}", "object": kind, "created": reply.created, "model": reply.model}


class _ChatStreamer:
    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._head = _head(reply, "chat.completion.chunk")

    def opening(self) -> bytes:
        return b""

    def begin(self, usage: Usage) -> bytes:  # noqa: ARG002 - chat tells its usage at the end
        return self._chunk({"role": "assistant", "content": ""}, None)

    def token(self, text: str, *, last: bool) -> bytes:
        reason = ("length" if self._reply.ask.limited else "stop") if last else None
        return self._chunk({"content": text}, reason)

    def end(self, usage: Usage) -> bytes:
        if not self._reply.ask.include_usage:
            return DONE
        return data({**self._head, "choices": [], "usage": openai_usage(usage)}) + DONE

    def _chunk(self, delta: dict[str, str], reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return data({**self._head, "choices": [choice]})
