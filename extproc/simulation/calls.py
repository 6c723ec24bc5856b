"""What clients ask: one request, and a workload of them."""

from collections.abc import Iterable
from typing import Protocol


class Call:
    """One request of a client."""

    __slots__ = ("at", "blocks", "model", "output_tokens", "prompt_tokens", "tenant", "thread")

    def __init__(
        self,
        at: float,
        prompt_tokens: int,
        output_tokens: int,
        blocks: tuple[int, ...],
        *,
        tenant: str = "",
        model: str = "",
        thread: int = 0,
    ) -> None:
        #: Seconds since the beginning.
        self.at = at
        self.prompt_tokens = prompt_tokens
        self.output_tokens = output_tokens
        #: Names of the prompt's blocks: two prompts that begin with the same names begin with the same text.
        self.blocks = blocks
        self.tenant = tenant
        #: Model or LoRA adapter; empty for the model that all pods serve.
        self.model = model
        #: Which conversation or client it is of, for a workload that goes on when a request ends.
        self.thread = thread


class Workload(Protocol):
    """Requests in their order, and what each end leads to."""

    #: Tokens that one name of a block stands for.
    block_tokens: int

    @property
    def size(self) -> int:
        """How many requests there will be."""
        ...

    def begin(self) -> Iterable[Call]:
        """Those that come whatever happens."""
        ...

    def after(self, call: Call, now: float) -> Call | None:
        """What follows when `call` ended, at `now` or later."""
        ...
