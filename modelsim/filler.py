"""What the model says: the same words every time, one a token."""

_WORDS = (
    "The", "engine", "behind", "this", "answer", "counts", "tokens", "instead", "of", "thinking,", "and", "every",
    "word", "of", "it", "is", "filler.",
)  # fmt: skip


def word(index: int) -> str:
    """Text of the answer's token number `index`, from 0."""
    text = _WORDS[index % len(_WORDS)]
    return f" {text}" if index else text


def text(tokens: int) -> str:
    """An answer of so many tokens."""
    return "".join([word(index) for index in range(tokens)])
