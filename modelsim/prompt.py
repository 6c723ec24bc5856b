"""A prompt as an engine without a tokenizer sees it: four characters are a token, sixteen tokens a block."""

import xxhash

from modelsim.profile import BLOCK_SIZE

#: English text under the tokenizers of current models has 3.5-4.5 characters a token.
CHARS_PER_TOKEN = 4

#: UTF-32 gives each character the same width, so that blocks can be cut from one encoding of the text.
_BYTES_PER_BLOCK = BLOCK_SIZE * CHARS_PER_TOKEN * 4


def count_tokens(text: str) -> int:
    """Tokens of a text, at least 1: a chat template is never empty."""
    return max(1, -(-len(text) // CHARS_PER_TOKEN))


def block_hashes(text: str, *, adapter: str = "") -> tuple[int, ...]:
    """Hash of each full block of the prompt, chained: equal hashes mean that everything up to there is equal.

    The adapter is part of the chain, as in vLLM: it changes the keys and values of every token.
    """
    data = memoryview(text.encode("utf-32-le", "surrogatepass"))
    parent = xxhash.xxh3_64_intdigest(adapter.encode("utf-8", "surrogatepass"))
    hashes = []
    for start in range(0, len(data) - _BYTES_PER_BLOCK + 1, _BYTES_PER_BLOCK):
        parent = xxhash.xxh3_64_intdigest(data[start : start + _BYTES_PER_BLOCK], parent)
        hashes.append(parent)
    return tuple(hashes)
