"""Fields of a body by which a client would steer engines, past the gateway.

They say where a KV cache comes from, on which rank a request runs, which adapter answers. Only fields at the top of a
body: that is where engines read them. A test holds the lists against all fields of the versions that it states.
"""

import re
from typing import Final

#: By dialect. None of these names is in use by another engine for anything else, so all hold for all pods.
STEERING: Final = {
    "vllm": ("kv_transfer_params", "ec_transfer_params"),
    "sglang": (
        "bootstrap_host", "bootstrap_port", "bootstrap_room", "bootstrap_pair_key", "data_parallel_rank",
        "routed_dp_rank", "disagg_prefill_dp_rank",
    ),
    "trtllm": ("disaggregated_params", "lora_request"),
    "llamacpp": ("id_slot",),
}  # fmt: skip
ALL_STEERING: Final = tuple(name for names in STEERING.values() for name in names)

#: Adapters that answer in place of the model: checked as its name is.
ADAPTERS: Final = "lora_path"

#: What keeps one tenant's cached prompts from another's: a prompt with it shares no prefix with one without.
SALTS: Final = ("cache_salt", "extra_key")

#: Ids of a request. Any will do but those that are read for addresses (vLLM's P2P connector).
IDS: Final = ("request_id", "rid")

_ADDRESS = re.compile(r"_addr_|\d+\.\d+\.\d+\.\d+|:\d|\[.*:.*\]", re.IGNORECASE)


def may_be_address(text: str) -> bool:
    """Whether somebody could read an address out of a request's id."""
    return _ADDRESS.search(text) is not None
