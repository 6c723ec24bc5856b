"""What is installed is what is in the checkout."""

from importlib.metadata import packages_distributions, version
from pathlib import Path

import extproc
from extproc.config import load

ROOT = Path(__file__).parents[2]


def test_the_changelog_names_the_version() -> None:
    assert version("infer-gateway") == extproc.__version__
    assert f"## {extproc.__version__} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_our_packages_are_ours_alone() -> None:
    for package in ("extproc", "scheduler", "modelsim"):
        assert set(packages_distributions().get(package, ["infer-gateway"])) == {"infer-gateway"}


def test_no_folder_passes_for_somebody_elses_package() -> None:
    for folder in ("proto", "envoy", "deploy"):
        assert not list((ROOT / folder).rglob("__init__.py"))


def test_the_configmap_to_deploy_is_one_that_loads() -> None:
    path = ROOT / "deploy" / "kubernetes" / "configmap.yaml"
    loaded = load(str(path), {})
    assert loaded.config.endpoints.dns[0].port == 8000
    assert loaded.source.startswith(str(path))
