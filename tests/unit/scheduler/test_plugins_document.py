"""docs/plugins.md is run, not believed."""

import re
import sys
from importlib import import_module, invalidate_caches
from pathlib import Path

import pytest
import yaml
from support.snapshots import P, request, snapshot

from scheduler.builder import build, validate
from scheduler.config import PluginConfig, SchedulerConfig, ScorerRef
from scheduler.registry import in_tree_registry

DOCUMENT = Path(__file__).parents[3] / "docs" / "plugins.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The document's modules, written to where they can be imported."""
    names = []
    for code in blocks("python"):
        head = re.match(r"# (\w+)\.py\n", code)
        assert head, "each block of Python starts with its file's name"
        (tmp_path / f"{head[1]}.py").write_text(code, encoding="utf-8")
        names.append(head[1])
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    invalidate_caches()
    return names


def test_the_plugins_own_test_passes(written: list[str]) -> None:
    assert written == ["my_plugins", "test_my_plugins"]
    tests = [value for name, value in vars(import_module(written[1])).items() if name.startswith("test_")]
    assert len(tests) == 1
    tests[0]()


def test_it_is_ten_lines(written: list[str]) -> None:
    lines = blocks("python")[0].splitlines()
    code = [line for line in lines if line.strip() and not line.startswith(("#", "import", "from"))]
    assert len(code) <= 10


def test_the_configuration_builds(written: list[str]) -> None:
    section = yaml.safe_load(blocks("yaml")[0])["scheduler"]
    config = SchedulerConfig(
        plugin_config=tuple([PluginConfig(entry["name"], entry["args"]) for entry in section["pluginConfig"]]),
        scores_enabled=tuple(
            [ScorerRef(entry["name"], entry.get("weight", 1)) for entry in section["plugins"]["Score"]["enabled"]]
        ),
    )
    assert validate(config, in_tree_registry()) == []
    profile, warnings = build(config, in_tree_registry())
    assert warnings == []
    assert profile.weights == {"least-request": 1, "my_plugins:PreferZone": 2}
    zones = snapshot(P(labels={"zone": "a"}), P(labels={"zone": "b"}))
    scorer = profile.plugins["my_plugins:PreferZone"]
    assert scorer.score(request(), zones, None).tolist() == [0, 100]
