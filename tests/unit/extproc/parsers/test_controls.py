"""What steers engines, held against all fields that engines take at the versions stated here.

To move on to another version: put its fields here. Each that is new is then in neither list, and to be judged.
"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.parsers import parse
from extproc.parsers.controls import ADAPTERS, ALL_STEERING, IDS, SALTS, STEERING, may_be_address

CHAT = "/v1/chat/completions"

#: Top-level fields of requests, by engine and version.
FIELDS = {
    # ChatCompletionRequest of vllm/entrypoints/openai/chat_completion/protocol.py at 002032ee2b18 (November 2026).
    "vllm": """
        add_generation_prompt add_special_tokens allowed_token_ids bad_words cache_salt chat_template
        chat_template_kwargs continue_final_message documents ec_transfer_params echo frequency_penalty ignore_eos
        include_reasoning include_stop_str_in_output kv_transfer_params length_penalty logit_bias logprob_token_ids
        logprobs max_completion_tokens max_tokens media_io_kwargs messages min_p min_tokens mm_processor_kwargs
        model n parallel_tool_calls presence_penalty priority prompt_logprobs reasoning_effort repetition_detection
        repetition_penalty request_id response_format return_mm_kwargs return_prompt_text return_token_ids
        return_token_offsets return_tokens_as_token_ids routed_experts_prompt_start seed session_id
        skip_special_tokens spaces_between_special_tokens stop stop_token_ids stream stream_interval stream_options
        structured_outputs temperature thinking_token_budget tool_choice tools top_k top_logprobs top_p
        truncate_prompt_tokens truncation_side use_beam_search user vllm_xargs watermarking
    """,
    # Of sglang/srt/entrypoints/openai/protocol.py and managers/io_struct.py of the wheel sglang 0.5.5, and what
    # CompletionRequest has beside at 004c82e07d87 (2026).
    "sglang": """
        audio_data background best_of bootstrap_host bootstrap_pair_key bootstrap_port bootstrap_room cache_salt
        chat_template_kwargs continue_final_message conversation_id custom_labels custom_logit_processor
        custom_params data_parallel_rank dimensions disagg_prefill_dp_rank ebnf echo encoding_format extra_key
        frequency_penalty ignore_eos image_data images_config include input input_embeds input_ids instructions
        is_cross_encoder_request json_schema log_metrics logit_bias logprob_start_len logprobs lora_id lora_path
        max_completion_tokens max_output_tokens max_tokens max_tool_calls messages metadata min_p min_tokens
        modalities model n ngram_corpus_id no_logs no_stop_trim parallel_tool_calls presence_penalty
        previous_response_id priority prompt reasoning reasoning_effort regex repetition_penalty request_id
        response_format return_bytes return_cached_tokens_details return_entropy return_hidden_states return_logprob
        return_routed_experts return_text_in_logprobs return_token_ids rid routed_dp_rank routed_experts_start_len
        sampling_params seed separate_reasoning service_tier session_id session_params skip_special_tokens stop
        stop_regex stop_token_ids store stream stream_options stream_reasoning suffix temperature text
        token_ids_logprob tool_choice tools top_k top_logprobs top_logprobs_num top_p trace_context truncation user
        validation_time video_data
    """,
}
#: Of these, what changes only the answer to the request itself, or its place in the engine's own queue.
HARMLESS = """
        add_generation_prompt add_special_tokens allowed_token_ids audio_data background bad_words best_of
        chat_template chat_template_kwargs continue_final_message conversation_id custom_labels
        custom_logit_processor custom_params dimensions documents ebnf echo encoding_format frequency_penalty
        ignore_eos image_data images_config include include_reasoning include_stop_str_in_output input input_embeds
        input_ids instructions is_cross_encoder_request json_schema length_penalty log_metrics logit_bias
        logprob_start_len logprob_token_ids logprobs lora_id max_completion_tokens max_output_tokens max_tokens
        max_tool_calls media_io_kwargs messages metadata min_p min_tokens mm_processor_kwargs modalities model n
        ngram_corpus_id no_logs no_stop_trim parallel_tool_calls presence_penalty previous_response_id priority
        prompt prompt_logprobs reasoning reasoning_effort regex repetition_detection repetition_penalty
        response_format return_bytes return_cached_tokens_details return_entropy return_hidden_states return_logprob
        return_mm_kwargs return_prompt_text return_routed_experts return_text_in_logprobs return_token_ids
        return_token_offsets return_tokens_as_token_ids routed_experts_prompt_start routed_experts_start_len
        sampling_params seed separate_reasoning service_tier session_id session_params skip_special_tokens
        spaces_between_special_tokens stop stop_regex stop_token_ids store stream stream_interval stream_options
        stream_reasoning structured_outputs suffix temperature text thinking_token_budget token_ids_logprob
        tool_choice tools top_k top_logprobs top_logprobs_num top_p trace_context truncate_prompt_tokens truncation
        truncation_side use_beam_search user validation_time video_data vllm_xargs watermarking
