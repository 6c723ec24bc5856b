"""OpenAI chat completions: `POST /v1/chat/completions`."""

from typing import Any

from extproc.parsers.base import Api, Envelope, Parser
from extproc.parsers.text import write_messages, write_tools


class ChatBody(Envelope):
    messages: Any = None
    tools: Any = None


def _write(body: ChatBody, out: list[str]) -> None:
    if body.tools:
        write_tools(body.tools, out)
    write_messages(body.messages, out)


OPENAI_CHAT = Parser(Api.OPENAI_CHAT, ChatBody, _write)
