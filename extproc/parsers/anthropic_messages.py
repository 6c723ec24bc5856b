"""Anthropic messages: `POST /v1/messages`."""

from typing import Any

from extproc.parsers.base import Api, Envelope, Parser
from extproc.parsers.text import write_message, write_messages, write_tools


class MessagesBody(Envelope):
    system: Any = None
    messages: Any = None
    tools: Any = None


def _write(body: MessagesBody, out: list[str]) -> None:
    if body.tools:
        write_tools(body.tools, out)
    if body.system is not None:
        write_message({"role": "system", "content": body.system}, out)
    write_messages(body.messages, out)


ANTHROPIC_MESSAGES = Parser(Api.ANTHROPIC_MESSAGES, MessagesBody, _write)
