"""Any other API with JSON requests: pooling, scoring, tokenizing, an engine's own.

Many of these requests name no model and are then routed by load. Of the prompt, what goes by a name of the known APIs
is found.
"""

from typing import Any

from extproc.parsers.base import Api, Envelope, Parser
from extproc.parsers.openai_completions import write_prompt
from extproc.parsers.openai_embeddings import write_inputs
from extproc.parsers.text import write_message, write_messages, write_tools


class GenericBody(Envelope):
    system: Any = None
    messages: Any = None
    tools: Any = None
    prompt: Any = None
    input: Any = None
    text: Any = None


def _write(body: GenericBody, out: list[str]) -> None:
    if body.tools:
        write_tools(body.tools, out)
    if body.system is not None:
        write_message({"role": "system", "content": body.system}, out)
    write_messages(body.messages, out)
    write_prompt(body.prompt if body.prompt is not None else body.text, out)
    write_inputs(body.input, out)


GENERIC = Parser(Api.GENERIC, GenericBody, _write)
