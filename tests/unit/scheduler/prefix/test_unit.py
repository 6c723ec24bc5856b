from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from scheduler.prefix.unit import UNIT, Unit, blocks_of, hashed, size_of

hashes = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=UNIT)


@given(st.integers(1, 2**32), hashes)
def test_its_bytes_hold_its_size_and_its_blocks(size: int, blocks: list[int]) -> None:
    unit = Unit(size, blocks)
    assert (size_of(unit.data), blocks_of(unit.data)) == (size, blocks)
    assert (unit.first, unit.name, unit.count) == (blocks[0], blocks[-1], len(blocks))


def test_each_hash_is_seeded_by_the_one_before() -> None:
    unit = hashed(b"aaaabbbb", 4, 7)
    first = xxh3_64_intdigest(b"aaaa", 7)
    assert unit.blocks == [first, xxh3_64_intdigest(b"bbbb", first)]
    assert unit.size == 4
