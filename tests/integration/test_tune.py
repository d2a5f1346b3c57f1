"""``python -m app tune`` as a user runs it, and the service that heeds it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from app.bundle.tuning import Tuning, write_tuning
from tests.support.bundles import dummy_bundle, open_folder
from tests.support.server import serve
from tests.support.tunings import tuning_of

COMMAND = [sys.executable, "-W", "error", "-m", "app", "tune"]
QUICK = ("--time-budget", 2, "--rounds", 2, "--clients", 16)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Return a folder with a model whose call costs the same however many rows it has."""
    dummy_bundle(tmp_path / "models", behavior={"sleep_s": 0.003}, max_rows=1, rows=4)
    return tmp_path / "models"


def environ(models: Path, **settings: object) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ZTO_")}
    return inherited | {"ZTO_MODELS_DIR": str(models)} | {f"ZTO_{k.upper()}": str(v) for k, v in settings.items()}


def tune(models: Path, *arguments: object, **settings: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], env=environ(models, **settings), capture_output=True, text=True, timeout=120
    )


def test_a_model_is_tuned_served_so_and_forgotten_again(models: Path, tmp_path: Path) -> None:
    done = tune(models, "dummy", *QUICK, "--json", tmp_path / "out.json")
    assert done.returncode == 0, done.stderr
    path = models / "dummy" / "1.tuning.json"
    assert f"written: {path}" in done.stdout
    tuning = Tuning.model_validate_json(path.read_text())
    assert tuning == Tuning.model_validate_json((tmp_path / "out.json").read_text())
    assert tuning.choice.batching.max_rows > 1
    assert tuning.gain > 1
    assert {m.step for m in tuning.candidates} >= {"max_rows", "once more"}
    assert "taken" in done.stderr
    assert sorted(file.name for file in path.parent.iterdir()) == ["1", "1.tuning.json"]
    with serve(models) as service:
        (card,) = httpx.get(f"{service.url}/models/dummy").json()["versions"]
        assert card["batching"]["max_rows"] == tuning.choice.batching.max_rows
        assert card["tuning"]["overrides"]["max_rows"] == tuning.choice.batching.max_rows
        assert card["tuning"]["measured_at"] == tuning.measured_at
        assert card["device"] == "cpu"
        assert "as tuned" in service.log()
    with serve(models, tuning="off") as service:
        (card,) = httpx.get(f"{service.url}/models/dummy").json()["versions"]
        assert (card["tuning"], card["batching"]["max_rows"]) == (None, 1)
    assert tune(models, "--remove", "dummy").returncode == 0
    assert not path.exists()
    again = tune(models, "--remove", "dummy")
    assert (again.returncode, "there is no" in again.stdout) == (0, True)


