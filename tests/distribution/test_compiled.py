"""The wheel that is compiled ahead of time, and the one that is not."""

import ast
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WHEEL: dict[str, Any] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
HOOK: dict[str, Any] = WHEEL["hooks"]["mypyc"]
#: What `make compiled` leaves, which `make test` has run before this.
BUILT = ROOT / "build" / "compiled"
SUFFIX: str = sysconfig.get_config_var("EXT_SUFFIX")
SOURCES = {
    str(path.relative_to(ROOT)) for package in WHEEL["packages"] for path in (ROOT / package).rglob("*.py")
}  # fmt: skip


def run(*arguments: str, **env: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def can_compile() -> bool:
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    return shutil.which(compiler) is not None and Path(sysconfig.get_path("include"), "Python.h").exists()


def is_fresh(built: Path) -> bool:
    sources = [ROOT / "pyproject.toml", *(ROOT / source for source in SOURCES)]
    return built.exists() and built.stat().st_mtime > max(source.stat().st_mtime for source in sources)


def compiled_wheel(folder: Path) -> list[str]:
    """The files of the compiled wheel."""
    built = BUILT
    if not is_fresh(BUILT / ".built"):
        run("hatchling", "build", "--target", "sdist", "--directory", str(folder))
        (archive,) = folder.glob("*.tar.gz")
        built = folder / "compiled"
        run(
            "pip", "install", "--no-deps", "--no-build-isolation", "--target", str(built), str(archive),
            HATCH_BUILD_HOOK_ENABLE_MYPYC="1",
        )  # fmt: skip
    (record,) = built.glob("infer_gateway-*.dist-info/RECORD")
    return [line.split(",")[0] for line in record.read_text(encoding="utf-8").splitlines()]


def test_the_compiled_wheel_has_all_of_the_source_and_machine_code_for_what_is_listed(tmp_path: Path) -> None:
    if not can_compile():
        pytest.skip("no C compiler, or no Python.h")
    files = compiled_wheel(tmp_path)
    assert {file for file in files if file.endswith(".py")} == SOURCES
    assert {file for file in files if file.endswith(".so")} == {
        *(f"{module.removesuffix('.py')}{SUFFIX}" for module in HOOK["include"]),
        f"infer_gateway__mypyc{SUFFIX}",
    }


def test_without_being_asked_for_nothing_is_compiled(tmp_path: Path) -> None:
    run("hatchling", "build", "--target", "wheel", "--directory", str(tmp_path))
    (wheel,) = tmp_path.iterdir()
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = archive.namelist()
    assert {file for file in files if file.endswith(".py")} == SOURCES
    assert not [file for file in files if file.endswith((".so", ".c"))]


def test_nothing_lies_in_the_checkout_that_would_be_imported_in_place_of_the_source() -> None:
    assert not list(ROOT.glob("*.so"))
    assert not [path for package in WHEEL["packages"] for path in (ROOT / package).rglob("*.so")]


@pytest.mark.parametrize("module", HOOK["include"])
def test_a_module_that_is_compiled_has_nothing_that_would_not_be_the_same(module: str) -> None:
    """All of this is compiled without a word."""
    nodes = list(ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))))
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    bases = {_last_name(base) for node in classes for base in node.bases}
    assert not bases & {"Struct", "BaseModel", "PluginParams", "NoParams", "Envelope"}
    assert "dataclass" not in {_last_name(one) for node in classes for one in node.decorator_list}
    # An exception that is thrown into one comes out as a DeprecationWarning, from Python 3.12 on.
    assert not [
        node for node in nodes if isinstance(node, ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await)
    ]


def _last_name(node: ast.expr) -> str:
    """`Struct`, of `msgspec.Struct`, `Struct` or `Struct[T]`."""
    if isinstance(node, ast.Call):
        node = node.func
    if isinstance(node, ast.Subscript):
        node = node.value
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def test_what_is_shipped_is_compiled_by_what_the_tests_ran_with() -> None:
    pins = (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8").splitlines()
    wanted: Sequence[str] = HOOK["dependencies"]
    assert {pin.partition("==")[0] for pin in wanted} == {"hatch-mypyc", "mypy"}
    assert set(wanted) <= set(pins)
    assert HOOK["enable-by-default"] is False
