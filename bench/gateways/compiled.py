"""The gateway as its image has it, its request path compiled: made by `make compiled` where that is out of date."""

import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "compiled"


@cache
def obstacle() -> str:
    """Why there is no compiled build; empty: there is one."""
    done = subprocess.run(
        ["make", "--no-print-directory", "compiled"],
        check=False,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if not done.returncode:
        return ""
    lines = [line for line in done.stderr.splitlines() if line and not line.startswith("make: ")]
    return lines[-1].removeprefix("make compiled: ") if lines else "make compiled failed"


def said() -> str:
    """For the line that describes a measurement."""
    why = obstacle()
    return f"infer-gateway not compiled: {why}" if why else f"infer-gateway compiled by mypyc {version('mypy')}"


def environment(compiled: bool) -> dict[str, str]:
    """What makes a Python process use the compiled build, or the source whatever this process uses."""
    return {"PYTHONPATH": str(FOLDER), "PYTHONSAFEPATH": "1"} if compiled else {"PYTHONPATH": "", "PYTHONSAFEPATH": ""}
