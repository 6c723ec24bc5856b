"""Which parser reads a request: chosen by the end of its path, so that APIs under a prefix are known as well."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from extproc.parsers.anthropic_messages import ANTHROPIC_MESSAGES
from extproc.parsers.base import Api, ParsedRequest
from extproc.parsers.generic import GENERIC
from extproc.parsers.openai_chat import OPENAI_CHAT
from extproc.parsers.openai_completions import OPENAI_COMPLETIONS
from extproc.parsers.openai_embeddings import OPENAI_EMBEDDINGS
from extproc.parsers.openai_responses import OPENAI_RESPONSES

#: Most frequent first. Chat is known under any version: nothing else has this name, and some engines serve it as `/v3`.
_SUFFIXES: Final = (
    ("/chat/completions", Api.OPENAI_CHAT),
    ("/v1/completions", Api.OPENAI_COMPLETIONS),
    ("/v1/messages", Api.ANTHROPIC_MESSAGES),
    ("/v1/responses", Api.OPENAI_RESPONSES),
    ("/v1/embeddings", Api.OPENAI_EMBEDDINGS),
)

_PARSERS: Final[Mapping[Api, Callable[[bytes], ParsedRequest]]] = {
    parser.api: parser
    for parser in (
        OPENAI_CHAT,
        OPENAI_COMPLETIONS,
        OPENAI_EMBEDDINGS,
        OPENAI_RESPONSES,
        ANTHROPIC_MESSAGES,
        GENERIC,
    )
}


#: Paths of which the API is kept. Clients use a few; one may be as long as Envoy takes headers for, 60 KiB.
MAX_CACHED_PATHS = 64


def path_of(path: str) -> str:
    """The path as an engine looks for its handler: without query, escapes, and slashes at its end."""
    if "?" in path:
        path = path.partition("?")[0]
    if "%" in path:
        # Engines decode a path before they look for its handler, so `completion%73` is no way around what is required.
        path = unquote(path)
    return path.rstrip("/")


@lru_cache(maxsize=MAX_CACHED_PATHS)
def api_of(path: str) -> Api:
    """The API that `path` (with or without a query) belongs to."""
    path = path_of(path)
    if "/openai/deployments/" in path:
        # Azure's: Envoy sends them on as /v1/….
        path = "/v1/" + path.partition("/openai/deployments/")[2].partition("/")[2]
    for suffix, api in _SUFFIXES:
        if path.endswith(suffix):
            return api
    return Api.GENERIC


def is_model_api(path: str) -> bool:
    """Whether requests to `path` are of an API that is known here, hence JSON whatever their content type."""
    return api_of(path) is not Api.GENERIC


def parse(path: str, body: bytes) -> ParsedRequest:
    """Parses the body of a request to `path`.

    Raises:
        Refusal: 400; the body is not a JSON object, or `model` is no text. Nothing else is ever refused or raised.
    """
    return _PARSERS[api_of(path)](body)
