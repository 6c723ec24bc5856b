"""OpenAI Responses. As in vLLM, the last event is `response.completed` even where the answer was cut."""

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


class Responses:
    def read(self, body: Body) -> Ask:
        limit = read_limit(body, "max_output_tokens")
        given = body.get("input")
        text = given if isinstance(given, str) else conversation_text(given, "input")
        return Ask(
            model=read_model(body),
            prompt=tools_text(body) + content_text(body.get("instructions"), "instructions") + text,
            max_tokens=limit or DEFAULT_ANSWER,
            limited=limit is not None,
            stream=read_flag(body, "stream"),
        )

    def unary(self, reply: Reply, text: str, usage: Usage) -> dict[str, Any]:
        return _finished(reply, text, usage)

    def stream(self, reply: Reply) -> Streamer:
        return _ResponseStreamer(reply)


def _response(reply: Reply, status: str) -> dict[str, Any]:
    return {
        "id": f"resp_{reply.id}",
        "object": "response",
        "created_at": reply.created,
        "status": status,
        "model": reply.model,
        "output": [],
        "error": None,
        "incomplete_details": None,
        "instructions": reply.body.get("instructions"),
        "max_output_tokens": reply.ask.max_tokens if reply.ask.limited else None,
        "metadata": reply.body.get("metadata"),
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": reply.body.get("tools") or [],
        "top_p": 1.0,
        "usage": None,
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


def _item(reply: Reply, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": f"msg_{reply.id}", "type": "message", "status": status, "role": "assistant", "content": content}


def _finished(reply: Reply, text: str, usage: Usage) -> dict[str, Any]:
    cut = reply.ask.limited
    return {
        **_response(reply, "incomplete" if cut else "completed"),
        "output": [_item(reply, "completed", [_part(text)])],
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "usage": {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        },
    }


class _ResponseStreamer:
    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._number = 0
        self._texts: list[str] = []
        self._place = {"item_id": f"msg_{reply.id}", "output_index": 0, "content_index": 0}

    def opening(self) -> bytes:
        response = _response(self._reply, "in_progress")
        return self._event("created", response=response) + self._event("in_progress", response=response)

    def begin(self, usage: Usage) -> bytes:  # noqa: ARG002 - responses tell their usage at the end
        item = _item(self._reply, "in_progress", [])
        return self._event("output_item.added", output_index=0, item=item) + self._event(
            "content_part.added", **self._place, part=_part("")
        )

    def token(self, text: str, *, last: bool) -> bytes:  # noqa: ARG002 - the end is an event of its own
        self._texts.append(text)
        return self._event("output_text.delta", **self._place, delta=text, logprobs=[])

    def end(self, usage: Usage) -> bytes:
        text = "".join(self._texts)
        item = _item(self._reply, "completed", [_part(text)])
        return (
            self._event("output_text.done", **self._place, text=text, logprobs=[])
            + self._event("content_part.done", **self._place, part=_part(text))
            + self._event("output_item.done", output_index=0, item=item)
            + self._event("completed", response=_finished(self._reply, text, usage))
        )

    def _event(self, name: str, **fields: object) -> bytes:
        kind = f"response.{name}"
        message = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return event(kind, message)
