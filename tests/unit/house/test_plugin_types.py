"""A plugin whose methods are not as the contract has them does not pass mypy."""

import subprocess
import sys
from pathlib import Path

from support.house import ROOT

HEAD = """
from typing import ClassVar

from scheduler.framework import Cycle, FilterPlugin, NoParams, PluginParams, PreparerPlugin, ScorerPlugin
from scheduler.types import BoolArray, FloatArray, Request, Snapshot


class Whole:
    name: ClassVar[str] = "mine"
    Params: ClassVar[type[PluginParams]] = NoParams

    def __init__(self, params: NoParams) -> None: ...

"""
SCORE = "    def score(self, request: Request, pods: Snapshot, cycle: Cycle) -> FloatArray:\n        raise NotImplementedError\n"
KEEP = "    def keep(self, request: Request, pods: Snapshot, cycle: Cycle) -> BoolArray:\n        raise NotImplementedError\n"
PREPARE = "    def prepare(self, request: Request, pods: Snapshot, cycle: Cycle) -> None:\n        raise NotImplementedError\n"
RIGHT = {"ScorerPlugin": SCORE, "FilterPlugin": KEEP, "PreparerPlugin": PREPARE}
WRONG = [
    ("ScorerPlugin", SCORE.replace(", cycle: Cycle", "")),
    ("ScorerPlugin", SCORE.replace("-> FloatArray", "-> list[float]")),
    ("ScorerPlugin", SCORE.replace("pods: Snapshot", "pods: list[str]")),
    ("ScorerPlugin", SCORE.replace("    def", "    async def")),
    ("ScorerPlugin", SCORE.replace("score", "scores")),
    ("ScorerPlugin", SCORE + "    name = 3  # type: ignore[assignment]\n"),
    ("FilterPlugin", KEEP.replace("request: Request, pods: Snapshot", "pods: Snapshot, request: Request")),
    ("FilterPlugin", KEEP.replace("-> BoolArray", "-> FloatArray")),
    ("FilterPlugin", SCORE),
    ("PreparerPlugin", PREPARE.replace("-> None", "-> int")),
    ("PreparerPlugin", PREPARE.replace(", cycle: Cycle", ", cycle: Cycle, more: int")),
]


def test_mypy_refuses_each_wrong_plugin_and_no_right_one(tmp_path: Path) -> None:
    text, wrong = HEAD, []
    for number, (kind, method) in enumerate([*RIGHT.items(), *WRONG]):
        text += f"class Plugin{number}(Whole):\n{method}\n\nCHECKED{number}: type[{kind}] = Plugin{number}\n\n"
        if number >= len(RIGHT):
            wrong.append(text.count("\n") - 1)
    (tmp_path / "plugins.py").write_text(text)
    # The cache of `make types`, with its options: numpy and pydantic are not read again.
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        ROOT / "pyproject.toml",
        "--no-pretty",
        tmp_path / "plugins.py",
    ]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    errors = [line for line in found.stdout.splitlines() if ": error:" in line]
    lines = [int(line.split(":")[1]) for line in errors if "[assignment]" in line]
    assert lines == wrong, found.stdout + found.stderr
    assert len(errors) == len(lines), found.stdout
