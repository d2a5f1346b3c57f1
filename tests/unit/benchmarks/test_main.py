"""The command line: what it takes, and a short run from the first request to the page."""

from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import page, results, scenarios, workloads
from benchmarks.servers import FLOOR_NAME, SERVICE_NAME


def test_parts_are_workloads_and_scenarios_by_their_names() -> None:
    assert command._parse([]).only == page.parts()
    assert command._parse(["--only", "cnn,transformer"]).only == ("cnn", "transformer")
    assert command._parse(["--only", "scenarios,cnn"]).only == (*scenarios.names(), "cnn")
    assert set(workloads.names()) <= set(page.parts())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "gpt"], "no part 'gpt'"),
        (["prepare", "TorchServe"], "no peer 'TorchServe'"),
        (["--rounds", "0"], "at least one round"),
        (["--seconds", "0"], "more than 0"),
    ],
)
def test_what_is_not_there_is_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        command._parse(arguments)
    assert refused.value.code == 2
    assert words in capsys.readouterr().err


def test_a_quick_run_leaves_the_repository_as_it_is() -> None:
    quick, full = command._parse(["--quick"]), command._parse([])
    assert quick.results != full.results
    assert quick.page != full.page == command.PAGE


def test_a_page_of_no_figures_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    monkeypatch.setattr(command, "PAGE", tmp_path / "page.md")
    assert command.main(["render"]) == 2
    assert "nothing was measured yet" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()


@pytest.mark.slow
def test_a_quick_run_measures_the_service_beside_a_peer_and_writes_the_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "QUICK", tmp_path)
    assert command.main(["measure", "plain FastAPI", "--quick", "--only", "autoencoder"]) == 0
    found = results.load(tmp_path)["autoencoder"].comparison
    assert found is not None
    assert found.absent == {}
    for name in (SERVICE_NAME, "plain FastAPI, async def", "plain FastAPI, def", FLOOR_NAME):
        (sample,) = found.samples(name, 32)
        assert sample.requests > 0, name
    assert "| plain FastAPI |" in (tmp_path / "benchmarks.md").read_text()