def test_a_dry_run_writes_nothing(models: Path) -> None:
    done = tune(models, "dummy", *QUICK, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "nothing was written" in done.stdout
    assert [file.name for file in (models / "dummy").iterdir()] == ["1"]


def test_models_that_cannot_be_written_to_are_tuned_into_the_folder_of_states(models: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    done = tune(models, "dummy", *QUICK, state_dir=state)
    assert done.returncode == 0, done.stderr
    assert (state / "dummy" / "1.tuning.json").exists()
    assert [file.name for file in (models / "dummy").iterdir()] == ["1"]
    with serve(models, state_dir=state) as service:
        (card,) = httpx.get(f"{service.url}/models/dummy").json()["versions"]
        assert card["tuning"] is not None


def test_what_is_forgotten_is_forgotten_in_both_places(models: Path, tmp_path: Path) -> None:
    tuning = tuning_of(open_folder(models / "dummy" / "1"), max_rows=2)
    paths = [tmp_path / "state" / "dummy" / "1.tuning.json", models / "dummy" / "1.tuning.json"]
    for path in paths:
        write_tuning(tuning, path)
    done = tune(models, "--remove", "dummy", state_dir=tmp_path / "state")
    assert done.returncode == 0
    assert all(f"removed: {path}" in done.stdout and not path.exists() for path in paths)
    write_tuning(tuning, paths[0])
    paths[1].mkdir()  # cannot be removed
    done = tune(models, "--remove", "dummy", state_dir=tmp_path / "state")
    assert done.returncode == 2
    assert f"{paths[1]} cannot be removed, and is heeded unless ZTO_TUNING=off" in done.stderr


def test_a_copy_that_cannot_be_written_is_told_and_the_tuning_is_kept(models: Path, tmp_path: Path) -> None:
    done = tune(models, "dummy", "--time-budget", 1, "--rounds", 1, "--clients", 4, "--json", tmp_path)
    assert done.returncode == 1
    assert f"all else is done, but {tmp_path} cannot be written: Is a directory" in done.stderr
    assert (models / "dummy" / "1.tuning.json").exists()


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_run_that_is_interrupted_leaves_the_old_tuning_as_it_was(
    models: Path, number: signal.Signals, status: int
) -> None:
    path = models / "dummy" / "1.tuning.json"
    write_tuning(tuning_of(open_folder(models / "dummy" / "1"), max_rows=2), path)
    before = path.read_bytes()
    process = subprocess.Popen(
        [*COMMAND, "dummy", "--time-budget", "300"],
        env=environ(models), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    process.stderr.readline()  # the first candidate: it is in the middle
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in stderr
    assert ("nothing was written" in stderr) == (number != signal.SIGKILL)
    assert path.read_bytes() == before
    assert sorted(file.name for file in path.parent.iterdir()) == ["1", "1.tuning.json"]


def test_one_who_is_killed_at_any_moment_leaves_a_whole_tuning_or_none(models: Path) -> None:
    path = models / "dummy" / "1.tuning.json"
    for wait_s in (0.6, 1.2, 1.5, 1.8):
        process = subprocess.Popen(
            [*COMMAND, "dummy", "--time-budget", "1", "--rounds", "1", "--clients", "4"],
            env=environ(models), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(wait_s)
        process.kill()
        process.wait()
        if path.exists():
            Tuning.model_validate_json(path.read_text())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nix"], "no model 'nix' in .*; there are: dummy"),
        (["dummy/7"], "dummy has no version '7'; it has: 1"),
        (["dummy/x"], "dummy has no version 'x'"),
        (["dummy", "--time-budget", "0"], "--time-budget must be between 1 and 3600, got 0"),
        (["dummy", "--time-budget", "nan"], "--time-budget must be between"),
        (["dummy", "--clients", "0"], "--clients must be between 1 and 1024"),
        (["dummy", "--max-batch-ms", "-1"], "--max-batch-ms must be between"),
        (["dummy", "--max-accuracy-drop", "2"], "--max-accuracy-drop must be between"),
        (["dummy", "--json", "/nowhere/out.json"], "/nowhere is no folder"),
    ],
)
def test_what_cannot_be_tuned_is_refused(models: Path, arguments: list[str], message: str) -> None:
    done = tune(models, *arguments)
    assert done.returncode == 2
    assert re.search(message, done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_told_before_anything_is_measured(models: Path) -> None:
    (models / "dummy").chmod(0o555)
    try:
        done = tune(models, "dummy")
    finally:
        (models / "dummy").chmod(0o755)
    assert done.returncode == 2
    assert "set ZTO_STATE_DIR" in done.stderr


def test_a_model_that_fails_its_proof_is_not_tuned(tmp_path: Path) -> None:
    dummy_bundle(tmp_path, behavior={"fails_after_calls": 0})
    done = tune(tmp_path, "dummy", *QUICK)
    assert done.returncode == 2
    assert "told to fail" in done.stderr
    assert not (tmp_path / "dummy" / "1.tuning.json").exists()


def test_a_tuning_that_is_damaged_or_stale_is_on_the_card_and_the_model_serves(models: Path) -> None:
    path = models / "dummy" / "1.tuning.json"
    tuning = tuning_of(open_folder(models / "dummy" / "1"), max_rows=2)
    document = json.loads(tuning.model_dump_json())
    document["environment"]["processor"] = "Z80"
    for text, reason in (("{", "is not valid"), (json.dumps(document), "was measured with the processor Z80")):
        path.write_text(text)
        with serve(models) as service:
            (card,) = httpx.get(f"{service.url}/models/dummy").json()["versions"]
            assert (card["state"], card["tuning"]) == ("ready", None)
            assert reason in card["tuning_ignored"]
            assert "python -m app tune dummy" in card["tuning_ignored"]
            assert reason in service.log()
