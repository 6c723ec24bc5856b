"""Which paths Envoy serves: a filter in front of the sidecar, so that it holds without the sidecar, too."""

from collections.abc import Sequence
from typing import Any

#: Paths by which engines are administered, observed or put to sleep: not for clients that only want answers of a model.
#: Below each, everything. Written without a prefix, as engines serve them.
ADMIN_PATHS = (
    # Several: pages for those who run them.
    "/metrics", "/prometheus", "/debug", "/admin", "/shutdown", "/server_info", "/start_profile", "/stop_profile",
    "/profile", "/load_lora_adapter", "/unload_lora_adapter", "/v1/load_lora_adapter", "/v1/unload_lora_adapter",
    "/sleep", "/is_sleeping", "/wake_up", "/wakeup", "/update_weights", "/pause", "/resume", "/is_paused",
    "/abort_request", "/abort_requests", "/load", "/config", "/configure_logging",
    # vLLM
    "/collective_rpc", "/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache", "/scale_elastic_ep",
    "/is_scaling_elastic_ep", "/init_weight_transfer_engine", "/start_weight_update", "/finish_weight_update",
    "/get_world_size",
    # SGLang
    "/flush_cache", "/get_server_info", "/get_internal_state", "/set_internal_state", "/get_load", "/v1/loads",
    "/freeze_gc", "/slow_down", "/set_trace_level", "/update_weights_from_disk", "/update_weights_from_tensor",
    "/update_weights_from_distributed", "/update_weights_from_ipc", "/update_weight_version", "/get_weights_by_name",
    "/init_weights_update_group", "/destroy_weights_update_group", "/get_remote_instance_transfer_engine_info",
    "/init_weights_send_group_for_remote_instance", "/send_weights_to_remote_instance", "/release_memory_occupation",
    "/resume_memory_occupation", "/load_lora_adapter_from_tensors", "/open_session", "/close_session",
    "/pause_generation", "/continue_generation", "/clear_hicache_storage_backend", "/hicache", "/dumper",
    "/start_expert_distribution_record", "/stop_expert_distribution_record", "/dump_expert_distribution_record",
    # llama.cpp: `/slots` shows other people's prompts
    "/slots", "/props", "/lora-adapters", "/models/load", "/models/unload", "/cors-proxy", "/tools",
    # LMDeploy, TensorRT-LLM, Dynamo
    "/terminate", "/distserve", "/nodes", "/release_memory", "/resume_memory", "/kv_cache_events", "/perf_metrics",
    "/clear_kv_blocks", "/busy_threshold", "/engine",
    # Triton
    "/v2/repository", "/v2/logging", "/v2/trace", "/v2/systemsharedmemory", "/v2/cudasharedmemory",
    "/v2/tpusharedmemory",
    # Ollama
    "/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete", "/api/blobs",
)  # fmt: skip

#: Name of the policy: in Envoy's response code details, which distinguish its refusals from the guard's.
POLICY = "paths"


def refused(allowed: Sequence[str] | None) -> dict[str, Any]:
    """Envoy's permission that holds for the paths that get a 404.

    Envoy looks at a path after it has normalized it: dots, double slashes, and escapes of letters are gone.

    Args:
        allowed: `listener.paths`; None: all but `ADMIN_PATHS`.
    """
    if allowed is None:
        return _path({"safe_regex": {"regex": _below(ADMIN_PATHS)}})
    rules = [_path(_pattern(path)) for path in allowed]
    return {"not_rule": {"or_rules": {"rules": rules}}}


def _below(paths: Sequence[str]) -> str:
    """These and all below, in any case: of what follows a name, some servers cut more off than others."""
    return "(?i)(?:" + "|".join(path.replace(".", "[.]") for path in sorted(paths)) + ")(?:[/;%].*)?"


def _pattern(path: str) -> dict[str, Any]:
    return {"prefix": path.removesuffix("*")} if path.endswith("/*") else {"exact": path}


def _path(matcher: dict[str, Any]) -> dict[str, Any]:
    return {"url_path": {"path": matcher}}
