"""ARCHITECTURE.md against the tree."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "ARCHITECTURE.md"

#: Written with `<…>`, `*` or `{…}` in the page: patterns, not files.
_PATTERN = re.compile(r"[*<>{}…]")


def test_every_room_is_on_the_page() -> None:
    made = subprocess.run(
        [sys.executable, "-c", "import make_rooms; print(make_rooms.page(make_rooms.PAGE.read_text('utf-8')), end='')"],
        cwd=ROOT / "docs", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert made.stdout == PAGE.read_text(encoding="utf-8"), "run `make docs`: a room came, went or changed its purpose"


def test_files_that_the_page_names_are_there() -> None:
    named = re.findall(
        r"`((?:extproc|scheduler|modelsim|envoy|deploy|docs|proto|bench|tests)/[^`\s]*)`", PAGE.read_text("utf-8")
    )
    missing = [path for path in named if not _PATTERN.search(path) and not (ROOT / path).exists()]
    assert len(named) > 60
    assert not missing


def test_the_root_of_the_package_is_small() -> None:
    files = {path.name for path in (ROOT / "extproc").glob("*.py")}
    assert files == {"__init__.py", "__main__.py", "errors.py", "gateway.py", "main.py", "server.py"}
