"""From a model's name to a route, and from a route to its targets in order."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.routing.routes import Route, Routes, Rule, Target, in_order


def route(name: str, *targets: Target) -> Route:
    return Route(name, targets or (Target(name),))


UNNAMED = route("unnamed")


def test_models_then_adapters_then_the_last_resort() -> None:
    base, adapter, others = route("base"), route("adapter"), route("others")
    rules = [Rule(adapter, adapters=("both", "lora")), Rule(base, models=("both", "m")), Rule(others)]
    routes = Routes(rules, UNNAMED)
    assert routes.find("both") is base
    assert routes.find("m") is base
    assert routes.find("lora") == adapter
    assert routes.find("M") is others
    assert routes.find("") is UNNAMED
    assert Routes(rules[:2], UNNAMED).find("M") is None


def test_of_equal_names_the_first_counts() -> None:
    first, second = route("first"), route("second")
    assert Routes([Rule(first, models=("m",)), Rule(second, models=("m",))], UNNAMED).find("m") is first


def test_adapters_are_not_rewritten() -> None:
    canary = route("r", Target("a", 90, "m-1"), Target("b", 10, "m-2"))
    routes = Routes([Rule(canary, models=("m",), adapters=("lora",))], UNNAMED)
    assert routes.find("m") is canary
    assert routes.find("lora") == route("r", Target("a", 90), Target("b", 10))


def test_one_target_rolls_no_dice() -> None:
    only = route("r", Target("a", weight=5))
    assert in_order(only, None) is only.targets  # type: ignore[arg-type]  # no dice on purpose


def test_shares_follow_the_weights() -> None:
    split = route("r", Target("a", 90), Target("b", 10), Target("c", 0))
    rng = random.Random(1)
    orders = [tuple(target.pool for target in in_order(split, rng)) for _ in range(10_000)]
    assert set(orders) == {("a", "b"), ("b", "a")}
    assert Counter(orders)["a", "b"] == pytest.approx(9_000, abs=150)


def test_the_second_choice_follows_the_weights_too() -> None:
    split = route("r", Target("a", 1000), Target("b", 30), Target("c", 10))
    rng = random.Random(2)
    second = Counter(in_order(split, rng)[1].pool for _ in range(10_000))
    assert second["b"] / (second["b"] + second["c"]) == pytest.approx(0.75, abs=0.03)


class Dice:
    """Always rolls the same."""

    def __init__(self, roll: float) -> None:
        self._roll = roll

    def random(self) -> float:
        return self._roll


@given(st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=6), st.floats(0, 1))
def test_every_target_with_a_weight_comes_once(weights: list[float], roll: float) -> None:
    targets = [Target(str(place), weight) for place, weight in enumerate(weights)]
    order = in_order(route("r", *targets), Dice(roll))  # type: ignore[arg-type]  # all that is asked of dice
    wanted = targets if len(targets) == 1 else [target for target in targets if target.weight > 0]
    assert sorted(target.pool for target in order) == sorted(target.pool for target in wanted)
