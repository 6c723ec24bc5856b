import gc
import tracemalloc
from array import array
from random import Random

import pytest
from support.snapshots import P, address, snapshot

from scheduler.prefix import TOUCHES_PER_BLOCK, PrefixIndex
from scheduler.types import Prompt, Snapshot


def index(**changes: int) -> PrefixIndex:
    settings = {"block_size": 4, "max_blocks": 8, "max_blocks_per_pod": 100, "seed": 1, **changes}
    return PrefixIndex(**settings)


def hashes(of: PrefixIndex, text: str, model: str = "m") -> list[int]:
    return of.hashes(model, Prompt([text]))[0]


def fleet(count: int) -> Snapshot:
    return snapshot(*[P()] * count)


def blocks(of: PrefixIndex, text: str, pods: Snapshot) -> list[float]:
    """Matched blocks per pod."""
    chain = hashes(of, text)
    return [round(share * len(chain), 6) for share in of.match(chain, pods).tolist()]


class TestHashes:
    def test_a_hash_names_the_whole_prefix(self) -> None:
        of = index()
        one, other = hashes(of, "aaaabbbbcccc"), hashes(of, "aaaaxxxxcccc")
        assert one[0] == other[0]
        assert one[1] != other[1]
        assert one[2] != other[2]

    def test_the_tail_is_not_hashed(self) -> None:
        of = index()
        assert hashes(of, "aaaabbbbc") == hashes(of, "aaaabbbb")
        assert of.hashes("m", Prompt(["aaaabbbbc"]))[1] == pytest.approx(8 / 9)
        assert of.hashes("m", Prompt(["aaa"])) == ([], 0.0)
        assert of.hashes("m", Prompt()) == ([], 0.0)

    def test_models_and_seeds_differ(self) -> None:
        of = index()
        assert hashes(of, "aaaa", "m") != hashes(of, "aaaa", "n")
        assert hashes(of, "aaaa") != hashes(index(seed=2), "aaaa")
        assert hashes(of, "aaaa") == hashes(index(), "aaaa")

    def test_no_more_than_max_blocks(self) -> None:
        of = index(max_blocks=2)
        chain, span = of.hashes("m", Prompt(["a" * 16]))
        assert len(chain) == 2
        assert span == 0.5
        assert of.hashes("m", Prompt(["a" * 8]))[1] == 1.0

    def test_the_span_counts_characters(self) -> None:
        # 8 bytes are 4 of 12 characters.
        assert index(max_blocks=2).hashes("m", Prompt(["é" * 12]))[1] == pytest.approx(4 / 12)

    def test_surrogates_do_no_harm(self) -> None:
        of = index(max_blocks=1)
        chain, span = of.hashes("\ud800", Prompt(["\ud800" * 4]))
        assert len(chain) == 1
        assert 0 <= span <= 1


class TestMatch:
    def test_an_empty_index_matches_nothing(self) -> None:
        of = index()
        assert blocks(of, "aaaabbbb", fleet(3)) == [0, 0, 0]
        assert of.match([], fleet(2)).tolist() == [0, 0]

    def test_the_longest_prefix_of_each_pod(self) -> None:
        of = index()
        for row, text in enumerate(["aaaa", "aaaabbbb", "aaaabbbbccccdddd", "xxxxbbbb"]):
            of.record(hashes(of, text), address(row))
        assert blocks(of, "aaaabbbbcccc", fleet(5)) == [1, 2, 3, 0, 0]

    def test_a_gap_ends_the_prefix(self) -> None:
        of = index()
        chain = hashes(of, "aaaabbbbcccc")
        of.record(chain[:1] + chain[2:], address(0))
        of.record(chain[1:], address(1))
        assert blocks(of, "aaaabbbbcccc", fleet(2)) == [1, 0]

    @pytest.mark.parametrize("count", [3, 15, 16, 64, 65, 512])
    def test_many_pods_at_many_lengths(self, count: int) -> None:
        of = index()
        for row in range(count):
            of.record(hashes(of, "abcdefgh"[: row % 9] and "".join(c * 4 for c in "abcdefgh"[: row % 9])), address(row))
        wanted = [float(row % 9) for row in range(count)]
        assert blocks(of, "".join(c * 4 for c in "abcdefgh"), fleet(count)) == wanted

    def test_a_snapshot_outlives_slots(self) -> None:
        of, pods = index(), fleet(2)
        assert blocks(of, "aaaa", pods) == [0, 0]
        of.record(hashes(of, "aaaa"), address(1))
        assert blocks(of, "aaaa", pods) == [0, 1]
        of.forget(address(1))
        of.record(hashes(of, "aaaa"), address(0))
        assert blocks(of, "aaaa", pods) == [1, 0]


