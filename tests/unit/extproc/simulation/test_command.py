"""The commands, as they are typed."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from extproc.main import app

SMALL = ["--workload", "agents", "--set", "conversations=3", "--set", "turns=2", "--set", "beginning-tokens=512"]


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*arguments])
    return result.exit_code, result.output


def test_configurations_are_compared_with_the_first(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("scheduler: {plugins: {Score: {enabled: [{name: queue}]}}}", encoding="utf-8")
    code, out = run("simulate", *SMALL, "--config", str(path), "--policy", "random", "--seeds", "2")
    assert code == 0
    assert "mine.yaml" in out
    assert "Beside mine.yaml:" in out
    assert "medians of 2 seeds" in out


def test_everything_is_there_as_json() -> None:
    code, out = run("simulate", *SMALL, "--policy", "page", "--policy", "smg", "--json", "--gateways", "2")
    found = json.loads(out[out.index("{") :])
    assert code == 0
    assert (found["baseline"], found["seeds"], [*found["configurations"]]) == ("page", [1], ["page", "smg"])
    figures = found["configurations"]["smg"]["figures"]
    assert figures["ttft_p90"]["median"] > 0
    assert found["configurations"]["smg"]["requests"] == 6
    assert [*found["configurations"]["smg"]["tenants"]] == ["agent-0", "agent-1", "agent-2"]


def test_several_processes_find_the_same() -> None:
    answers = {run("simulate", *SMALL, "--policy", "page", "--seeds", "2", "--jobs", jobs, "--json") for jobs in "12"}
    assert len(answers) == 1


def test_tune_prints_what_it_found() -> None:
    code, out = run("tune", *SMALL, "--tries", "2", "--seeds", "1", "--pods", "2")
    assert code == 0
    assert "on the half that was held out" in out
    assert run("tune", *SMALL, "--tries", "2", "--seeds", "1", "--pods", "2", "--json")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["simulate"], "name a trace, or a --workload"),
        (["simulate", *SMALL, str(Path(__file__))], "name a trace, or a --workload"),
        (["simulate", str(Path(__file__))], "test_command.py:1:"),
        (["simulate", "--workload", "chats"], "there is no workload 'chats': agents, "),
        (["simulate", *SMALL, "--set", "turns"], "NAME=VALUE"),
        (["simulate", *SMALL, "--set", "turns=1.5"], "turns must be a whole number"),
        (["simulate", *SMALL, "--set", "turns=0"], "turns must be a whole number above 0"),
        (["simulate", *SMALL, "--set", "speed=1"], "no parameter 'speed'"),
        (["simulate", "--workload", "shared-prefixes", "--set", "system-tokens=100"], "multiple of 16"),
        (["simulate", *SMALL, "--policy", "best"], "there is no policy 'best'"),
        (["simulate", *SMALL, "--policy", "page", "--policy", "page"], "two configurations"),
        (["simulate", *SMALL, "--engine", "gpu"], "there is no engine 'gpu'"),
        (["simulate", *SMALL, "--gateway-delay", "soon"], "soon"),
        (["simulate", *SMALL, "--config", "/nowhere"], "/nowhere"),
        (["tune", *SMALL, "--goal", "joy"], "there is no goal 'joy': ttft_p90"),
        (["tune"], "name a trace, or a --workload"),
    ],
)
def test_what_is_wrong_is_said_with_exit_code_2(arguments: list[str], said: str) -> None:
    code, out = run(*arguments)
    assert code == 2
    assert said in out
