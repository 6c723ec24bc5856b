from pathlib import Path
from xml.etree import ElementTree

import pytest

from extproc.config import loads
from extproc.simulation import report
from extproc.simulation.fleet import PodPlan
from extproc.simulation.policies import POLICIES
from extproc.simulation.profiles import find
from extproc.simulation.run import FleetPlan
from extproc.simulation.scenario import Source, Task, run
from extproc.simulation.show import Comparison


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    plan = FleetPlan(pods=tuple(PodPlan(name=name, engine=find("8b-h100")) for name in ("a", "b")))
    source = Source(
        generated="agents", parameters={"conversations": 4, "turns": 2, "within": 5, "beginning-tokens": 512}
    )
    return Comparison(
        [
            run(Task(name, loads(POLICIES[policy].text, policy).config, source, plan, seed))
            for name, policy in (("random", "random"), ("<smg>", "smg"))
            for seed in (1, 2)
        ]
    )


def test_plots_are_written_as_svg_and_png(comparison: Comparison, tmp_path: Path) -> None:
    report.save(comparison, "agents", 2, html=None, folder=tmp_path / "new")
    found = {path.name for path in (tmp_path / "new").iterdir()}
    assert found == {f"{name}.{form}" for name in ("ttft", "time", "figures") for form in ("svg", "png")}
    for path in (tmp_path / "new").glob("*.svg"):
        ElementTree.parse(path)
    for path in (tmp_path / "new").glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_page_needs_nothing_else_and_shows_names_as_they_are(comparison: Comparison, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    report.save(comparison, "agents", 2, html=path, folder=None)
    text = path.read_text(encoding="utf-8")
    assert text.count("<svg") == 3
    assert "&lt;smg&gt;" in text
    assert "<smg>" not in text
    assert "<script" not in text
    assert 'src="http' not in text
    assert "agent-1" in text


def test_equal_figures_are_drawn_equally(comparison: Comparison, tmp_path: Path) -> None:
    pages = []
    for name in ("one", "two"):
        report.save(comparison, "agents", 2, html=tmp_path / name, folder=None)
        pages.append((tmp_path / name).read_bytes())
    assert pages[0] == pages[1]


def test_a_place_that_cannot_be_written_is_an_error(comparison: Comparison, tmp_path: Path) -> None:
    with pytest.raises(report.ReportError, match="cannot be written"):
        report.save(comparison, "agents", 2, html=tmp_path / "no" / "page", folder=None)
