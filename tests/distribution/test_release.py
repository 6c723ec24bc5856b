"""What is released: the source archive is whole, and the Pythons that are promised are those that are tested."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.house import files

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
#: In the repository, and in no archive.
LEFT_OUT = (".so",)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(folder)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (packed,) = folder.glob("*.tar.gz")
    with tarfile.open(packed) as opened:
        opened.extractall(folder, filter="data")
    (unpacked,) = [one for one in folder.iterdir() if one.is_dir()]
    return unpacked


def test_the_archive_has_every_file(archive: Path) -> None:
    missing = [path for path in files("") if not path.endswith(LEFT_OUT) and not (archive / path).is_file()]
    assert not missing, "pyproject.toml, [tool.hatch.build.targets.sdist], leaves these out"


def test_the_archive_is_a_checkout_in_which_make_works(archive: Path) -> None:
    """With this environment in the place of one of its own, which would be installed for minutes."""
    venv = Path(sys.prefix)
    env = {**os.environ, "PYTHONPATH": str(archive), "PYTHONDONTWRITEBYTECODE": "1"}
    made = subprocess.run(
        ["make", "-o", f"{venv}/.installed", f"VENV={venv}", "lint", "layers", "docs"],
        cwd=archive, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    for path in ("docs/configuration.md", "docs/session.md"):
        assert (archive / path).read_text() == (ROOT / path).read_text()
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/unit/extproc/protocol",
        "tests/unit/scheduler/plugins",
    ]
    tested = subprocess.run(command, cwd=archive, env=env, capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout


def test_the_pythons_that_are_promised_are_tested() -> None:
    prefix = "Programming Language :: Python :: 3."
    promised = [f"3.{one.removeprefix(prefix)}" for one in PROJECT["classifiers"] if one.startswith(prefix)]
    assert WORKFLOW["jobs"]["test"]["strategy"]["matrix"]["python"] == promised
    assert PROJECT["requires-python"] == f">={promised[0]}"
    # The image's is one of them; the compiled build is tested by `make test`, and so on each.
    images = re.findall(r"^ARG \w+_IMAGE=python:(3\.\d+)", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)
    assert len(set(images)) == 1
    assert images[0] in promised


def test_the_workflow_calls_the_same_targets_as_people() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = [step["run"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "run" in step]
    assert commands
    for command in commands:
        program, target, *_ = command.split()
        assert program == "make"
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_where_to_find_the_project() -> None:
    assert {"Homepage", "Documentation", "Changelog", "Issues"} <= PROJECT["urls"].keys()
    assert PROJECT["keywords"] == sorted(PROJECT["keywords"], key=str.lower)
    assert "Operating System :: POSIX :: Linux" in PROJECT["classifiers"]
