"""What must hold for every plugin that comes with the scheduler, over any fleet."""

from collections.abc import Callable
from dataclasses import replace
from math import isnan
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.snapshots import ADAPTERS, P, address, cycle, fleets, pods, request, snapshot

from scheduler.framework import MAX_SCORE, MIN_SCORE, Cycle, Filter, Scorer
from scheduler.registry import IN_TREE
from scheduler.types import BoolArray, FloatArray, Request, Snapshot

SLACK = 1e-9
#: For each of two dozen tests a plugin.
THOROUGHLY = settings(max_examples=50)
REQUESTS = st.builds(
    lambda text, model, session: request(text, model=model, header_x_session_id=session),
    st.text("ab", max_size=400),
    st.sampled_from(["base", *ADAPTERS]),
    st.text("xyz", max_size=3),
)
#: Random is uniform whatever the pods are: of the properties below it has range and shape only.
SCORERS = [plugin for plugin in IN_TREE if issubclass(plugin, Scorer)]
STEADY = [plugin for plugin in SCORERS if plugin.name != "random"]
FILTERS = [plugin for plugin in IN_TREE if issubclass(plugin, Filter)]


def named(plugins: list[type[Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("plugin", plugins, ids=lambda plugin: plugin.name)


def made(plugin: type[Any]) -> Any:
    return plugin(plugin.Params())


def matches(rows: list[P]) -> dict[str, float]:
    """A prefix match per pod that depends on the pod alone."""
    return {row.address: (index * 7 % 11) / 10 for index, row in enumerate(rows)}


def scores(plugin: Any, wanted: Request, rows: list[P], match: dict[str, float] | None) -> dict[str, float]:
    values = plugin.score(wanted, snapshot(*rows), prepared(rows, match))
    assert values.shape == (len(rows),)
    return dict(zip([row.address for row in rows], values.tolist(), strict=True))


def prepared(rows: list[P], match: dict[str, float] | None) -> Cycle:
    return cycle(None if match is None else [match[row.address] for row in rows], span=0.75)


@named(SCORERS)
@THOROUGHLY
@given(fleets(), REQUESTS, st.booleans())
def test_scores_are_in_range(plugin: type[Any], rows: list[P], wanted: Request, known: bool) -> None:
    values: FloatArray = made(plugin).score(wanted, snapshot(*rows), prepared(rows, matches(rows) if known else None))
    assert isinstance(values, np.ndarray)
    assert values.shape == (len(rows),)
    assert values.dtype == np.float64
    assert ((values >= MIN_SCORE - SLACK) & (values <= MAX_SCORE + SLACK)).all()


@named([plugin for plugin in SCORERS if getattr(plugin, "scraped_only", False)])
@THOROUGHLY
@given(fleets(), REQUESTS, REQUESTS)
def test_a_score_by_scrapes_alone_needs_nothing_else(
    plugin: type[Any], rows: list[P], wanted: Request, other: Request
) -> None:
    busier = [replace(row, waiting=3.0, running=9.0, in_flight=7, tokens=99, served=5) for row in rows]
    of_each = [
        made(plugin).score(wanted, snapshot(*rows), cycle()),
        made(plugin).score(other, snapshot(*busier), cycle()),
    ]
    np.testing.assert_array_equal(*of_each)


@named(SCORERS)
@THOROUGHLY
@given(fleets(), REQUESTS)
def test_a_scorer_changes_nothing(plugin: type[Any], rows: list[P], wanted: Request) -> None:
    given_, fresh = snapshot(*rows), snapshot(*rows)
    made(plugin).score(wanted, given_, prepared(rows, matches(rows)))
    for column in ("waiting", "running", "kv_usage", "ttft", "tpot", "in_flight", "in_flight_tokens", "served"):
        np.testing.assert_array_equal(getattr(given_, column), getattr(fresh, column))


@named(STEADY)
@THOROUGHLY
@given(fleets(), REQUESTS, st.randoms(use_true_random=False))
def test_permuting_the_pods_permutes_the_scores(plugin: type[Any], rows: list[P], wanted: Request, dice: Any) -> None:
    match, instance = matches(rows), made(plugin)
    shuffled = list(rows)
    dice.shuffle(shuffled)
    assert scores(instance, wanted, rows, match) == scores(instance, wanted, shuffled, match)


@named(STEADY)
@THOROUGHLY
@given(fleets(least=2), REQUESTS, pods, st.data())
def test_another_pod_does_not_change_the_order_of_the_others(
    plugin: type[Any], rows: list[P], wanted: Request, extra: P, data: st.DataObject
) -> None:
    match, instance = matches(rows), made(plugin)
    newcomer = replace(extra, address=address(len(rows)))
    where = data.draw(st.integers(0, len(rows)))
    before = scores(instance, wanted, rows, match)
    after = scores(instance, wanted, [*rows[:where], newcomer, *rows[where:]], {**match, newcomer.address: 0.4})
    if plugin.name in BLENDED:
        # Unknown is 50 wherever the known ones are scaled to, and two scales are added: only of pods where all is known,
        # and that one beats in both, the order is the pods' own.
        for one in rows:
            for other in rows:
                if BLENDED[plugin.name](one, other):
                    assert after[one.address] >= after[other.address] - SLACK
        return
    for better in before:
        for worse in before:
            if before[better] > before[worse] + SLACK:
                assert after[better] >= after[worse] - SLACK


def _not_worse(*fields: str) -> Callable[[P, P], bool]:
    """Both pods measured, and the first not worse in any: NaN makes each comparison false."""
    return lambda one, other: all(0 < getattr(one, name) <= getattr(other, name) for name in fields)


#: Scorers whose rule is not per pod: min-max against a neutral 50.
BLENDED = {
    "least-latency": _not_worse("ttft", "tpot"),
    "queue": _not_worse("waiting"),
    "running-requests": _not_worse("running"),
}

#: What is load to each scorer.
LOADS = {
    "least-cost": ["in_flight", "running", "kv", "backlog"],
    "least-request": ["in_flight"],
    "least-latency": ["ttft", "tpot"],
    "kv-cache": ["kv"],
    "queue": ["waiting"],
    "running-requests": ["running"],
    "token-load": ["tokens"],
    "prefix-cache": [],
    "session-affinity": [],
}


@named(STEADY)
@THOROUGHLY
@given(fleets(), REQUESTS, st.data())
def test_more_load_never_scores_higher(plugin: type[Any], rows: list[P], wanted: Request, data: st.DataObject) -> None:
    match, instance = matches(rows), made(plugin)
    before = scores(instance, wanted, rows, match)
    victim = data.draw(st.integers(0, len(rows) - 1))
    for name in LOADS[plugin.name]:
        value = getattr(rows[victim], name)
        if isnan(value) or (value == 0 and name in ("ttft", "tpot")):
            # From unknown to known, or from "never measured", is not more load.
            continue
        more = value + (data.draw(st.integers(1, 1000)) if isinstance(value, int) else data.draw(st.floats(0.001, 100)))
        loaded = [replace(row, **{name: more}) if index == victim else row for index, row in enumerate(rows)]
        after = scores(instance, wanted, loaded, match)
        assert after[rows[victim].address] <= before[rows[victim].address] + SLACK


@THOROUGHLY
@given(fleets(), st.data())
def test_a_longer_match_never_scores_lower(rows: list[P], data: st.DataObject) -> None:
    victim = rows[data.draw(st.integers(0, len(rows) - 1))].address
    match = matches(rows)
    better = {**match, victim: data.draw(st.floats(match[victim], 1.0))}
    for plugin in SCORERS:
        if plugin.name in ("least-cost", "prefix-cache", "token-load"):
            instance = made(plugin)
            before, after = (scores(instance, request("x" * 999), rows, held) for held in (match, better))
            assert after[victim] >= before[victim] - SLACK


@named([plugin for plugin in STEADY if plugin.name in ("least-latency", "kv-cache", "queue", "running-requests")])
@THOROUGHLY
@given(st.integers(1, 20), REQUESTS)
def test_nothing_known_is_neutral(plugin: type[Any], count: int, wanted: Request) -> None:
    assert made(plugin).score(wanted, snapshot(*[P()] * count), cycle()).tolist() == [50.0] * count


@named(FILTERS)
@THOROUGHLY
@given(fleets(), REQUESTS, st.booleans())
def test_a_filter_returns_a_mask(plugin: type[Any], rows: list[P], wanted: Request, known: bool) -> None:
    mask = keep(made(plugin), wanted, snapshot(*rows), prepared(rows, matches(rows) if known else None))
    assert isinstance(mask, np.ndarray)
    assert mask.shape == (len(rows),)
    assert mask.dtype == np.bool_


@named(FILTERS)
@THOROUGHLY
@given(fleets(), REQUESTS, st.randoms(use_true_random=False))
def test_permuting_the_pods_permutes_the_mask(plugin: type[Any], rows: list[P], wanted: Request, dice: Any) -> None:
    match, instance = matches(rows), made(plugin)
    shuffled = list(rows)
    dice.shuffle(shuffled)
    kept, kept_shuffled = (
        {
            row.address
            for row, one in zip(order, keep(instance, wanted, snapshot(*order), prepared(order, match)), strict=True)
            if one
        }
        for order in (rows, shuffled)
    )
    assert kept == kept_shuffled


@THOROUGHLY
@given(fleets(), REQUESTS)
def test_affinities_never_keep_nobody(rows: list[P], wanted: Request) -> None:
    for plugin in FILTERS:
        if plugin.name.endswith("affinity"):
            assert keep(made(plugin), wanted, snapshot(*rows), prepared(rows, matches(rows))).any()


def keep(plugin: Any, wanted: Request, pods: Snapshot, now: Cycle) -> BoolArray:
    mask: BoolArray = plugin.keep(wanted, pods, now)
    return mask
