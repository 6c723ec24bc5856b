from typing import Any

import pytest

from modelsim.profile import EngineConfig, Profile


def test_speedup_divides_all_times() -> None:
    profile = Profile(overhead=1, per_prompt_token=2, inter_token=3, per_sequence=4, adapter_load=5)
    assert profile.faster(2) == Profile(
        overhead=0.5, per_prompt_token=1, inter_token=1.5, per_sequence=2, adapter_load=2.5
    )


@pytest.mark.parametrize("speedup", [0, -1, float("inf"), float("nan")])
def test_a_speedup_that_makes_no_sense(speedup: float) -> None:
    with pytest.raises(ValueError, match="speedup"):
        Profile().faster(speedup)


@pytest.mark.parametrize("value", [-0.001, float("inf"), float("nan")])
def test_a_time_that_makes_no_sense(value: float) -> None:
    with pytest.raises(ValueError, match="inter_token"):
        Profile(inter_token=value)


def test_defaults_are_within_the_published_ranges() -> None:
    profile = Profile()
    assert 0.025 <= profile.overhead <= 0.040
    assert 0.00015 <= profile.per_prompt_token <= 0.0003
    assert 0.010 <= profile.inter_token + 128 * profile.per_sequence <= 0.015


@pytest.mark.parametrize(
    "limits",
    [
        {"max_num_seqs": 0},
        {"num_blocks": 0},
        {"max_model_len": 0},
        {"max_num_seqs": 8, "max_num_batched_tokens": 7},
        {"max_loras": -1},
    ],
)
def test_limits_under_which_nothing_could_run(limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        EngineConfig(**limits)


def test_the_longest_request_fits_both_the_model_and_the_cache() -> None:
    assert EngineConfig(num_blocks=10, max_model_len=1000).longest == 160
    assert EngineConfig(num_blocks=10, max_model_len=100).longest == 100
