import subprocess
import sys

import pytest

from tests.support.committed import copy_as_first
from training import data, pipeline
from training.errors import Interrupted, NonFiniteLoss


@pytest.fixture(autouse=True)
def _runs_elsewhere(monkeypatch, tmp_path):
    """Keep the checkpoints of one test from the next."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def small(monkeypatch, small_data):
    """Let the command line train on a few pictures."""
    monkeypatch.setattr(data, "load", lambda name, folder: small_data)


@pytest.mark.usefixtures("small")
def test_train_writes_a_bundle_and_list_shows_it(command, tmp_path):
    code, out, err = command("train", "mlp", "--epochs", 2, "--no-explanations", "--models-dir", tmp_path)
    assert code == 0, err
    assert f"wrote {tmp_path / 'mlp' / '1'}" in out
    assert "validation_accuracy 0." in out
    assert err.count("\n") == 2  # one line an epoch
    code, out, _ = command("list", "--models-dir", tmp_path)
    assert code == 0
    assert "421,642 parameters" in out
    assert "535,818 parameters" in out
    assert "numpy_regression   numpy_mlp    on diabetes" in out
    assert "mlp/1" in out
    assert "test accuracy 0." in out


def test_list_shows_a_damaged_bundle_and_the_others(command, tmp_path):
    copy_as_first("mlp", tmp_path)
    (tmp_path / "broken" / "3").mkdir(parents=True)
    code, out, _ = command("list", "--models-dir", tmp_path)
    assert code == 0
    assert "broken/3           damaged: manifest.json cannot be read" in out
    assert "mlp/1              test accuracy 0.9" in out


def test_list_of_no_folder_is_empty(command, tmp_path):
    code, out, _ = command("list", "--models-dir", tmp_path / "none")
    assert code == 0
    assert out.endswith("  none\n")


def test_a_taken_version_is_refused_before_the_data_is_read(command, tmp_path):
    (tmp_path / "mlp" / "4").mkdir(parents=True)
    code, _, err = command("train", "mlp", "--version", 4, "--models-dir", tmp_path, "--data-dir", tmp_path / "none")
    assert code == 2
    assert "versions are immutable; the next free one is 5" in err


def test_missing_data_are_one_line_that_says_how_to_get_them(command, tmp_path):
    code, out, err = command("train", "cnn", "--data-dir", tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith("error: Fashion-MNIST is not in ")
    assert "apt-get install dataset-fashion-mnist" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", "gnn"], "gnn"),
        (["train", "mlp", "--epochs", "0"], "--epochs"),
        (["train", "mlp", "--epochs", "2.5"], "--epochs"),
        (["train", "mlp", "--seed", "-1"], "--seed"),
        (["train", "mlp", "--version", "0"], "--version"),
        (["train", "mlp", "--learning-rate", "nan"], "learning_rate"),
        (["train", "mlp", "--learning-rate", "fast"], "--learning-rate"),
        (["train", "mlp", "--force"], "--force"),
        (["train"], "MODEL"),
        (["bake"], "bake"),
        ([], "COMMAND"),
    ],
    ids=" ".join,
)
def test_a_mistake_on_the_command_line_is_named_and_exits_with_2(command, arguments, named):
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert named in err.splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NonFiniteLoss("the loss became nan"), 2),
        (Interrupted("interrupted before the first epoch was done"), 130),
        (KeyboardInterrupt(), 130),
        (PermissionError(13, "Permission denied", "models"), 2),
    ],
    ids=["nan", "early ctrl-c", "ctrl-c", "no permission"],
)
def test_what_stops_training_is_told_in_one_line(command, monkeypatch, error, code):
    def fail(*arguments, **settings):
        raise error

    monkeypatch.setattr(pipeline, "train", fail)
    actual, _, err = command("train", "mlp")
    assert actual == code
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@pytest.mark.usefixtures("small")
def test_fixture_writes_the_file(command, tmp_path):
    code, out, _ = command("fixture", "--output", tmp_path / "some.npz")
    assert code == 0
    assert out == f"wrote {tmp_path / 'some.npz'}\n"
    assert (tmp_path / "some.npz").exists()


def test_the_module_runs_as_a_command(repository):
    done = subprocess.run(
        [sys.executable, "-m", "training", "--help"], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    shown = {line.split()[0] for line in done.stdout.splitlines() if line.startswith("    ")}
    assert shown >= {
        "compare",
        "cross-validate",
        "evaluate",
        "explain",
        "fixture",
        "list",
        "lr-find",
        "models",
        "train",
    }


@pytest.mark.parametrize("missing", ["torch", "onnx", "tqdm", "sklearn"])
def test_a_missing_library_is_named_with_what_to_install(repository, missing):
    code = (
        "import sys, runpy; from importlib.abc import MetaPathFinder\n"
        "class Gone(MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {missing!r}: raise ModuleNotFoundError(f'No module named {{name}}', name=name)\n"
        "sys.meta_path.insert(0, Gone()); sys.argv = ['training', 'list']\n"
        "runpy.run_module('training', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"error: {missing} is not installed; training needs: pip install 'zero-to-one[train]'\n"


@pytest.mark.usefixtures("small")
def test_a_folder_that_cannot_be_made_is_named_in_plain_words(command, tmp_path):
    (tmp_path / "file").touch()
    code, _, err = command("train", "mlp", "--models-dir", tmp_path, "--runs-dir", tmp_path / "file")
    assert (code, err) == (2, f"error: {tmp_path / 'file' / 'mlp' / 'seed-20'}: Not a directory\n")
