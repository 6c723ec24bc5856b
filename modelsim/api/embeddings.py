"""OpenAI Embeddings. The vectors mean nothing, but equal texts have equal ones."""

import base64
import math
import struct
from typing import Any

import xxhash

from modelsim.api.base import Ask, Body, Reply, Streamer, Usage, prompt_text, read_limit, read_model, token_text
from modelsim.errors import ApiError

#: Enough to look like a vector, and little to send.
DEFAULT_DIMENSIONS = 64

#: Largest embedding models in use have 4096 dimensions.
MAX_DIMENSIONS = 4096


class Embeddings:
    def read(self, body: Body) -> Ask:
        if (read_limit(body, "dimensions") or 0) > MAX_DIMENSIONS:
            raise ApiError(400, f"`dimensions` must be at most {MAX_DIMENSIONS}.", param="dimensions")
        if body.get("encoding_format") not in (None, "float", "base64"):
            raise ApiError(400, "`encoding_format` must be `float` or `base64`.", param="encoding_format")
        return Ask(model=read_model(body), prompt="".join(_inputs(body)), max_tokens=0, stream=bool(body.get("stream")))

    def unary(self, reply: Reply, text: str, usage: Usage) -> dict[str, Any]:  # noqa: ARG002 - there is no text
        size = reply.body.get("dimensions") or DEFAULT_DIMENSIONS
        encode = _base64 if reply.body.get("encoding_format") == "base64" else list
        vectors = [encode(_vector(item, size)) for item in _inputs(reply.body)]
        return {
            "id": f"embd-{reply.id}",
            "object": "list",
            "created": reply.created,
            "model": reply.model,
            "data": [{"index": i, "object": "embedding", "embedding": vector} for i, vector in enumerate(vectors)],
            "usage": {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.prompt_tokens},
        }

    def stream(self, reply: Reply) -> Streamer:  # noqa: ARG002 - there is none
        raise ApiError(400, "Embeddings are not streamed.", param="stream")


def _inputs(body: Body) -> list[str]:
    given = body.get("input")
    if isinstance(given, list) and given:
        if all(isinstance(item, str) for item in given):
            return given
        if all(isinstance(item, list) and all(isinstance(token, int) for token in item) for item in given):
            return [token_text(item) for item in given]
    return [prompt_text(given, "input")]


def _vector(text: str, size: int) -> list[float]:
    """A vector of length 1."""
    digest = xxhash.xxh3_64_digest(text.encode("utf-8", "surrogatepass"))
    values = [xxhash.xxh3_64_intdigest(digest, seed=index) / 2**63 - 1 for index in range(size)]
    length = math.sqrt(math.fsum(value * value for value in values))
    return [value / length for value in values]


def _base64(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
