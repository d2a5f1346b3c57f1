"""The tool is found, run and read; where it cannot be, the reason is told without this machine's paths."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import analyzer, debian
from benchmarks.analyzer import Failed, Level
from benchmarks.environments import NotInstalled

REPORT = """Concurrency,Inferences/Second,Client Send,Server Queue,p50 latency,p90 latency,p95 latency,p99 latency
1,1845.41,21,13,515,597,625,721
32,6225.06,60,1209,4845,5928,7283,8027
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the tool: a program in its place that does as its arguments say."""
    monkeypatch.setattr(analyzer, "HOME", tmp_path / "home")
    return tmp_path / "home"


def put(home: Path, program: str) -> None:
    path = home / "wheel" / "perf_analyzer" / "bin" / "perf_analyzer"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!{sys.executable}\nimport sys\n{program}\n")
    path.chmod(0o755)


def run(data: Path) -> Level:
    return analyzer.run("127.0.0.1:1", "http", "cnn", clients=32, data=data, window_ms=500)


def test_a_report_is_read_by_its_requests_in_flight() -> None:
    assert analyzer.read_report(REPORT, 32) == Level(requests_per_s=6225.06, p50_ms=4.845, p99_ms=8.027)


@pytest.mark.parametrize("text", ["", "Concurrency,Inferences/Second\n2,1\n", REPORT.replace("p99", "p98")])
def test_a_report_of_something_else_is_a_failure(text: str) -> None:
    with pytest.raises(Failed, match="says nothing of 1 requests in flight"):
        analyzer.read_report(text, 1)


def test_what_is_sent_has_shapes_and_flat_contents(tmp_path: Path) -> None:
    analyzer.write_data(tmp_path / "data.json", [{"image": ([2, 1], [0.0, 1.5])}, {"image": ([2, 1], [2.0, 3.0])}])
    assert json.loads((tmp_path / "data.json").read_text()) == {
        "data": [
            {"image": {"shape": [2, 1], "content": [0.0, 1.5]}},
            {"image": {"shape": [2, 1], "content": [2.0, 3.0]}},
        ]
    }


def test_a_run_is_what_the_tool_reports(home: Path, tmp_path: Path) -> None:
    put(home, f"open(sys.argv[sys.argv.index('-f') + 1], 'w').write({REPORT!r})")
    assert run(tmp_path / "data.json").requests_per_s == 6225.06


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (
            "sys.stderr.write('error: cannot read /a/secret/place/data.json\\n'); sys.exit(2)",
            r"cannot read \.\.\./data",
        ),
        ("sys.exit(99)", "status 99"),
        ("", "status 0"),  # and no report
    ],
)
def test_a_run_that_breaks_off_says_why(home: Path, tmp_path: Path, program: str, words: str) -> None:
    put(home, program)
    with pytest.raises(Failed, match=words):
        run(tmp_path / "data.json")


def test_libraries_beside_the_tool_are_what_it_is_started_with(home: Path) -> None:
    put(home, "")
    (program,) = analyzer.command()
    loader = home / "libraries" / "usr" / "lib64" / "ld-linux-x86-64.so.2"
    loader.parent.mkdir(parents=True)
    loader.touch()
    assert analyzer.command()[:2] == (str(loader), "--library-path")
    assert analyzer.command()[-1] == program


def test_libraries_without_a_loader_are_none(tmp_path: Path) -> None:
    with pytest.raises(NotInstalled, match="no loader"):
        debian.launcher(tmp_path)


def test_a_system_without_debians_apt_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "KEYRING", tmp_path / "none.gpg")
    with pytest.raises(NotInstalled, match="no apt of Debian"):
        debian.fetch(tmp_path / "libraries")
    assert not (tmp_path / "libraries").exists()


def test_a_wheel_that_cannot_be_had_is_told_and_not_taken_for_made(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.run

    def without_index(command: list[str], **options: object) -> "subprocess.CompletedProcess[str]":
        return real([*command, "--no-index", "--find-links", str(home)], **options)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr(analyzer.subprocess, "run", without_index)
    with pytest.raises(NotInstalled, match="No matching distribution"):
        analyzer.make()
    assert not analyzer.is_made()
