"""OpenAI responses: `POST /v1/responses`.

What an engine keeps of earlier responses (`previous_response_id`, `conversation`) is not in the request, so its text
is only what the request adds.
"""

from typing import Any

from extproc.parsers.base import Api, Envelope, Parser
from extproc.parsers.digest import canonical
from extproc.parsers.text import CALL, MAX_FIELDS, write_message, write_odd_message, write_result, write_tools


class ResponsesBody(Envelope):
    instructions: Any = None
    input: Any = None
    tools: Any = None


def _write(body: ResponsesBody, out: list[str]) -> None:
    if body.tools:
        write_tools(body.tools, out)
    if body.instructions is not None:
        write_message({"role": "system", "content": body.instructions}, out)
    items = body.input
    if type(items) is str:
        write_message({"role": "user", "content": items}, out)
    elif type(items) is list:
        for item in items[:MAX_FIELDS]:
            _write_item(item, out)


def _write_item(item: object, out: list[str]) -> None:
    if type(item) is not dict:
        write_odd_message(item, out)
    elif "role" in item:
        write_message(item, out)
    elif item.get("type") == "function_call":
        out.append(CALL)
        out.append(canonical(item))
    elif item.get("type") == "function_call_output":
        write_result(item.get("call_id"), item.get("output"), out)
    else:
        write_odd_message(item, out)


OPENAI_RESPONSES = Parser(Api.OPENAI_RESPONSES, ResponsesBody, _write)
