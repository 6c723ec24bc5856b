"""Writes the table of rooms in ARCHITECTURE.md: each package, and the first line of its docstring.

`make docs` runs it; a test compares the table with the tree.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "ARCHITECTURE.md"
PACKAGES = ("extproc", "scheduler", "modelsim")
BEGIN, END = "<!-- rooms: made by docs/make_rooms.py -->\n", "<!-- end of rooms -->\n"


def rooms() -> list[tuple[str, str]]:
    """Path and purpose of each package, in the order of the paths.

    Raises:
        SystemExit: a package has no docstring, which would be its line here.
    """
    found = []
    for package in PACKAGES:
        for file in sorted(ROOT.joinpath(package).rglob("__init__.py")):
            path = file.parent.relative_to(ROOT).as_posix()
            docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
            if not docstring:
                raise SystemExit(f"{path}/__init__.py: say in one line what is in this room")
            found.append((path, docstring.splitlines()[0]))
    return sorted(found, key=lambda room: (PACKAGES.index(room[0].partition("/")[0]), room))


def table() -> str:
    rows = [f"| `{path}/` | {purpose} |\n" for path, purpose in rooms()]
    return "| room | what is in it |\n|---|---|\n" + "".join(rows)


def page(text: str) -> str:
    """`text` with today's table between its two marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
