from dataclasses import FrozenInstanceError

import pytest

from scheduler.config import PluginConfig, SchedulerConfig, ScorerRef


def test_what_is_not_said_is_default() -> None:
    config = SchedulerConfig()
    assert config.filters_enabled is None
    assert config.scores_enabled is None
    assert (config.plugin_config, config.filters_disabled, config.scores_disabled) == ((), (), ())
    assert ScorerRef("a").weight == 1.0
    assert PluginConfig("a").args == {}


def test_it_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        SchedulerConfig().filters_enabled = ()  # type: ignore[misc]  # that is the test
