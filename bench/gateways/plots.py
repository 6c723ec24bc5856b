"""Drawing takes matplotlib, which is in aiperf's environment: `draw.py` runs there."""

import subprocess
from pathlib import Path

from engines.environment import environment

HERE = Path(__file__).resolve().parent


def plot(results: Path) -> list[str]:
    """Draws saved results. Gives the names of the files, which are beside them.

    Raises:
        subprocess.CalledProcessError: it failed; it has said why.
    """
    python = environment("aiperf", "aiperf.txt") / "bin" / "python"
    done = subprocess.run([python, HERE / "draw.py", results], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.split()
