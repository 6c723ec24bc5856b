import pytest
from support.snapshots import P, cycle, request, snapshot

from scheduler.plugins.prefix_affinity import PrefixAffinity, PrefixAffinityParams

#: 4000 characters are 1001 tokens.
REQUEST = request("x" * 4000)
#: Patience: 1000 tokens.
PLUGIN = PrefixAffinity(PrefixAffinityParams(threshold=0.8, prefill_throughput=500.0, max_penalty=2.0))


@pytest.mark.parametrize(
    ("pods", "match", "kept"),
    [
        # Whoever holds enough.
        ([P(), P(), P()], [0.9, 0.8, 0.7], "110"),
        # Nobody, or everybody.
        ([P(), P()], [0.7, 0.0], "11"),
        ([P(), P()], [0.9, 1.0], "11"),
        # 1000 tokens more of work there than elsewhere is as far as patience goes (1001 of the prompt are cached).
        ([P(tokens=2001), P()], [1.0, 0.0], "10"),
        ([P(tokens=2002), P()], [1.0, 0.0], "11"),
        # ... but the others are busy, too.
        ([P(tokens=2002), P(tokens=500)], [1.0, 0.0], "10"),
        # The best of the affine ones decides.
        ([P(tokens=9000), P(tokens=0), P()], [1.0, 1.0, 0.0], "110"),
        # A queue is worse than any prefix, while somebody has none.
        ([P(1), P(0)], [1.0, 0.0], "01"),
        ([P(1), P(0), P(2)], [1.0, 0.0, 0.0], "010"),
        ([P(1), P(2)], [1.0, 0.0], "10"),
        ([P(1), P(0), P(0)], [1.0, 1.0, 0.0], "010"),
        ([P(0), P(5)], [1.0, 0.0], "10"),
        ([P(), P(5)], [1.0, 0.0], "10"),
        # A queueing affine pod is not one of the others.
        ([P(1, tokens=0), P(0, tokens=1500), P(0, tokens=900)], [1.0, 1.0, 0.0], "010"),
    ],
)
def test_keep(pods: list[P], match: list[float], kept: str) -> None:
    mask = PLUGIN.keep(REQUEST, snapshot(*pods), cycle(match)).tolist()
    assert "".join("01"[one] for one in mask) == kept


def test_only_what_was_looked_at_counts_as_held() -> None:
    pods = snapshot(P(tokens=1600), P())
    assert PLUGIN.keep(REQUEST, pods, cycle([1.0, 0.0])).tolist() == [True, False]
    assert PLUGIN.keep(REQUEST, pods, cycle([1.0, 0.0], span=0.5)).tolist() == [True, True]


def test_without_a_match_nothing_is_filtered() -> None:
    assert PLUGIN.keep(REQUEST, snapshot(P(), P()), cycle()).tolist() == [True, True]


def test_it_needs_the_index() -> None:
    assert PrefixAffinity.needs == ("prefix-cache",)


def test_a_queue_is_seen_when_it_comes() -> None:
    pods = snapshot(P(0), P(0))
    assert PLUGIN.keep(REQUEST, pods, cycle([1.0, 0.0])).tolist() == [True, False]
    pods.waiting[0] = 1
    assert PLUGIN.keep(REQUEST, pods, cycle([1.0, 0.0])).tolist() == [False, True]
