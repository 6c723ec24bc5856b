# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""A unit: some blocks of a prompt that follow each other, and the bytes by which other processes hear of them."""

from struct import iter_unpack, pack, unpack

from xxhash import xxh3_64_intdigest

#: Blocks of a unit. More make long prompts cheaper and short ones, whose last unit is most of them, dearer.
UNIT = 16
#: Bytes of a hash, and of the number before the hashes of a unit.
HASH = 8
#: Of `Unit.data`, by the number of blocks.
_FORMATS = tuple([f"<{count + 1}Q" for count in range(UNIT + 1)])


class Unit:
    """Blocks of a prompt that follow each other, at least one."""

    __slots__ = ("blocks", "count", "data", "first", "name", "size")

    def __init__(self, size: int, blocks: list[int]) -> None:
        #: Bytes of text in each block.
        self.size = size
        #: The hash of each block. The last one names the unit.
        self.blocks = blocks
        self.count = len(blocks)
        self.first = blocks[0]
        self.name = blocks[-1]
        #: `size`, then the hashes, as 64-bit numbers, the low byte first.
        self.data: bytes = pack(_FORMATS[len(blocks)], size, *blocks)


def hashed(text: bytes, size: int, last: int) -> Unit:
    """The unit of a text of whole blocks, behind the block with the hash `last`."""
    return Unit(size, [last := xxh3_64_intdigest(block, last) for (block,) in iter_unpack(f"{size}s", text)])


def size_of(data: bytes) -> int:
    """Bytes of text in a block, out of `Unit.data`."""
    return int.from_bytes(data[:HASH], "little")


def blocks_of(data: bytes) -> list[int]:
    """Hashes out of `Unit.data`."""
    numbers = list(unpack(f"<{len(data) // HASH}Q", data))
    del numbers[0]
    return numbers
