"""Whoever opens a module that is compiled sees that on its first line."""

import tomllib

from support.house import ROOT, modules

MARK = '# Compiled ahead of time: CONTRIBUTING.md, "Modules that are compiled".\n'


def test_the_marks_are_on_what_is_compiled_and_nothing_else() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["mypyc"]["include"]
    marked = [path for path in modules() if (ROOT / path).read_text(encoding="utf-8").startswith(MARK)]
    without = sorted(set(listed) - set(marked))
    assert not without, f"in pyproject.toml's list of what is compiled; their first line must be: {MARK}"
    assert not sorted(set(marked) - set(listed)), "marked as compiled, and not in pyproject.toml's list"
    assert len(listed) == len(set(listed))
