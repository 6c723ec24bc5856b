"""Feeds the HTTP/2 server spoilt bytes: `python bench/fuzz_http2.py [--inputs N] [--seed N]`.

Recorded bytes of Envoy, with frames lost, doubled, moved and added and bytes changed, in random pieces. What must hold
is checked after each: nothing is raised, no limit is passed, every call ends exactly once, nothing is held afterwards.
A failure prints the seed that repeats it. At the end it is told whether memory has grown, and the slowest input.
"""

# ruff: noqa: E402 - the paths come first
import argparse
import gc
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.envoy_bytes import RECORDED
from support.http2_mutations import mutated, run, split

#: Inputs before memory is first looked at: caches and arenas have their size by then.
WARM_UP = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first input")
    options = parser.parse_args()
    parts = split(RECORDED)
    ends: Counter[str] = Counter()
    slowest = (0.0, 0)
    objects = memory = 0
    begun = time.monotonic()
    for number in range(options.inputs):
        seed = options.seed + number
        rng = Random(seed)
        data = mutated(parts, rng)
        cuts = sorted(rng.sample(range(len(data) + 1), min(rng.choice((0, 0, 1, 3, 10)), len(data))))
        started = time.perf_counter()
        try:
            peer, _ = run(data, cuts)
        except BaseException:
            print(f"seed {seed}: {data.hex()} cut at {cuts}", file=sys.stderr)
            raise
        slowest = max(slowest, (time.perf_counter() - started, seed))
        ends[peer.machine.fault or "no fault"] += 1
        if number == WARM_UP:
            gc.collect()
            objects, memory = len(gc.get_objects()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gc.collect()
    seconds = time.monotonic() - begun
    print(f"{options.inputs} inputs in {seconds:.0f} s; the slowest {slowest[0] * 1e3:.1f} ms (seed {slowest[1]})")
    if memory:
        more_objects = len(gc.get_objects()) - objects
        more_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
        print(f"since input {WARM_UP}: {more_objects:+} objects, {more_memory:+} KiB")
    for fault, count in ends.most_common():
        print(f"{count:9} {fault}")


if __name__ == "__main__":
    main()
