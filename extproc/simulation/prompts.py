"""Text for blocks: what the gateway reads in place of unknown prompts.

The prefix index of the gateway hashes text, and does so here: each block's text is its name again and again, at four
characters a token, which is how the gateway estimates tokens. Prompts then agree in their text exactly as far as in
their names, to the character, as prompts do that agree in their tokens.
"""

from extproc.simulation.calls import Call
from scheduler.types import CHARS_PER_TOKEN

#: Characters of a name. Two 64-bit names never look alike; those of a trace are smaller.
_NAME = 16
_MASK = (1 << 64) - 1


def body(call: Call, model: str, block_tokens: int) -> bytes:
    """The body of a streamed completions request with the call's prompt."""
    return b"".join(
        [
            b'{"model":"', (call.model or model).encode(), b'","stream":true,"max_tokens":',
            str(call.output_tokens).encode(), b',"prompt":"', text(call, block_tokens), b'"}',
        ]
    )  # fmt: skip


def text(call: Call, block_tokens: int) -> bytes:
    """A prompt of `CHARS_PER_TOKEN` characters a token, all of them hexadecimal digits."""
    repeat = block_tokens * CHARS_PER_TOKEN // _NAME
    parts = [b"%016x" % (name & _MASK) * repeat for name in call.blocks]
    return b"".join(parts)[: call.prompt_tokens * CHARS_PER_TOKEN]