class TestBound:
    def test_a_short_prefix_outlives_its_extension(self) -> None:
        of = index(max_blocks_per_pod=3)
        of.record(hashes(of, "aaaabbbbccccdddd"), address(0))
        assert blocks(of, "aaaabbbbccccdddd", fleet(1)) == [3]
        of.record(hashes(of, "xxxx"), address(0))
        assert blocks(of, "aaaabbbbcccc", fleet(1)) == [2]
        assert of.entries == 3

    def test_what_was_touched_last_stays(self) -> None:
        of = index(max_blocks_per_pod=2)
        for text in ("aaaa", "bbbb", "aaaa", "cccc"):
            of.record(hashes(of, text), address(0))
        assert [blocks(of, text, fleet(1))[0] for text in ("aaaa", "bbbb", "cccc")] == [1, 0, 1]

    def test_what_was_not_touched_in_a_long_time_goes(self) -> None:
        of = index(max_blocks_per_pod=2)
        for text in ("aaaa", *["bbbb"] * 7):
            of.record(hashes(of, text), address(0))
        assert blocks(of, "aaaa", fleet(1)) == [1]
        of.record(hashes(of, "bbbb"), address(0))
        assert [blocks(of, text, fleet(1))[0] for text in ("aaaa", "bbbb")] == [0, 1]

    def test_the_same_blocks_again_and_again_take_no_more_memory(self) -> None:
        of = index(max_blocks_per_pod=10)
        for _ in range(1000):
            of.record(hashes(of, "aaaabbbbcccc"), address(0))
            assert len(of._shelves[address(0)].touches) <= (TOUCHES_PER_BLOCK + 1) * 10 + 3
        assert blocks(of, "aaaabbbbcccc", fleet(1)) == [3]

    def test_each_pod_has_its_own(self) -> None:
        of = index(max_blocks_per_pod=1)
        of.record(hashes(of, "aaaa"), address(0))
        of.record(hashes(of, "aaaa"), address(1))
        of.record(hashes(of, "bbbb"), address(1))
        assert blocks(of, "aaaa", fleet(2)) == [1, 0]
        assert (of.entries, of.hashes_known) == (2, 2)


class TestUndo:
    def test_what_only_this_pick_added_goes(self) -> None:
        of = index()
        of.record(hashes(of, "aaaa"), address(0))
        undo = of.record(hashes(of, "aaaabbbb"), address(0))
        of.record(hashes(of, "aaaabbbb"), address(1))
        undo()
        assert blocks(of, "aaaabbbb", fleet(2)) == [1, 2]

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    def test_what_another_pick_relies_on_stays(self, order: tuple[int, int]) -> None:
        of = index()
        undo = [of.record(hashes(of, "aaaabbbb"), address(0)) for _ in range(2)]
        undo[order[0]]()
        assert blocks(of, "aaaabbbb", fleet(1)) == [2]
        undo[order[1]]()
        assert blocks(of, "aaaabbbb", fleet(1)) == [0]
        assert (of.entries, of.hashes_known) == (0, 0)

    def test_after_eviction_it_finds_nothing(self) -> None:
        of = index(max_blocks_per_pod=1)
        undo = of.record(hashes(of, "aaaa"), address(0))
        of.record(hashes(of, "bbbb"), address(0))
        undo()
        assert blocks(of, "bbbb", fleet(1)) == [1]

    def test_after_a_restart_it_does_not_reach_the_new_engine(self) -> None:
        of = index()
        undo = of.record(hashes(of, "aaaa"), address(0))
        of.forget(address(0))
        of.record(hashes(of, "aaaa"), address(0))
        undo()
        assert blocks(of, "aaaa", fleet(1)) == [1]


