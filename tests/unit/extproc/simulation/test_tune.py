from random import Random

import pytest
import yaml

from extproc.config import loads
from extproc.simulation.fleet import PodPlan
from extproc.simulation.profiles import find
from extproc.simulation.run import FleetPlan
from extproc.simulation.scenario import Source
from extproc.simulation.tune import Found, TuneError, simulations, space, tune

PLAN = FleetPlan(pods=tuple(PodPlan(name=f"pod-{n}", engine=find("8b-h100")) for n in range(3)))
SOURCE = Source(
    generated="shared-prefixes",
    parameters={"groups": 6, "questions": 2, "system-tokens": 4096, "question-tokens": 64, "output-tokens": 16,
                "rate": 6, "seconds": 30},
)  # fmt: skip
#: Prefixes count for nothing here, which is worth mending.
BLIND = """
scheduler:
  plugins:
    Filter: {enabled: []}
    Score: {enabled: [{name: random, weight: 0}, {name: queue, weight: 1}, {name: prefix-cache, weight: 0}]}
"""


def found(document: str, *, seed: int = 1, tries: int = 12) -> Found:
    config = loads(document, "given").config
    return tune(config, SOURCE, PLAN, goal="ttft_mean", tries=tries, seeds=2, seed=seed, jobs=1)


def test_what_is_clearly_wrong_is_found_and_holds_on_the_other_half() -> None:
    result = found(BLIND.replace("{name: random, weight: 0}, ", ""))
    assert result.holds
    assert result.after < result.before
    weights = {one["name"]: one["weight"] for one in result.section["plugins"]["Score"]["enabled"]}
    assert weights["prefix-cache"] > 0
    # As it is printed, it can be used.
    section = yaml.safe_load(result.text())
    loads(yaml.safe_dump(section), "found")


def test_equal_seeds_find_the_same() -> None:
    assert found("{}", tries=3) == found("{}", tries=3)


def test_where_nothing_is_gained_it_says_to_keep_what_is_there() -> None:
    # One pod: whatever is preferred, it gets all.
    plan = FleetPlan(pods=PLAN.pods[:1])
    config = loads("{}", "given").config
    result = tune(config, SOURCE, plan, goal="ttft_p90", tries=3, seeds=2, seed=1, jobs=1)
    assert not result.holds
    assert result.held_out == (1.0, 1.0)
    assert "keep the configuration that is there" in result.text()
    assert yaml.safe_load(result.text()) is None


def test_the_number_of_simulations_is_known_before() -> None:
    done: list[int] = []
    tune(loads("{}", "g").config, SOURCE, PLAN, goal="ttft_p90", tries=4, seeds=2, seed=1, jobs=1, progress=done.append)
    assert done == list(range(1, simulations(4, 2) + 1))


def test_one_scorer_has_no_weight_to_tune() -> None:
    config = loads("scheduler: {plugins: {Score: {enabled: [{name: queue}]}}}", "given").config
    with pytest.raises(TuneError, match="'queue'"):
        space(config, Random(1))


def test_arguments_that_are_there_are_kept() -> None:
    document = """
    scheduler:
      pluginConfig: [{name: prefix-cache, args: {blockSizeToHash: 256}}, {name: least-cost, args: {halfScoreSeconds: 2.0}}]
      plugins: {Filter: {enabled: [lora-affinity]}, Score: {enabled: [{name: least-cost}]}}
    """
    section = space(loads(document, "given").config, Random(1))()
    args = {one["name"]: one["args"] for one in section["pluginConfig"]}
    assert args["prefix-cache"] == {"blockSizeToHash": 256}
    assert args["least-cost"]["halfScoreSeconds"] == 2.0
    assert 0.05 <= args["least-cost"]["interferenceShare"] <= 2.0
    assert section["plugins"]["Filter"] == {"enabled": ["lora-affinity"]}
