"""Runs the integration tests beside processes that do nothing but compute: `make busy`.

Tests that wait for events pass on a machine that is busy; those that wait for time do not. Eight loops on two cores leave
a test a fifth of a core. The loops end with this script, and by themselves after `LONGEST` seconds.

    python tests/beside_busy_loops.py [--loops 8] [--times 3] [PATH …]
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Seconds. A loop that its parent lost ends then.
LONGEST = 3 * 3600
LOOP = f"""
import os, time
parent, end = os.getppid(), time.monotonic() + {LONGEST}
while os.getppid() == parent and time.monotonic() < end:
    sum(range(100_000))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loops", type=int, default=8)
    parser.add_argument("--times", type=int, default=3, help="in a row")
    parser.add_argument("paths", nargs="*", default=["tests/integration"])
    options = parser.parse_args()
    print(f"{options.loops} busy loops on {os.cpu_count()} cores", flush=True)
    loops = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(options.loops)]
    try:
        for number in range(1, options.times + 1):
            command = [sys.executable, "-m", "pytest", "-q", *options.paths]
            code = subprocess.run(command, cwd=ROOT, check=False).returncode
            print(f"run {number} of {options.times}: {'failed' if code else 'passed'}", flush=True)
            if code:
                sys.exit(code)
    finally:
        for loop in loops:
            loop.kill()
        for loop in loops:
            loop.wait()


if __name__ == "__main__":
    main()
