"""Virtual environments for packages that must not be in the gateway's own."""

import hashlib
import subprocess
import sys
import time
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
REQUIREMENTS = BENCH.parent / "requirements"


def environment(name: str, requirements: str) -> Path:
    """The folder `bench/.venv-NAME`, made if it is not there, with what `requirements/FILE` pins, no more and no less.

    Raises:
        subprocess.CalledProcessError: pip failed; it has said why.
    """
    folder = BENCH / f".venv-{name}"
    pins = REQUIREMENTS / requirements
    stamp = folder / ".installed"
    digest = hashlib.sha256(pins.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != digest:
        print(f"installing {pins.name} into {folder} …", file=sys.stderr)
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        # For every tool that reads it: nothing in here is ours.
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
        python, quietly = str(folder / "bin" / "python"), ("--quiet", "--disable-pip-version-check", "--no-deps")
        subprocess.run([python, "-m", "pip", "install", *quietly, "-r", str(pins)], check=True)
        stamp.write_text(digest, encoding="utf-8")
        print(f"installed in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return folder
