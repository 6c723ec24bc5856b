"""OpenAI text completions: `POST /v1/completions`."""

from typing import Any

from extproc.parsers.base import Api, Envelope, Parser
from extproc.parsers.text import escape, write_token_ids


class CompletionBody(Envelope):
    prompt: Any = None


def write_prompt(prompt: object, out: list[str]) -> None:
    """A text, a list of texts, a list of token ids, or a list of such lists. Of several prompts, the first."""
    if type(prompt) is list and prompt and type(prompt[0]) is not int:
        prompt = prompt[0]
    if type(prompt) is str:
        out.append(escape(prompt))
    elif type(prompt) is list:
        write_token_ids(prompt, out)


def _write(body: CompletionBody, out: list[str]) -> None:
    write_prompt(body.prompt, out)


OPENAI_COMPLETIONS = Parser(Api.OPENAI_COMPLETIONS, CompletionBody, _write)
