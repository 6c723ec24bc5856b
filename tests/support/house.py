"""Where the checkout is, and its modules, for the tests that look after the rules of the house."""

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("extproc", "scheduler", "modelsim")
#: Folders whose files are no part of the project.
_FOREIGN = {"__pycache__", "build", "dist", "node_modules"}


@cache
def files(*suffixes: str) -> tuple[str, ...]:
    """Paths of the project's files with these endings, from its root, sorted. Also those that git does not know yet."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):  # a source archive
        listed = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
    found = [
        path
        for path in listed
        if path.endswith(suffixes) and not any(part in _FOREIGN or part.startswith(".") for part in Path(path).parts)
    ]
    return tuple(sorted(path for path in found if (ROOT / path).is_file()))


def modules() -> list[str]:
    """Paths of all modules of the packages, without what is generated."""
    return [path for path in files(".py") if path.startswith(PACKAGES) and not path.startswith("extproc/_pb/")]
