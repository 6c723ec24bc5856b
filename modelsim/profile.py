"""What the modelled engine costs and how much it holds."""

import msgspec

#: Tokens in a block of the KV cache: vLLM's default.
BLOCK_SIZE = 16


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds, each >= 0. The defaults are an 8B model on one H100.

    They are the middle of the ranges that llm-d-inference-sim publishes for that pair (`docs/latency-profiles.md`): an
    overhead of 25-40 ms, 0.15-0.30 ms for each prompt token that no cache holds, 10-15 ms between tokens.
    """

    #: From admission to the first forward pass of a request: tokenizer, scheduler, launch. Occupies no other request.
    overhead: float = 0.0325
    #: Prefill of one token.
    per_prompt_token: float = 0.000225
    #: One decode step.
    inter_token: float = 0.010
    #: Added to a decode step for each sequence in it: 12.5 ms at half a batch, 15.1 ms with all of 256.
    per_sequence: float = 0.00002
    #: Loading an adapter of some 50 MB into a slot from host memory, including the registration in the engine.
    adapter_load: float = 0.05

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            value = getattr(self, field)
            if not 0 <= value < float("inf"):
                raise ValueError(f"{field} must be finite and not negative, not {value}")

    def faster(self, speedup: float) -> "Profile":
        """All times divided by `speedup`, which is finite and > 0. Raises ValueError for anything else."""
        if not 0 < speedup < float("inf"):
            raise ValueError(f"speedup must be finite and greater than 0, not {speedup}")
        return Profile(**{field: getattr(self, field) / speedup for field in self.__struct_fields__})


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """An engine's limits, named as vLLM's options are. Raises ValueError for limits under which nothing could run."""

    profile: Profile = msgspec.field(default_factory=Profile)
    #: Requests that run at once: vLLM's default on a data-centre GPU.
    max_num_seqs: int = 256
    #: Tokens that one step computes, prefill and decode together: vLLM's default for chunked prefill. At least
    #: `max_num_seqs`, as vLLM demands.
    max_num_batched_tokens: int = 2048
    #: Blocks of the KV cache. 54 GB are left of 80 GB (90 % used, 16 GB of weights, activations), and a token of an 8B
    #: model with grouped-query attention takes 128 KiB: 432 000 tokens.
    num_blocks: int = 27_000
    #: Tokens of prompt and answer together.
    max_model_len: int = 131_072
    #: Adapters that run at once; 0 serves none.
    max_loras: int = 4

    def __post_init__(self) -> None:
        for field in ("max_num_seqs", "num_blocks", "max_model_len"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError("max_num_batched_tokens must be at least max_num_seqs")
        if self.max_loras < 0:
            raise ValueError("max_loras must not be negative")

    @property
    def longest(self) -> int:
        """Tokens of the longest request that can be served."""
        return min(self.max_model_len, self.num_blocks * BLOCK_SIZE)
