"""A training that is killed and started again, by the command line, in processes of their own."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.bundle.loader import Bundle, BundleRef, find_bundles, open_bundle

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
EPOCHS = 80
# dropout and mirrored pictures, so that the generators of random numbers have to go on where they stood
SETTINGS = ("--epochs", str(EPOCHS), "--patience", str(EPOCHS), "--batch-size", "32")
COMMAND = ("train", "mlp", *SETTINGS, "--json", "--no-explanations")


def start(folder: Path) -> subprocess.Popen[str]:
    folders = ("--models-dir", str(folder / "models"), "--runs-dir", str(folder / "runs"))
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.slices", *COMMAND, *folders],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(folder: Path) -> list[dict[str, object]]:
    """Run the command to its end, and return what it told: the epochs that it trained, then the bundle."""
    process = start(folder)
    told, complaints = process.communicate(timeout=300)
    assert process.returncode == 0, complaints
    return [json.loads(line) for line in told.splitlines()]


def bundles(folder: Path) -> list[Bundle]:
    refs: list[BundleRef] = find_bundles(folder / "models")
    return [open_bundle(ref) for ref in refs]


def weights_of(bundle: Bundle) -> str:
    return bundle.artifact("state_dict").sha256


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that nobody disturbed."""
    folder = tmp_path_factory.mktemp("unbroken")
    assert len(finish(folder)) == EPOCHS + 1
    return folder


def test_a_run_killed_in_mid_training_and_started_again_ends_with_the_same_weights(
    unbroken: Path, tmp_path: Path
) -> None:
    process = start(tmp_path)
    assert process.stdout is not None
    seen = [json.loads(process.stdout.readline())["number"] for _ in range(3)]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (seen, process.returncode) == ([1, 2, 3], -signal.SIGKILL)
    assert not (tmp_path / "models").exists()
    # as if the repository had moved on between the two: the bundle tells the code that began
    note = tmp_path / "runs" / "mlp" / "seed-20" / "code_revision.txt"
    assert note.read_text()
    note.write_text("the code of the start")

    *epochs, end = finish(tmp_path)
    numbers = [epoch["number"] for epoch in epochs]
    assert 3 < len(numbers) + 3 <= EPOCHS
    assert numbers == list(range(EPOCHS - len(numbers) + 1, EPOCHS + 1))
    (bundle,), (reference,) = bundles(tmp_path), bundles(unbroken)[:1]
    assert end["bundle"] == str(bundle.folder)
    assert weights_of(bundle) == weights_of(reference)
    history, expected = (
        [
            {name: value for name, value in epoch.items() if name != "duration_s"}
            for epoch in json.loads((each.folder / "report" / "history.json").read_text())
        ]
        for each in (bundle, reference)
    )
    assert history == expected
    assert bundle.manifest.training is not None
    assert bundle.manifest.training.code_revision == "the code of the start"


def test_a_start_after_the_finish_exports_anew_without_training(unbroken: Path) -> None:
    checkpoint = unbroken / "runs" / "mlp" / "seed-20" / "checkpoint.pt"
    before = checkpoint.read_bytes()
    (end,) = finish(unbroken)
    assert end["best_epoch"]
    assert checkpoint.read_bytes() == before
    first, second = bundles(unbroken)
    assert (first.manifest.version, second.manifest.version) == (1, 2)
    assert weights_of(first) == weights_of(second)
    assert first.manifest.training == second.manifest.training
