"""The prefix index under load: `python bench/prefix_soak.py [--blocks N] [--pods N] [--per-pod N]`.

Inserts 10 million blocks (a fifth of the notes are taken back, pods leave and come back) and prints the memory of the
process and the index's entries as it goes: both must stay flat once the LRUs are full. Then prints bytes a block, and
how long a full collection of garbage takes with a full index, since that stops every stream of the process.
"""

import argparse
import gc
import sys
from multiprocessing import get_context
from pathlib import Path
from random import Random
from time import perf_counter

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scheduler.prefix.index import PrefixIndex
from scheduler.prefix.unit import Unit

#: Blocks of one prompt.
CHAIN = 128
#: What pods have in common. All: they got a prompt within a short time, or, the dearest case, so late or by way of
#: other processes that its hashes were made anew for each.
NONE, SHARED, TOLD = "none shared", "all shared", "all shared, hashed for each"


def resident() -> int:
    """Bytes of memory that the process holds (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def empty(per_pod: int) -> PrefixIndex:
    return PrefixIndex(block_size=64, max_blocks=CHAIN, max_blocks_per_pod=per_pod, seed=1)


def chain(rng: Random, unit: int) -> list[Unit]:
    """The hashes of a prompt that nobody has seen."""
    return [
        Unit(64, [rng.getrandbits(64) for _ in range(start, min(start + unit, CHAIN))])
        for start in range(0, CHAIN, unit)
    ]


def note(units: list[Unit]) -> bytes:
    """What another process is told of units that it does not know."""
    return b"".join([unit.count.to_bytes(8, "little") + unit.data for unit in reversed(units)])


def soak(blocks: int, pods: int, per_pod: int) -> None:
    rng = Random(3)
    index = empty(per_pod)
    inserted, step = 0, blocks // 10
    undo = []
    print(f"{'blocks':>12} {'entries':>10} {'hashes':>10} {'RSS MB':>8}")
    while inserted < blocks:
        undo.append(index.record(chain(rng, index.unit), f"pod-{rng.randrange(pods)}"))
        inserted += CHAIN
        if len(undo) == 50:
            for take_back in rng.sample(undo, 10):
                take_back()
            undo.clear()
        if rng.random() < 0.0002:
            index.forget(f"pod-{rng.randrange(pods)}")
        if inserted // step != (inserted - CHAIN) // step:
            print(f"{inserted:>12} {index.entries:>10} {index.hashes_known:>10} {resident() / 1e6:>8.1f}", flush=True)


def footprint(pods: int, per_pod: int, case: str) -> None:
    rng = Random(5)
    index = empty(per_pod)
    before = resident()
    for _ in range(per_pod // CHAIN + 1):
        common = chain(rng, index.unit)
        data = note(common)
        for pod in range(pods):
            if case == SHARED:
                index.record(common, f"pod-{pod}")
            elif case == TOLD:
                index.record_note(data, f"pod-{pod}")
            else:
                index.record(chain(rng, index.unit), f"pod-{pod}")
    each = (resident() - before) / index.entries
    print(f"{pods} pods x {per_pod} blocks, {case}: {each:.0f} bytes an entry")
    started = perf_counter()
    gc.collect()
    print(f"  a full collection of garbage takes {(perf_counter() - started) * 1000:.0f} ms")
    started = perf_counter()
    index.forget("pod-1")
    print(f"  forgetting one pod takes {(perf_counter() - started) * 1000:.1f} ms", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=10_000_000)
    parser.add_argument("--pods", type=int, default=16)
    parser.add_argument("--per-pod", type=int, default=20_000)
    options = parser.parse_args()
    for pods, case in ((8, NONE), (64, NONE), (64, SHARED), (64, TOLD), (512, SHARED)):
        # Each in a process of its own: memory that one gave back would be hidden in the next one's figure.
        process = get_context("spawn").Process(target=footprint, args=(pods, 4_000_000 // max(pods, 80), case))
        process.start()
        process.join()
    soak(options.blocks, options.pods, options.per_pod)


if __name__ == "__main__":
    main()