class TestForget:
    def test_nothing_of_the_pod_is_left(self) -> None:
        of = index()
        of.record(hashes(of, "aaaabbbb"), address(0))
        of.record(hashes(of, "aaaa"), address(1))
        of.forget(address(0))
        of.forget(address(0))
        of.forget("never seen")
        assert blocks(of, "aaaabbbb", fleet(2)) == [0, 1]
        assert (of.entries, of.hashes_known) == (1, 1)

    def test_slots_are_used_again(self) -> None:
        of = index()
        for round_ in range(50):
            for row in range(4):
                of.record(hashes(of, "aaaa"), address(round_ * 4 + row))
            for row in range(4):
                of.forget(address(round_ * 4 + row))
        of.record(hashes(of, "bbbb"), address(0))
        assert of._slots == 4
        assert blocks(of, "aaaa", fleet(4)) == [0, 0, 0, 0]


class TestNewest:
    def test_it_makes_another_index_forget_in_the_same_order(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("scheduler.prefix.PIECE", 2)
        of, other = index(), index(max_blocks_per_pod=5)
        for text in ("eeee", "aaaabbbbcccc", "dddd", "aaaabbbb"):
            of.record(hashes(of, text), address(0))
        of.record(hashes(of, "ffff"), address(1))()
        pieces = list(of.newest(5))
        assert [(where, len(piece) // 8) for where, piece in pieces] == [(address(0), size) for size in (1, 2, 2)]
        for where, piece in pieces:
            other.record(array("Q", piece), where)
        assert [blocks(other, text, fleet(1))[0] for text in ("aaaabbbbcccc", "dddd", "eeee")] == [3, 1, 1]
        # Oldest first.
        other.record(hashes(other, "xxxxyyyy"), address(0))
        assert [blocks(other, text, fleet(1))[0] for text in ("aaaabbbbcccc", "dddd", "eeee")] == [2, 1, 0]

    def test_what_was_not_touched_in_a_long_time_is_not_looked_at(self) -> None:
        of = index()
        of.record(hashes(of, "aaaa"), address(0))
        for _ in range(2 * TOUCHES_PER_BLOCK):
            of.record(hashes(of, "bbbb"), address(0))
        assert [array("Q", piece).tolist() for _, piece in of.newest(2)] == [hashes(of, "bbbb")]
        both = hashes(of, "bbbb") + hashes(of, "aaaa")
        assert [array("Q", piece).tolist() for _, piece in of.newest(3)] == [both]

    def test_what_is_told_can_be_taken_back(self) -> None:
        of, other = index(), index()
        of.record(hashes(of, "aaaabbbb"), address(0))
        ((where, piece),) = of.newest(10)
        undo = other.record(array("Q", piece), where)
        assert blocks(other, "aaaabbbb", fleet(1)) == [2]
        undo()
        assert other.entries == other.hashes_known == 0


def test_memory_stays_flat() -> None:
    """A small soak; `bench/prefix_soak.py` is the large one."""
    of = index(max_blocks_per_pod=500)
    rng = Random(1)

    def some(count: int) -> None:
        for _ in range(count):
            undo = of.record([rng.getrandbits(64) for _ in range(50)], address(rng.randrange(4)))
            if rng.random() < 0.2:
                undo()
            if rng.random() < 0.02:
                of.forget(address(rng.randrange(4)))

    some(200)
    gc.collect()
    tracemalloc.start()
    try:
        some(200)
        before = tracemalloc.get_traced_memory()[0]
        some(1000)
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert of.entries <= 2000
    assert of.hashes_known <= of.entries
    # What is held now against what was held then: all 2000 entries are less than 600 KB.
    assert after - before < 600_000
