"""OpenAI embeddings: `POST /v1/embeddings`, also with `messages` in place of `input`, as engines take them."""

from typing import Any

from extproc.parsers.base import Api, Envelope, Parser
from extproc.parsers.text import TEXT, escape, write_messages, write_token_ids

#: Inputs of one request that are read. OpenAI allows 2 048; the first ones say enough about where such a batch belongs.
MAX_INPUTS = 64


class EmbeddingBody(Envelope):
    input: Any = None
    messages: Any = None


def write_inputs(value: object, out: list[str]) -> None:
    """A text, a list of texts, a list of token ids, or a list of such lists. The first `MAX_INPUTS` of them."""
    if type(value) is not list or (value and type(value[0]) is int):
        value = [value]
    for item in value[:MAX_INPUTS]:
        if type(item) is str:
            out.append(TEXT)
            out.append(escape(item))
        elif type(item) is list:
            write_token_ids(item, out)


def _write(body: EmbeddingBody, out: list[str]) -> None:
    write_inputs(body.input, out)
    write_messages(body.messages, out)


OPENAI_EMBEDDINGS = Parser(Api.OPENAI_EMBEDDINGS, EmbeddingBody, _write)
