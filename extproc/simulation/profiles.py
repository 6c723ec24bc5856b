"""Engines by name: what they cost and hold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml

from extproc.errors import GatewayError
from modelsim.profile import BLOCK_SIZE, EngineConfig, Profile

#: Tokens of the longest request: what fits into the cache. A trace's own model decided what it took.
_ANY_LENGTH = 1 << 40


class ProfileError(GatewayError):
    """There is no such engine, or its file is wrong."""


#: 8B: as `modelsim`, whose documentation has the sources. 32B: an overhead of 65 ms and 15,928 prompt tokens a second
#: on two H100 with tensor parallelism (llm-d's published runs of Qwen3-32B), 20 ms and 0.08 ms a sequence for a step,
#: and 307,328 tokens of cache, as its vLLM reports.
BUILT_IN: Mapping[str, EngineConfig] = {
    "8b-h100": EngineConfig(max_model_len=_ANY_LENGTH),
    "32b-2xh100": EngineConfig(
        profile=Profile(overhead=0.065, per_prompt_token=1 / 15_928, inter_token=0.020, per_sequence=0.00008),
        num_blocks=307_328 // BLOCK_SIZE,
        max_model_len=_ANY_LENGTH,
    ),
}


class OwnProfile(msgspec.Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """An engine in a file. What is left out is that of an 8B model on an H100."""

    #: Seconds before the first step of a request.
    overhead: float = Profile().overhead
    #: Prompt tokens a second that one engine computes.
    prefill_tokens_per_second: float = 1 / Profile().per_prompt_token
    #: Seconds of a decode step, and more for each sequence in it.
    inter_token: float = Profile().inter_token
    per_sequence: float = Profile().per_sequence
    #: Tokens of the KV cache.
    kv_tokens: int = EngineConfig().num_blocks * BLOCK_SIZE
    max_num_seqs: int = EngineConfig().max_num_seqs
    max_num_batched_tokens: int = EngineConfig().max_num_batched_tokens
    max_loras: int = EngineConfig().max_loras


def find(name: str) -> EngineConfig:
    """The engine of that name, or of the YAML file of that path.

    Raises:
        ProfileError: there is none, or the file is wrong.
    """
    known = BUILT_IN.get(name)
    if known is not None:
        return known
    path = Path(name)
    if not path.is_file():
        raise ProfileError(f"there is no engine {name!r}: {', '.join(BUILT_IN)}, or a YAML file")
    try:
        read: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ProfileError(f"{path} cannot be read: {error}") from error
    return own(read, str(path))


def own(read: object, source: str) -> EngineConfig:
    """The engine that a mapping describes.

    Raises:
        ProfileError: it is wrong.
    """
    try:
        one = msgspec.convert(read, OwnProfile)
        if not (one.prefill_tokens_per_second > 0 and one.inter_token > 0):
            raise ValueError("prefillTokensPerSecond and interToken must be greater than 0")  # noqa: TRY301
        return EngineConfig(
            profile=Profile(
                overhead=one.overhead,
                per_prompt_token=1 / one.prefill_tokens_per_second,
                inter_token=one.inter_token,
                per_sequence=one.per_sequence,
            ),
            num_blocks=one.kv_tokens // BLOCK_SIZE,
            max_num_seqs=one.max_num_seqs,
            max_num_batched_tokens=one.max_num_batched_tokens,
            max_loras=one.max_loras,
            max_model_len=_ANY_LENGTH,
        )
    except (msgspec.ValidationError, ValueError) as error:
        raise ProfileError(f"{source}: {error}") from None


def at_speed(config: EngineConfig, speed: float) -> EngineConfig:
    """The engine at so many times its own speed."""
    return msgspec.structs.replace(config, profile=config.profile.faster(speed))
