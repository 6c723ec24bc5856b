import pytest
from support.plugins import Clock, Faults, Keeps, Records, Scores, broken
from support.snapshots import P, cycle, request, snapshot

from scheduler.framework import NoParams
from scheduler.plugins.kv_cache import KvCache
from scheduler.plugins.prefix_cache import PrefixCache, PrefixCacheParams
from scheduler.profile import FAULTY, REST_FACTOR, SLOW_RUNS, SLOW_SECONDS, Profile, SlowPlugin, ignore_fault

PODS = snapshot(P(kv=0.5))


def scorer(profile: Profile) -> object:
    return profile.run(profile.scorers[0], request(), PODS, cycle())


def test_a_plugin_takes_part_where_it_can() -> None:
    plugins = {"prefix-cache": PrefixCache(PrefixCacheParams()), "keeps": Keeps([True]), "r": Records()}
    profile = Profile(plugins=plugins, filters=["keeps"], scorers=[("prefix-cache", 2.0)])
    assert [member.name for member in profile.preparers] == ["prefix-cache"]
    assert [member.name for member in profile.filters] == ["keeps"]
    assert [member.name for member in profile.scorers] == ["prefix-cache"]
    assert [member.name for member in profile.recorders] == ["prefix-cache", "r"]
    assert [member.name for member in profile.watchers] == ["prefix-cache", "r"]
    assert profile.weights == {"prefix-cache": 2.0}


def test_weights_of_one_are_not_multiplied() -> None:
    plugins = {"a": KvCache(NoParams()), "b": KvCache(NoParams())}
    assert Profile(plugins=plugins, scorers=[("a", 1.0), ("b", 1.0)]).weight_column is None
    column = Profile(plugins=plugins, scorers=[("a", 1.0), ("b", 0.5)]).weight_column
    assert column is not None
    assert column.tolist() == [[1.0], [0.5]]


def test_measuring_needs_a_clock() -> None:
    with pytest.raises(ValueError, match="clock"):
        Profile(plugins={}, observe=lambda name, phase: print)


def test_time_is_told() -> None:
    seen: list[tuple[str, str, float]] = []
    profile = Profile(
        plugins={"s": Scores([1])},
        scorers=[("s", 1)],
        observe=lambda name, phase: lambda seconds: seen.append((name, phase, seconds)),
        clock=Clock(0.002),
    )
    assert scorer(profile) is not FAULTY
    assert seen == [("s", "score", pytest.approx(0.002))]


@pytest.mark.parametrize("clock", [None, Clock()])
def test_what_a_plugin_raises_is_told_and_goes_no_further(clock: Clock | None) -> None:
    faults = Faults()
    profile = Profile(plugins={"s": Scores(broken)}, scorers=[("s", 1)], on_fault=faults, clock=clock)
    assert scorer(profile) is FAULTY
    assert faults.seen == [("s", "score")]
    assert str(faults.errors[0]) == "broken"
    ignore_fault("s", "score", faults.errors[0])


def test_one_slow_run_is_told_only() -> None:
    faults = Faults()
    profile = Profile(plugins={"s": Scores([1])}, scorers=[("s", 1)], on_fault=faults, clock=Clock(SLOW_SECONDS * 1.2))
    assert scorer(profile) is not FAULTY
    assert scorer(profile) is not FAULTY
    assert faults.seen == [("s", "score")]
    assert isinstance(faults.errors[0], SlowPlugin)
    assert "6.0 ms" in str(faults.errors[0])


def test_a_plugin_that_is_slow_again_and_again_rests() -> None:
    faults = Faults()
    # Reading goes start, end, start, end, ...: each run takes 10 ms.
    clock = Clock(*[0.01, 0.0] * SLOW_RUNS)
    profile = Profile(plugins={"s": Scores([1])}, scorers=[("s", 1)], on_fault=faults, clock=clock)
    for _ in range(SLOW_RUNS):
        assert scorer(profile) is not FAULTY
    assert "left out for 1.0 s" in str(faults.errors[-1])
    assert scorer(profile) is FAULTY
    assert len(faults.errors) == SLOW_RUNS
    clock.now += 0.01 * REST_FACTOR + 0.01
    assert scorer(profile) is not FAULTY


@pytest.mark.parametrize("computes", [False, True])
def test_time_in_which_others_ran_is_not_the_plugins(computes: bool) -> None:
    """A busy machine makes any run slow. Whoever was slow is looked at again by the CPU that it takes itself."""
    faults = Faults()
    cpu = Clock(*[0.009 if computes else 0.001, 0.0] * SLOW_RUNS * 2)
    profile = Profile(
        plugins={"s": Scores([1])}, scorers=[("s", 1)], on_fault=faults, clock=Clock(*[0.01, 0.0] * SLOW_RUNS * 2),
        cpu_clock=cpu,
    )  # fmt: skip
    for _ in range(SLOW_RUNS):
        assert scorer(profile) is not FAULTY
    assert (scorer(profile) is FAULTY) is computes
    slow = [error for error in faults.errors if isinstance(error, SlowPlugin)]
    assert [error.left_out for error in slow] == ([False, False, True] if computes else [False, False])


def test_a_quick_run_wipes_the_slate() -> None:
    faults = Faults()
    steps = [0.01, 0.0] * (SLOW_RUNS - 1)
    clock = Clock(*steps, 0.0, 0.0, *steps)
    profile = Profile(plugins={"s": Scores([1])}, scorers=[("s", 1)], on_fault=faults, clock=clock)
    for _ in range(SLOW_RUNS * 2):
        assert scorer(profile) is not FAULTY


def test_those_who_watch_are_told_who_left() -> None:
    faults, records, bad = Faults(), Records(), Records()
    bad.left = broken  # type: ignore[assignment]  # a plugin that raises
    profile = Profile(plugins={"bad": bad, "good": records}, on_fault=faults)
    profile.left(PODS.pods[0])
    assert records.gone == [PODS.pods[0].address]
    assert faults.seen == [("bad", "left")]


def test_statistics_of_those_who_have_any() -> None:
    profile = Profile(plugins={"prefix-cache": PrefixCache(PrefixCacheParams()), "r": Records()})
    assert profile.statistics() == {"prefix-cache": {"entries": 0, "blocks": 0}}
