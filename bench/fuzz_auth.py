"""Feeds the authenticator spoilt headers and key sets: `python bench/fuzz_auth.py [--inputs N] [--seed N]`.

Every valid and hostile token of the tests, with bytes changed, lost, added and exchanged; headers and claims changed
and signed again; key sets changed. What must hold is checked after each: a documented refusal with its status, or a
token that PyJWT finds genuine, too. A failure prints the seed and the input. At the end it is told how often each
verdict came, whether memory has grown, and the slowest input.
"""

# ruff: noqa: E402 - the paths come first
import argparse
import gc
import resource
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.token_mutations import authenticator, check, input_of

#: Inputs before memory is first looked at: the caches of verdicts are full by then.
WARM_UP = 400_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first input")
    options = parser.parse_args()
    auth = authenticator()
    verdicts: Counter[str] = Counter()
    slowest = (0.0, 0)
    objects = memory = 0
    begun = time.monotonic()
    for seed in range(options.seed, options.seed + options.inputs):
        given = input_of(seed)
        started = time.perf_counter()
        try:
            verdicts[check(auth, given)] += 1
        except BaseException:
            print(f"seed {seed}: {given!r}", file=sys.stderr)
            raise
        slowest = max(slowest, (time.perf_counter() - started, seed))
        if seed - options.seed == WARM_UP:
            gc.collect()
            objects, memory = len(gc.get_objects()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gc.collect()
    seconds = time.monotonic() - begun
    print(f"{options.inputs} inputs in {seconds:.0f} s; the slowest {slowest[0] * 1e3:.1f} ms (seed {slowest[1]})")
    if memory:
        more_objects = len(gc.get_objects()) - objects
        more_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
        print(f"since input {WARM_UP}: {more_objects:+} objects, {more_memory:+} KiB")
    for verdict, count in verdicts.most_common():
        print(f"{count:9} {verdict}")


if __name__ == "__main__":
    main()