"""


@pytest.mark.parametrize("engine", FIELDS)
def test_every_field_of_an_engine_is_judged(engine: str) -> None:
    fields = set(FIELDS[engine].split())
    judged = {*ALL_STEERING, ADAPTERS, *IDS, *SALTS}
    assert not judged & set(HARMLESS.split())
    assert fields - judged - set(HARMLESS.split()) == set(), "fields that nobody has judged"
    assert set(STEERING[engine]) <= fields, "fields that the engine does not have"


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}).encode()


@pytest.mark.parametrize(
    "path", [CHAT, "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages", "/generate"]
)
@pytest.mark.parametrize("name", ALL_STEERING)
@pytest.mark.parametrize("more", ["", "x" * 3_000_000], ids=["small", "large"])
def test_steering_is_found(path: str, name: str, more: str) -> None:
    values: list[Any] = [{"a": 1}, 0, "", False, [], {}]
    for value in values:
        assert parse(path, body(**{name: value}, user=more)).steering == (name,)
    assert parse(path, body(**{name: None}, user=more)).steering == ()
    assert parse(path, body(metadata={name: 1}, messages=[{name: 1}], user=more)).steering == ()


def test_escaped_names_are_no_way_around() -> None:
    assert parse(CHAT, b'{"model":"m","\\u006bv_transfer_params":{}}').steering == ("kv_transfer_params",)


ADDRESSES = [
    "___prefill_addr_10.0.0.1:80___decode_addr_10.0.0.2:81_x", "cmpl-___PREFILL_ADDR_host:80", "10.0.0.1", "a:80", "[::1]",
]  # fmt: skip
IDS_OF_CLIENTS = ["4c1c2f3e-9f0b-4a55-8a53-7a5e5a3f2f11", "req_0123", "a b", "", "Root=1-67891233-abcdef", "1.2.3", "é"]


@pytest.mark.parametrize("name", IDS)
def test_ids_that_may_be_addresses_steer(name: str) -> None:
    for text in ADDRESSES:
        assert may_be_address(text)
        values: list[Any] = [text, ["x", text]]
        for value in values:
            assert parse(CHAT, body(**{name: value})).steering == (name,)
    for text in IDS_OF_CLIENTS:
        assert not may_be_address(text)
        assert parse(CHAT, body(**{name: text})).steering == ()
    assert parse(CHAT, body(**{name: {"a": "10.0.0.1"}})).steering == ()
    assert parse(CHAT, b'{"model":"m","%s":1e999}' % name.encode()).steering == ()


@pytest.mark.parametrize(
    ("value", "found"), [("a", ("a",)), (["a", None, "b"], ("a", "b")), (None, ()), (7, ()), ({"x": "a"}, ())]
)
def test_adapters(value: Any, found: tuple[str, ...]) -> None:
    assert parse(CHAT, body(lora_path=value)).adapters == found


@given(st.text(max_size=2000), st.sampled_from(SALTS))
def test_a_salt_keeps_prompts_apart(salt: str, name: str) -> None:
    plain = parse(CHAT, body()).prompt.text()
    salted = parse(CHAT, body(**{name: salt})).prompt.text()
    assert salted == parse(CHAT, body(**{name: salt})).prompt.text()
    assert salted != parse(CHAT, body(**{name: salt + "x"})).prompt.text()
    assert salted.endswith(plain)
    assert not salted.startswith(plain[:2])
    assert parse(CHAT, body(**{name: None})).prompt.text() == plain
