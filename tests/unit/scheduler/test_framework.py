import pytest
from pydantic import Field, ValidationError
from support.snapshots import cycle

from scheduler.framework import Filter, NoParams, PluginParams, PodWatcher, Preparer, Recorder, Reporter, Scorer
from scheduler.plugins.least_request import LeastRequest
from scheduler.plugins.prefix_cache import PrefixCache


class Params(PluginParams):
    limit: int = Field(1, alias="theLimit")


def test_params_are_strict_and_frozen() -> None:
    assert Params.model_validate({"theLimit": 3}).limit == 3
    for wrong in ({"theLimit": "3"}, {"theLimit": 1.5}, {"limits": 1}):
        with pytest.raises(ValidationError):
            Params.model_validate(wrong)
    with pytest.raises(ValidationError):
        Params().limit = 4  # type: ignore[misc]  # that is the test
    with pytest.raises(ValidationError):
        NoParams.model_validate({"x": 1})


def test_roles_are_what_a_plugin_can_do() -> None:
    assert issubclass(LeastRequest, Filter)
    assert issubclass(LeastRequest, Scorer)
    for role in (Preparer, Recorder, PodWatcher, Reporter, Scorer):
        assert issubclass(PrefixCache, role)
        assert role is Scorer or not issubclass(LeastRequest, role)
    assert not issubclass(PrefixCache, Filter)


def test_a_cycle_starts_empty() -> None:
    new = cycle(now=3.0)
    assert (new.now, new.prefix_match, new.prefix_span, new.state) == (3.0, None, 1.0, {})
