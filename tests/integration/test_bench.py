"""``python -m app bench`` as a user runs it, against real services."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from app import machine
from app.bundle.tuning import write_tuning
from tests.support.bundles import dummy_bundle, open_folder
from tests.support.server import RunningService, serve
from tests.support.tunings import tuning_of


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    dummy_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def service(models: Path) -> Iterator[RunningService]:
    with serve(models) as running:
        yield running


def bench(*arguments: object, models: Path | None = None, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ZTO_")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "app", "bench", *map(str, arguments)],
        env=inherited | ({} if models is None else {"ZTO_MODELS_DIR": str(models)}),
        input=stdin, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


QUICK = ("--seconds", 0.3, "--warm-up", 0)


def test_a_model_is_measured_behind_a_service_of_its_own(models: Path, tmp_path: Path) -> None:
    done = bench("dummy", *QUICK, "--clients", 2, "--json", tmp_path / "out", "--plot", tmp_path / "svg", models=models)
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "out").read_text())
    assert document["outcomes"].keys() == {"200"}
    assert document["environment"]["cores"] == str(machine.num_cores())
    assert f"{document['outcomes']['200']}" in done.stdout
    assert "p99.9" in done.stdout
    ElementTree.fromstring((tmp_path / "svg").read_text())


def test_a_model_is_measured_as_it_was_tuned_and_one_that_is_not_is_noted(tmp_path: Path) -> None:
    folder = dummy_bundle(tmp_path / "models", max_rows=8)
    path = folder.parent / "1.tuning.json"
    write_tuning(tuning_of(open_folder(folder), max_rows=2), path)
    done = bench("dummy", *QUICK, "--clients", 2, models=tmp_path / "models")
    assert (done.returncode, "not served as it was tuned" in done.stdout) == (0, False), done.stdout + done.stderr
    path.write_text("{")
    done = bench("dummy", *QUICK, "--clients", 2, models=tmp_path / "models")
    assert "note: the model is not served as it was tuned: 1.tuning.json is not valid" in done.stdout


def test_a_running_service_is_measured_in_an_open_loop(service: RunningService, tmp_path: Path) -> None:
    done = bench(
        "dummy", "--url", service.url, *QUICK, "--rate", 100, "--arrivals", "constant", "--json", tmp_path / "o"
    )
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "o").read_text())
    assert document["outcomes"] == {"200": 30}
    assert "service ms" in done.stdout


def test_bodies_of_a_file_go_out_in_turn_and_refusals_are_counted(service: RunningService, tmp_path: Path) -> None:
    good = json.dumps({"instances": [{"image": [[1] * 3] * 2}]})
    (tmp_path / "bodies").write_text(f'{good}\n{{"instances": []}}\n')
    done = bench(
        f"{service.url}/predict/dummy", *QUICK, "--rate", 100, "--arrivals", "constant",
        "--bodies", tmp_path / "bodies", "--json", tmp_path / "o",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "o").read_text())["outcomes"] == {"200": 15, "422": 15}


def test_an_interrupt_reports_what_was_measured_and_ends_the_service_too(models: Path) -> None:
    environ = dict(os.environ) | {"ZTO_MODELS_DIR": str(models)}
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "bench", "dummy", "--seconds", "600", "--warm-up", "0"],
        env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    parent = child_of(process.pid)
    worker = child_of(parent)
    while b"bench" not in Path(f"/proc/{process.pid}/cmdline").read_bytes() or connections(worker) < 20:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode in (0, 1), stderr  # 1 where no answer had come yet
    assert "stopped after" in stdout
    assert "answered with 200" in stdout
    assert not Path(f"/proc/{parent}").exists()
    assert not Path(f"/proc/{worker}").exists()


def child_of(pid: int) -> int:
    """Wait for the process that a process starts, and return its id."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    while not (children := path.read_text().split()):
        time.sleep(0.02)
    return int(children[0])


def connections(pid: int) -> int:
    """Count the sockets of a process."""
    try:
        return sum("socket:" in os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nix"], "no model 'nix' in .*there are: dummy"),
        (["dummy", "--rate", "0"], "rate must be between"),
        (["dummy", "--seconds", "1e9"], "measured seconds must be between"),
        (["dummy", "--clients", "0"], "clients must be between"),
        (["dummy", "--body", "/nowhere/body"], "cannot be read: No such file"),
        (["dummy", "--body", "a", "--bodies", "b"], "either --body or --bodies"),
        (["dummy", "--header", "nothing"], "is no header"),
        (["dummy", "--json", "/nowhere/out.json"], "/nowhere is no folder"),
        (["http://127.0.0.1:1/predict/dummy"], "nobody answers on 127.0.0.1:1"),
        (["http://127.0.0.1:1/predict/dummy", "--url", "http://127.0.0.1:1"], "one URL is enough"),
        (["http://127.0.0.1:1/elsewhere"], "no example to ask for: --body FILE"),
        (["dummy", "--arrivals", "sometimes"], "invalid choice: 'sometimes'"),
    ],
)
def test_what_cannot_be_measured_is_refused(models: Path, arguments: list[str], message: str) -> None:
    import re

    done = bench(*arguments, models=models)
    assert done.returncode == 2
    assert re.search(message, done.stderr)
    assert "Traceback" not in done.stderr


def test_a_model_that_a_running_service_has_not_is_refused_with_its_words(service: RunningService) -> None:
    done = bench("nix", "--url", service.url)
    assert done.returncode == 2
    assert "no example of 'nix' (status 404): no model named 'nix'" in done.stderr


def test_a_body_that_is_refused_is_no_measurement(service: RunningService) -> None:
    done = bench("dummy", "--url", service.url, "--body", "-", stdin='{"instances": 3}')
    assert done.returncode == 2
    assert "is answered with 422, so there is nothing to measure" in done.stderr


def test_a_bundle_that_fails_its_proof_is_told(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, behavior={"fails_after_calls": 0})
    done = bench("dummy", *QUICK, models=tmp_path)
    assert done.returncode == 2
    assert "the service does not come up" in done.stderr
    assert "told to fail" in done.stderr
