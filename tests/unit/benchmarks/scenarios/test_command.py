"""Each scenario by itself: what is printed, and how it ends."""

import importlib
import json
from pathlib import Path

import pytest

from benchmarks import scenarios
from benchmarks.findings import Bar, Finding, Setting
from benchmarks.scenarios import _command


def bar(*, is_met: bool, aim: str = "") -> Bar:
    return Bar(what="speed", bar="10", aim=aim, measured="9", is_met=is_met)


def finding(setting: Setting, *bars: Bar) -> Finding:
    return Finding(title="A drill", bars=bars, table_markdown="| a |", notes="A note.", raw={"rounds": setting.rounds})


@pytest.mark.parametrize(("is_met", "arguments", "status"), [(True, (), 0), (False, (), 1), (False, ("--quick",), 0)])
def test_the_status_tells_whether_the_bars_are_met_unless_it_was_quick(
    is_met: bool, arguments: tuple[str, ...], status: int
) -> None:
    assert _command.run(lambda setting: finding(setting, bar(is_met=is_met)), arguments) == status


def test_all_that_was_found_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    _command.run(lambda setting: finding(setting, bar(is_met=False, aim="12")), ())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "## A drill"
    assert "| speed | 10 | 12 | 9 | **no** | no |" in lines
    assert {"| a |", "A note."} <= set(lines)


def test_figures_are_written_where_asked(tmp_path: Path) -> None:
    _command.run(finding, ("--rounds", "3", "--json", str(tmp_path / "raw.json")))
    assert json.loads((tmp_path / "raw.json").read_text()) == {"rounds": 3}


@pytest.mark.parametrize("name", scenarios.names())
def test_every_scenario_can_be_measured(name: str) -> None:
    assert callable(importlib.import_module(f"benchmarks.scenarios.{name}").measure)


def test_the_scenarios_of_this_service_are_found() -> None:
    ours = {"overload", "padding", "raw", "stages", "start", "stripped", "two_models"}
    assert ours <= set(scenarios.names())
