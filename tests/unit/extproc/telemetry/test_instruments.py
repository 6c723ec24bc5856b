"""The same page as prometheus_client's own instruments make."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from extproc.telemetry.instruments import Counters, Histograms

BOUNDS = (0.001, 0.5, 1.0, 2.5)


def samples(registry: CollectorRegistry) -> dict[tuple[object, ...], float]:
    """Without the time of creation, which ours do not tell."""
    return {
        (family.name, family.type, family.documentation, sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if not sample.name.endswith("_created") and not family.name.endswith("_created")
    }


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0.0, *BOUNDS, 1.7, 99.0]))))
def test_histograms(observations: list[tuple[str, float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = Histograms("x_seconds", "Text.", BOUNDS, ["who"], ours)
    other = Histogram("x_seconds", "Text.", ["who"], buckets=BOUNDS, registry=theirs)
    for who, value in observations:
        mine.of(who).observe(value)
        other.labels(who).observe(value)
    assert samples(ours) == samples(theirs)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0.0, 1.0, 2.5]))))
def test_counters(additions: list[tuple[str, float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    mine = Counters("x", "Text.", ["who"], ours)
    other = Counter("x", "Text.", ["who"], registry=theirs)
    for who, amount in additions:
        mine.add((who,), amount)
        other.labels(who).inc(amount)
    assert samples(ours) == samples(theirs)


def test_without_labels_there_is_a_zero_from_the_start() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    Counters("x", "Text.", [], ours)
    Histograms("y", "Text.", BOUNDS, [], ours)
    Counter("x", "Text.", registry=theirs)
    Histogram("y", "Text.", buckets=BOUNDS, registry=theirs)
    assert samples(ours) == samples(theirs)
