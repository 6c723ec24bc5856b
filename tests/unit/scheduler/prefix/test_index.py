import contextlib
import gc
import tracemalloc
from array import array
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.snapshots import P, address, snapshot

from scheduler.prefix.index import BLOCKS_PER_POD, TOUCHES_PER_UNIT, PrefixIndex
from scheduler.prefix.unit import Unit
from scheduler.types import Prompt, Snapshot


def index(**changes: int) -> PrefixIndex:
    settings = {"block_size": 4, "max_blocks": 8, "max_blocks_per_pod": 100, "seed": 1, **changes}
    return PrefixIndex(**settings)


def chain(of: PrefixIndex, text: str, model: str = "m") -> list[Unit]:
    return of.hasher.hashes(model, Prompt([text]))[0]


def hashes(of: PrefixIndex, text: str, model: str = "m") -> list[list[int]]:
    """Of each block, by unit."""
    return [unit.blocks for unit in chain(of, text, model)]


def made(*hashes: int, size: int = 4) -> Unit:
    return Unit(size, list(hashes))


def note(*units: Unit) -> bytes:
    """What another process is told of units that it does not know."""
    return b"".join([unit.count.to_bytes(8, "little") + unit.data for unit in reversed(units)])


def fleet(count: int) -> Snapshot:
    return snapshot(*[P()] * count)


def blocks(of: PrefixIndex, text: str, pods: Snapshot) -> list[float]:
    """Matched blocks per pod."""
    units = chain(of, text)
    return [round(share * sum(unit.count for unit in units), 6) for share in of.match(units, pods).tolist()]


