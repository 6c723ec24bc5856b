"""Compiled is all of what pyproject.toml lists, or none of it. (`make test` runs this with either.)"""

import tomllib
from importlib.util import find_spec
from pathlib import Path

from extproc.process.build_info import compiled

ROOT = Path(__file__).parents[4]


def test_all_or_nothing() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["mypyc"]["include"]
    found = {path: find_spec(path.removesuffix(".py").replace("/", ".")) for path in listed}
    assert len(found) > 20
    sources = [path for path, spec in found.items() if spec is None or str(spec.origin).endswith(".py")]
    assert sources == ([] if compiled() else listed)
