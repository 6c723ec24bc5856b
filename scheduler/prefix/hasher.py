# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".
"""From a prompt to its units: which blocks it is cut into, and the hash of each."""

from xxhash import xxh3_64_intdigest

from scheduler.prefix.unit import Unit, hashed
from scheduler.types import Prompt

#: A block behind the head is this part of the text before it, rounded down to a power of two: a match is short of less
#: than 3 % of the prompt, and a prompt of 256 KiB has 160 such blocks.
COARSE = 32
#: Bytes of the least block behind the head.
LEAST_COARSE = 256
#: Units whose hashes are remembered by their text, in each of two generations: the beginnings of a thousand long
#: conversations. 1.5 MB a generation at the most.
REMEMBERED = 4096


class Hasher:
    """Hashes prompts. One thread only.

    Args:
        block_size: bytes of text that one hash of a prompt's head covers.
        max_blocks: blocks of the head.
        unit: blocks of a unit.
        seed: secret of 64 bits; equal seeds make equal hashes.
        remembered: units whose hashes are remembered by their text, in each of two generations.
    """

    def __init__(self, *, block_size: int, max_blocks: int, unit: int, seed: int, remembered: int = REMEMBERED) -> None:
        self.block_size = block_size
        self.max_blocks = max_blocks
        self.unit = unit
        self._seed = seed
        self._remembered = remembered
        #: Units by the hash of their text, which is seeded by the hash of the block before it.
        self._seen: dict[int, Unit] = {}
        self._seen_before: dict[int, Unit] = {}

    def reseed(self, seed: int) -> None:
        """Another secret: what was hashed with the one before is found no more."""
        self._seed = seed
        self._seen, self._seen_before = {}, {}

    def hashes(self, model: str, prompt: Prompt) -> tuple[list[Unit], float]:
        """Hashes of the prompt's full blocks, in units, and the share (0-1) of the prompt's text that they cover.

        A prompt remembers its hashes: when its text is gone, they can still be asked for.
        """
        known = prompt.memory.get(self)
        if known is not None and known[0] == model and known[1] == self._seed:
            units: list[Unit] = known[2]
            share: float = known[3]
            return units, share
        whole = prompt.text()
        # Where characters are bytes, they are encoded piece by piece: that stays within the processor's caches.
        text: str | bytes = whole if whole.isascii() else whole.encode("utf-8", "surrogatepass")
        units, covered = self._cut(model, text, len(text))
        span = covered / len(text) if covered else 0.0
        prompt.memory[self] = (model, self._seed, units, span)
        return units, span

    def _cut(self, model: str, text: str | bytes, total: int) -> tuple[list[Unit], int]:
        last = xxh3_64_intdigest(model.encode("utf-8", "surrogatepass"), self._seed)
        units: list[Unit] = []
        seen = self._seen
        size, unit_blocks = self.block_size, self.unit
        head = size * self.max_blocks
        start = 0
        while True:
            blocks = unit_blocks
            if start >= head:
                size = max(1 << (start.bit_length() - 1), LEAST_COARSE * COARSE, self.block_size * COARSE) // COARSE
            elif start + size * blocks > head:
                blocks = (head - start) // size
            end = start + size * blocks
            if end > total:
                break
            part = _bytes(text[start:end])
            start = end
            # Seeded like the blocks' own hashes, and as hard to guess.
            key = xxh3_64_intdigest(part, last)
            unit = seen.get(key)
            if unit is None:
                unit = self._seen_before.get(key) or hashed(part, size, last)
                if len(seen) >= self._remembered:
                    self._seen_before = seen
                    seen = self._seen = {}
                seen[key] = unit
            units.append(unit)
            last = unit.name
        end = total - (total - start) % size
        if start < end:
            units.append(hashed(_bytes(text[start:end]), size, last))
            start = end
        return units, start


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