def names(data: bytes) -> list[int]:
    """The last hash of each packed unit."""
    numbers = array("Q", data).tolist()
    found, end = [], 0
    while end < len(numbers):
        end += numbers[end] + 2
        found.append(numbers[end - 1])
    return found


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
        assert of.hasher.hashes("m", Prompt(["aaaabbbbc"]))[1] == pytest.approx(8 / 9)
        assert of.hasher.hashes("m", Prompt(["aaa"])) == ([], 0.0)
        assert of.hasher.hashes("m", Prompt()) == ([], 0.0)

    def test_models_and_seeds_differ(self) -> None:
        of = index()
        assert hashes(of, "aaaa", "m") != hashes(of, "aaaa", "n")
        assert hashes(of, "aaaa") != hashes(index(seed=2), "aaaa")
        assert hashes(of, "aaaa") == hashes(index(), "aaaa")

    def test_blocks_behind_the_head_grow_with_what_is_before_them(self) -> None:
        of = index(block_size=64, max_blocks=128, max_blocks_per_pod=50_000)
        units, span = of.hasher.hashes("m", Prompt(["x" * 300_000]))
        at, sizes = 0, []
        for unit in units:
            sizes.append(unit.size)
            assert unit.size == 64 if at < 8192 else at / 64 < unit.size <= at / 32
            at += unit.size * unit.count
        assert sizes == sorted(sizes)
        assert 300_000 - sizes[-1] < at <= 300_000
        assert span == at / 300_000
        assert sum(unit.count for unit in units) < 128 + 180

    def test_hashes_outlive_the_text(self) -> None:
        of, prompt = index(), Prompt(["aaaa", "bbbb"])
        before = of.hasher.hashes("m", prompt)
        prompt.drop_text()
        assert of.hasher.hashes("m", prompt) == before
        assert index().hasher.hashes("m", prompt) == ([], 0.0)

    def test_the_span_counts_bytes(self) -> None:
        # 20 of 22 bytes.
        assert index().hasher.hashes("m", Prompt(["é" * 11]))[1] == pytest.approx(20 / 22)

    def test_surrogates_do_no_harm(self) -> None:
        of = index(max_blocks=1)
        units, span = of.hasher.hashes("\ud800", Prompt(["\ud800" * 4]))
        assert len(units) == 1
        assert 0 <= span <= 1

    @pytest.mark.parametrize(
        ("per_pod", "unit"), [(1, 1), (127, 1), (128, 2), (1023, 15), (1024, 16), (1025, 16), (1 << 20, 16)]
    )
    def test_small_memories_have_small_units(self, per_pod: int, unit: int) -> None:
        of = index(max_blocks=40, max_blocks_per_pod=per_pod)
        assert of.unit == unit
        sizes = [len(one) for one in hashes(of, "".join(f"{n:4}" for n in range(40)))]
        assert sizes == [*[unit] * (40 // unit), *([40 % unit] if 40 % unit else [])]

    def test_units_change_no_hash(self) -> None:
        text = "".join(f"{n:4}" for n in range(40))
        flat = [unit[0] for unit in hashes(index(max_blocks=40), text)]
        of = index(max_blocks=40, max_blocks_per_pod=1024)
        for _ in range(2):
            assert [block for unit in hashes(of, text) for block in unit] == flat
        # Same text after another beginning.
        other = [block for unit in hashes(of, "xxxx" * 16 + text[64:]) for block in unit]
        assert not set(other) & set(flat)

    def test_known_beginnings_are_not_hashed_again(self) -> None:
        of = index(max_blocks=16, max_blocks_per_pod=256, remembered=2)
        first = chain(of, "a" * 16 + "b" * 16 + "c" * 16 + "d" * 4)
        again = chain(of, "a" * 16 + "b" * 16 + "c" * 16 + "d" * 4)
        assert [one is other for one, other in zip(first, again, strict=True)] == [True, True, True, False]
        # What is in use outlives what comes once.
        for n in range(20):
            assert chain(of, "a" * 16 + f"{n:16}")[0] is first[0]
        assert chain(of, "a" * 16 + "b" * 16)[1] is not first[1]

    def test_another_secret_makes_other_hashes(self) -> None:
        of = index(max_blocks_per_pod=256)
        before = hashes(of, "a" * 16)
        of.reseed(2)
        assert hashes(of, "a" * 16) == hashes(index(max_blocks_per_pod=256, seed=2), "a" * 16) != before


class TestMatch:
    @pytest.mark.parametrize("count", [3, 40])
    def test_one_snapshot_again_and_again(self, count: int) -> None:
        of, pods = index(), fleet(count)
        of.record(chain(of, "aaaa"), address(0))
        assert blocks(of, "aaaa", pods) == blocks(of, "aaaa", pods) == [1] + [0] * (count - 1)
        # Of pods that got or lost their place in the index since.
        of.record(chain(of, "aaaa"), address(2))
        of.forget(address(0))
        assert blocks(of, "aaaa", pods) == [0, 0, 1] + [0] * (count - 3)

    def test_an_empty_index_matches_nothing(self) -> None:
        of = index()
        assert blocks(of, "aaaabbbb", fleet(3)) == [0, 0, 0]
        assert of.match([], fleet(2)).tolist() == [0, 0]

    def test_the_longest_prefix_of_each_pod(self) -> None:
        of = index()
        for row, text in enumerate(["aaaa", "aaaabbbb", "aaaabbbbccccdddd", "xxxxbbbb"]):
            of.record(chain(of, text), address(row))
        assert blocks(of, "aaaabbbbcccc", fleet(5)) == [1, 2, 3, 0, 0]

    def test_without_the_first_block_there_is_no_prefix(self) -> None:
        of = index()
        units = chain(of, "aaaabbbbcccc")
        of.record(units[:1], address(0))
        of.record(units[1:], address(1))
        assert blocks(of, "aaaabbbbcccc", fleet(2)) == [1, 0]

    @pytest.mark.parametrize("count", [3, 15, 16, 64, 65, 512])
    def test_many_pods_at_many_lengths(self, count: int) -> None:
        of = index()
        for row in range(count):
            of.record(chain(of, "abcdefgh"[: row % 9] and "".join(c * 4 for c in "abcdefgh"[: row % 9])), address(row))
        wanted = [float(row % 9) for row in range(count)]
        assert blocks(of, "".join(c * 4 for c in "abcdefgh"), fleet(count)) == wanted

    @pytest.mark.parametrize("per_pod", [100, 256, 512])
    def test_at_every_length(self, per_pod: int) -> None:
        of = index(max_blocks=24, max_blocks_per_pod=per_pod)
        text = "".join(f"{n:4}" for n in range(24))
        for row in range(25):
            of.record(chain(of, text[: 4 * row]), address(row))
        for length in range(1, 25):
            wanted = [float(min(row, length)) for row in range(26)]
            wanted[25] = 0
            assert blocks(of, text[: 4 * length], fleet(26)) == wanted

    def test_paths_that_part_within_a_unit(self) -> None:
        of = index(max_blocks_per_pod=256)
        of.record(chain(of, "aaaabbbbccccdddd"), address(0))
        of.record(chain(of, "aaaabbbbxxxx"), address(1))
        assert blocks(of, "aaaabbbbccccyyyy", fleet(3)) == [3, 2, 0]

    def test_what_is_behind_a_gap_may_count(self) -> None:
        of = index(max_blocks_per_pod=256)
        ((first, _, _, fourth),) = hashes(of, "aaaabbbbccccdddd")
        of.record([made(first), made(fourth)], address(0))
        # It was sent the fourth block, so it was sent those before.
        assert blocks(of, "aaaabbbbccccdddd", fleet(1)) == [4]
        assert blocks(of, "aaaabbbbcccc", fleet(1)) == [1]

    def test_a_snapshot_outlives_slots(self) -> None:
        of, pods = index(), fleet(2)
        assert blocks(of, "aaaa", pods) == [0, 0]
        of.record(chain(of, "aaaa"), address(1))
        assert blocks(of, "aaaa", pods) == [0, 1]
        of.forget(address(1))
        of.record(chain(of, "aaaa"), address(0))
        assert blocks(of, "aaaa", pods) == [1, 0]


class TestBound:
    def test_a_short_prefix_outlives_its_extension(self) -> None:
        of = index(max_blocks_per_pod=3)
        of.record(chain(of, "aaaabbbbccccdddd"), address(0))
        assert blocks(of, "aaaabbbbccccdddd", fleet(1)) == [3]
        of.record(chain(of, "xxxx"), address(0))
        assert blocks(of, "aaaabbbbcccc", fleet(1)) == [2]
        assert of.entries == 3

    def test_what_was_touched_last_stays(self) -> None:
        of = index(max_blocks_per_pod=2)
        for text in ("aaaa", "bbbb", "aaaa", "cccc"):
            of.record(chain(of, text), address(0))
        assert [blocks(of, text, fleet(1))[0] for text in ("aaaa", "bbbb", "cccc")] == [1, 0, 1]

    def test_what_was_not_touched_in_a_long_time_goes(self) -> None:
        of = index(max_blocks_per_pod=2)
        for text in ("aaaa", *["bbbb"] * 7):
            of.record(chain(of, text), address(0))
        assert blocks(of, "aaaa", fleet(1)) == [1]
        of.record(chain(of, "bbbb"), address(0))
        assert [blocks(of, text, fleet(1))[0] for text in ("aaaa", "bbbb")] == [0, 1]

    def test_the_same_blocks_again_and_again_take_no_more_memory(self) -> None:
        of = index(max_blocks_per_pod=10)
        for _ in range(1000):
            of.record(chain(of, "aaaabbbbcccc"), address(0))
            assert len(of._shelves[address(0)].touches) <= (TOUCHES_PER_UNIT + 1) * 10 + 3
        assert blocks(of, "aaaabbbbcccc", fleet(1)) == [3]

    def test_whole_units_go(self) -> None:
        of = index(max_blocks=12, max_blocks_per_pod=256)
        text = "".join(f"{n:4}" for n in range(10))
        for n in range(63):
            of.record(chain(of, f"{n:4}" * 4), address(0))
        of.record(chain(of, text), address(0))
        assert of.entries == 254
        # Room for two blocks by one unit of four that was touched before.
        of.record(chain(of, "xxxx" * 4), address(0))
        assert of.entries == 254
        assert blocks(of, f"{2:4}" * 4, fleet(1)) == [0]
        assert blocks(of, f"{3:4}" * 4, fleet(1)) == [4]
        assert blocks(of, text, fleet(1)) == [10]

    def test_blocks_that_several_units_hold_go_with_the_last(self) -> None:
        of = index(max_blocks_per_pod=256)
        undo = [of.record(chain(of, text), address(0)) for text in ("aaaa", "aaaabbbb", "aaaabbbbcccc", "aaaaxxxx")]
        assert (of.entries, of.hashes_known) == (4, 4)
        undo[2]()
        assert blocks(of, "aaaabbbbcccc", fleet(1)) == [2]
        undo[1]()
        assert blocks(of, "aaaabbbbcccc", fleet(1)) == [1]
        undo[0]()
        assert blocks(of, "aaaaxxxx", fleet(1)) == [2]
        undo[3]()
        assert (of.entries, of.hashes_known) == (0, 0)
        assert not of._shelves[address(0)].more

    def test_a_prompt_of_more_than_all_that_fits(self) -> None:
        of = index(max_blocks=600, max_blocks_per_pod=256)
        text = "".join(f"{n:4}" for n in range(600))
        of.record(chain(of, text), address(0))
        assert blocks(of, text, fleet(1)) == [256]

    def test_each_pod_has_its_own(self) -> None:
        of = index(max_blocks_per_pod=1)
        of.record(chain(of, "aaaa"), address(0))
        of.record(chain(of, "aaaa"), address(1))
        of.record(chain(of, "bbbb"), address(1))
        assert blocks(of, "aaaa", fleet(2)) == [1, 0]
        assert (of.entries, of.hashes_known) == (2, 2)


class TestUndo:
    def test_what_only_this_pick_added_goes(self) -> None:
        of = index()
        of.record(chain(of, "aaaa"), address(0))
        undo = of.record(chain(of, "aaaabbbb"), address(0))
        of.record(chain(of, "aaaabbbb"), address(1))
        undo()
        assert blocks(of, "aaaabbbb", fleet(2)) == [1, 2]

    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    def test_what_another_pick_relies_on_stays(self, order: tuple[int, int]) -> None:
        of = index()
        undo = [of.record(chain(of, "aaaabbbb"), address(0)) for _ in range(2)]
        undo[order[0]]()
        assert blocks(of, "aaaabbbb", fleet(1)) == [2]
        undo[order[1]]()
        assert blocks(of, "aaaabbbb", fleet(1)) == [0]
        assert (of.entries, of.hashes_known) == (0, 0)

    def test_after_eviction_it_finds_nothing(self) -> None:
        of = index(max_blocks_per_pod=1)
        undo = of.record(chain(of, "aaaa"), address(0))
        of.record(chain(of, "bbbb"), address(0))
        undo()
        assert blocks(of, "bbbb", fleet(1)) == [1]

    def test_after_a_restart_it_does_not_reach_the_new_engine(self) -> None:
        of = index()
        undo = of.record(chain(of, "aaaa"), address(0))
        of.forget(address(0))
        of.record(chain(of, "aaaa"), address(0))
        undo()
        assert blocks(of, "aaaa", fleet(1)) == [1]


class TestForget:
    def test_nothing_of_the_pod_is_left(self) -> None:
        of = index()
        of.record(chain(of, "aaaabbbb"), address(0))
        of.record(chain(of, "aaaa"), address(1))
        of.forget(address(0))
        of.forget(address(0))
        of.forget("never seen")
        assert blocks(of, "aaaabbbb", fleet(2)) == [0, 1]
        assert (of.entries, of.hashes_known) == (1, 1)

    def test_slots_are_used_again(self) -> None:
        of = index()
        for round_ in range(50):
            for row in range(4):
                of.record(chain(of, "aaaa"), address(round_ * 4 + row))
            for row in range(4):
                of.forget(address(round_ * 4 + row))
        of.record(chain(of, "bbbb"), address(0))
        assert of._slots == 4
        assert blocks(of, "aaaa", fleet(4)) == [0, 0, 0, 0]

    def test_another_secret_leaves_nothing_of_any(self) -> None:
        of = index()
        for row in range(2):
            of.record(chain(of, "aaaabbbb"), address(row))
        of.reseed(2)
        assert blocks(of, "aaaabbbb", fleet(2)) == [0, 0]
        assert (of.entries, of.hashes_known) == (0, 0)


class TestNewest:
    def test_it_makes_another_index_forget_in_the_same_order(self) -> None:
        of, other = index(piece=2), index(max_blocks_per_pod=5)
        for text in ("eeee", "aaaabbbbcccc", "dddd", "aaaabbbb"):
            of.record(chain(of, text), address(0))
        of.record(chain(of, "ffff"), address(1))()
        pieces = list(of.newest(5))
        assert [(where, len(names(piece))) for where, piece in pieces] == [(address(0), size) for size in (1, 2, 2)]
        for where, piece in pieces:
            other.record_note(piece, where)
        assert [blocks(other, text, fleet(1))[0] for text in ("aaaabbbbcccc", "dddd", "eeee")] == [3, 1, 1]
        # Oldest first.
        other.record(chain(other, "xxxxyyyy"), address(0))
        assert [blocks(other, text, fleet(1))[0] for text in ("aaaabbbbcccc", "dddd", "eeee")] == [2, 1, 0]

    def test_what_was_not_touched_in_a_long_time_is_not_looked_at(self) -> None:
        of = index()
        of.record(chain(of, "aaaa"), address(0))
        for _ in range(2 * TOUCHES_PER_UNIT):
            of.record(chain(of, "bbbb"), address(0))
        assert [names(piece) for _, piece in of.newest(2)] == [[hashes(of, "bbbb")[0][0]]]
        both = [hashes(of, text)[0][0] for text in ("aaaa", "bbbb")]
        assert [names(piece) for _, piece in of.newest(3)] == [both]

    def test_no_more_blocks_than_asked_for(self) -> None:
        # A piece of less than a unit is of one unit.
        of, other = index(max_blocks_per_pod=256, piece=3), index(max_blocks_per_pod=256)
        text = "aaaabbbbccccddddeeeeffff"
        of.record(chain(of, text), address(0))
        assert list(of.newest(3)) == []
        assert [names(piece) for _, piece in of.newest(5)] == [[hashes(of, text)[0][-1]]]
        pieces = list(of.newest(6))
        assert [names(piece) for _, piece in pieces] == [[unit[-1]] for unit in reversed(hashes(of, text))]
        for where, piece in pieces:
            other.record_note(piece, where)
        assert blocks(other, text, fleet(1)) == [6]

    def test_a_pod_that_leaves_meanwhile(self) -> None:
        of = index()
        for row in range(2):
            of.record(chain(of, "aaaa"), address(row))
        told = of.newest(10)
        assert next(told)[0] == address(0)
        of.forget(address(1))
        assert list(told) == []


class TestPacked:
    @pytest.mark.parametrize("per_pod", [100, 256])
    def test_it_is_recorded_as_the_units_are(self, per_pod: int) -> None:
        of = index(max_blocks_per_pod=per_pod)
        undo = of.record_note(note(*chain(of, "aaaabbbbccccddddeeee")), address(0))
        assert blocks(of, "aaaabbbbccccddddeeee", fleet(1)) == [5]
        # Of what is known, and of what is new behind it.
        longer = of.record_note(note(*chain(of, "aaaabbbbccccddddeeeeffff")), address(0))
        assert blocks(of, "aaaabbbbccccddddeeeeffff", fleet(1)) == [6]
        assert (of.entries, of.hashes_known) == (6, 6)
        undo()
        assert blocks(of, "aaaabbbbccccddddeeeeffff", fleet(1)) == [6]
        longer()
        assert (of.entries, of.hashes_known) == (0, 0)

    def test_nothing_is_nothing(self) -> None:
        of = index()
        of.record_note(b"", address(0))()
        assert of.entries == 0

    @pytest.mark.parametrize(
        "data",
        [
            b"1234567",
            array("Q", [1]),
            array("Q", [0]),
            array("Q", [1, 0, 5]),
            array("Q", [1, 4, 5, 2, 4, 6]),
            array("Q", [1, 4, 5, 1 << 63, 6]),
        ],
    )
    def test_what_is_no_such_thing_changes_nothing(self, data: bytes) -> None:
        of = index()
        with pytest.raises(ValueError, match="bytes|unit of blocks"):
            of.record_note(bytes(data), address(0))
        assert of.entries == 0

    @given(st.binary(max_size=80), st.lists(st.integers(0, 4), max_size=12))
    def test_whatever_comes_the_books_are_right(self, data: bytes, numbers: list[int]) -> None:
        of = index()
        undo = []
        for one in (data, array("Q", numbers).tobytes()):
            with contextlib.suppress(ValueError):
                undo.append(of.record_note(one, address(0)))
        of.record(chain(of, "aaaa"), address(0))
        for take_back in undo:
            take_back()
        assert blocks(of, "aaaa", fleet(1)) == [1]
        of.forget(address(0))
        assert of.entries == 0

    def test_nothing_is_told_twice(self) -> None:
        of, other = index(max_blocks=16, max_blocks_per_pod=256), index(max_blocks=16, max_blocks_per_pod=256)
        turns = ["aaaabbbbccccdddd" * turn for turn in (1, 2, 3)]
        sizes = []
        for text in turns:
            news = of.news(chain(of, text), address(0))
            of.record(chain(of, text), address(0))
            other.record_note(news, address(0))
            sizes.append(len(news))
            assert blocks(other, text, fleet(1)) == blocks(of, text, fleet(1)) == [len(text) / 4]
        # 48 bytes for a new unit of four blocks, 16 for the name of one that is known.
        assert sizes == [48, 48 + 16, 48 + 2 * 16]

    def test_a_name_that_means_nothing_here_is_left_out(self) -> None:
        of, other = index(max_blocks_per_pod=256), index(max_blocks_per_pod=256)
        of.record(chain(of, "aaaabbbbccccdddd"), address(0))
        news = of.news(chain(of, "aaaabbbbccccddddeeee"), address(0))
        other.record_note(news, address(0))()
        assert blocks(other, "aaaabbbbccccddddeeee", fleet(1)) == [0]
        assert other.entries == 0


class TestFolded:
    """Units of which only the ends are in the dictionaries until more of them is asked for."""

    TEXT = "".join(f"{n:4}" for n in range(16))

    def known(self, of: PrefixIndex) -> int:
        return sum(map(len, of._holders))

    def test_ends_alone_at_first(self) -> None:
        of = index(max_blocks=16, max_blocks_per_pod=1024)
        of.record(chain(of, self.TEXT), address(0))
        of.record(chain(of, self.TEXT), address(1))
        assert (self.known(of), of.entries, of.hashes_known) == (2, 32, 16)
        assert blocks(of, self.TEXT, fleet(3)) == [16, 16, 0]
        assert self.known(of) == 2

    def test_a_prompt_that_ends_within(self) -> None:
        of = index(max_blocks=16, max_blocks_per_pod=1024)
        of.record(chain(of, self.TEXT), address(0))
        assert blocks(of, self.TEXT[:20], fleet(2)) == [5, 0]
        assert (self.known(of), of.entries, of.hashes_known) == (16, 16, 16)

    def test_a_pod_that_holds_what_is_before_it_alone(self) -> None:
        of = index(max_blocks=32, max_blocks_per_pod=1024)
        longer = self.TEXT + self.TEXT[::-1]
        of.record(chain(of, longer), address(0))
        of.record(chain(of, self.TEXT), address(1))
        assert blocks(of, longer, fleet(3)) == [32, 16, 0]
        assert (self.known(of), of.entries, of.hashes_known) == (4, 48, 32)

    def test_all_pods_that_hold_it_know_it_when_unfolded(self) -> None:
        of = index(max_blocks=16, max_blocks_per_pod=1024)
        undo = [of.record(chain(of, self.TEXT), address(row)) for row in range(2)]
        assert blocks(of, self.TEXT[:20], fleet(3)) == [5, 5, 0]
        assert (self.known(of), of.entries, of.hashes_known) == (16, 32, 16)
        undo[0]()
        assert blocks(of, self.TEXT[:20], fleet(3)) == [0, 5, 0]
        undo[1]()
        assert (self.known(of), of.entries, of.hashes_known, of._folded) == (0, 0, 0, {})

    def test_a_unit_that_begins_alike_on_another_pod(self) -> None:
        of = index(max_blocks=16, max_blocks_per_pod=1024)
        undo = of.record(chain(of, self.TEXT), address(0))
        of.record(chain(of, self.TEXT[:20] + "x" * 44), address(1))
        assert blocks(of, self.TEXT, fleet(2)) == [16, 5]
        assert (of.entries, of.hashes_known) == (32, 27)
        undo()
        assert blocks(of, self.TEXT, fleet(2)) == [0, 5]
        assert (of.entries, of.hashes_known) == (16, 16)

    def test_it_goes_with_the_last_pod(self) -> None:
        of = index(max_blocks=16, max_blocks_per_pod=1024)
        undo = [of.record(chain(of, self.TEXT), address(row)) for row in range(2)]
        undo[0]()
        assert blocks(of, self.TEXT, fleet(2)) == [0, 16]
        of.forget(address(1))
        assert (self.known(of), of.entries, of.hashes_known, of._folded) == (0, 0, 0, {})

    # A process with another `max_blocks_per_pod` cuts prompts elsewhere: what ends a unit here is within one of its.

    def test_one_that_another_process_cuts_elsewhere(self) -> None:
        of = index(max_blocks=16, max_blocks_per_pod=1024)
        here, there = [made(1, 2, 3, 4)], [made(1, 2, 3), made(4, 5, 6)]
        undo = of.record(here, address(0))
        told = of.record_note(note(*there), address(1))
        assert of.match(here, fleet(3)).tolist() == [1, 1, 0]
        assert of.match(there, fleet(3)).tolist() == [pytest.approx(4 / 6), 1, 0]
        assert (of.entries, of.hashes_known) == (10, 6)
        told()
        assert of.match(here, fleet(2)).tolist() == [1, 0]
        assert (of.entries, of.hashes_known) == (4, 4)
        undo()
        assert (self.known(of), of.entries, of.hashes_known, of._folded) == (0, 0, 0, {})

    def test_one_whose_last_block_the_pod_holds_already(self) -> None:
        of = index(max_blocks=16, max_blocks_per_pod=1024)
        # What came before these is not known here, and was left out.
        told = of.record_note(note(made(4, 5, 6)), address(0))
        here = [made(1, 2, 3, 4)]
        undo = of.record(here, address(0))
        assert of.match(here, fleet(2)).tolist() == [1, 0]
        # The block that both have counts once, and stays with the one that is left.
        assert (of.entries, of.hashes_known) == (6, 6)
        told()
        assert of.match(here, fleet(2)).tolist() == [1, 0]
        assert (of.entries, of.hashes_known) == (4, 4)
        undo()
        assert (self.known(of), of.entries, of.hashes_known, of._folded) == (0, 0, 0, {})


class TestRoom:
    """How much a pod is taken to hold follows the size of its KV cache."""

    def text(self, number: int, size: int) -> str:
        return chr(97 + number) * size

    def test_text_is_bounded_by_the_caches_size(self) -> None:
        of = index(max_blocks_per_pod=256)
        of.set_room(address(0), 500)
        for number in range(4):
            for row in range(2):
                of.record(chain(of, self.text(number, 400)), address(row))
        assert [blocks(of, self.text(number, 400), fleet(2))[0] > 0 for number in range(4)] == [
            False,
            False,
            True,
            True,
        ]
        assert all(blocks(of, self.text(number, 400), fleet(2))[1] > 0 for number in range(4))

    def test_what_is_told_again_changes_nothing(self) -> None:
        of = index()
        for _ in range(2):
            of.set_room(address(0), 8)
            of.record(chain(of, "aaaabbbbcccc"), address(0))
            assert blocks(of, "aaaabbbbcccc", fleet(1)) == [2]
        of.set_room(address(1), 0)
        assert of.entries == 2

    def test_it_may_shrink_and_be_unknown_again(self) -> None:
        of = index()
        of.record(chain(of, "aaaabbbbcccc"), address(0))
        of.set_room(address(0), 8)
        assert blocks(of, "aaaabbbbcccc", fleet(1)) == [2]
        of.set_room(address(0), 0)
        of.record(chain(of, "aaaabbbbcccc"), address(0))
        assert blocks(of, "aaaabbbbcccc", fleet(1)) == [3]

    def test_left_out_the_number_of_blocks_follows_as_well(self) -> None:
        of = PrefixIndex(block_size=4, max_blocks=8, seed=1)
        of.set_room(address(0), 400_000)
        of.record(chain(of, "aaaa"), address(0))
        of.record(chain(of, "aaaa"), address(1))
        assert of._shelves[address(0)].max_fine == 100_001
        assert of._shelves[address(1)].max_fine == BLOCKS_PER_POD

    def test_a_written_number_holds_whatever_the_engine_tells(self) -> None:
        of = index(max_blocks_per_pod=2)
        of.set_room(address(0), 400_000)
        of.record(chain(of, "aaaabbbbcccc"), address(0))
        assert of.entries == 2


def test_memory_stays_flat() -> None:
    """A small soak; `bench/prefix_soak.py` is the large one."""
    of = index(max_blocks_per_pod=500)
    rng = Random(1)

    def some(count: int) -> None:
        for _ in range(count):
            flat = [rng.getrandbits(64) for _ in range(50)]
            units = [made(*flat[start : start + of.unit]) for start in range(0, 50, of.unit)]
            undo = of.record(units, address(rng.randrange(4)))
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
