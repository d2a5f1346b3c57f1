import json
import os
import subprocess
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from app.bundle.loader import find_bundles, open_bundle
from training import checkpoint, config
from training.commands import train

FEW = ("--epochs", "2", "--no-explanations")


@pytest.fixture
def recipe(monkeypatch):
    """Change what the recipe of the MLP says."""

    def change(**settings):
        monkeypatch.setitem(config._RECIPES, "mlp", settings)

    return change


def scalars(folder):
    found = EventAccumulator(str(folder))
    found.Reload()
    return {name: [event.step for event in found.Scalars(name)] for name in found.Tags()["scalars"]}


@pytest.mark.usefixtures("small")
def test_tensorboard_has_every_epoch(command, tmp_path):
    code, _, err = command("train", "mlp", *FEW, "--tensorboard")
    assert code == 0, err
    steps = scalars(tmp_path / "runs" / "mlp" / "seed-20" / "tensorboard")
    assert steps["train_loss"] == steps["validation_score"] == [1, 2]


def test_a_numpy_network_is_logged_too(command, tmp_path):
    code, _, err = command("train", "numpy_regression", "--epochs", 3, "--no-explanations", "--tensorboard")
    assert code == 0, err
    assert scalars(tmp_path / "runs" / "numpy_regression" / "seed-20" / "tensorboard") == {
        "train_loss": [1, 2, 3],
        "validation_loss": [1, 2, 3],
    }


@pytest.mark.usefixtures("small")
def test_tensorboard_that_is_not_installed_is_named_before_the_data_are_read(refused, monkeypatch):
    monkeypatch.setattr(train.importlib.util, "find_spec", lambda name: None)
    assert "tensorboard is not installed" in refused("train", "mlp", "--tensorboard")


@pytest.mark.usefixtures("small")
def test_json_tells_epochs_and_the_bundle_and_nothing_else(command, tmp_path):
    code, out, err = command("train", "mlp", *FEW, "--json")
    assert (code, err) == (0, "")
    *epochs, last = map(json.loads, out.splitlines())
    assert [epoch["number"] for epoch in epochs] == [1, 2]
    assert last == {"bundle": "models/mlp/1", "stopped": "finished", "best_epoch": last["best_epoch"]}
    assert not list(tmp_path.rglob("tensorboard"))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"learning_rat": 1e-3}, "learning_rat"),
        ({"epochs": 0}, "epochs must be 1 or more, got 0"),
        ({"optimizer": "adagrad"}, "there is no optimizer 'adagrad', there are: sgd"),
        ({"schedule": "linear"}, "there is no schedule 'linear'"),
        ({"architecture": "gnn"}, "there is no architecture 'gnn'"),
        ({"network": {"depth": 3}}, "architecture 'mlp' has no config field 'depth'"),
        ({"network": {"hidden": (0,)}}, "hidden"),
        ({"problem": "translation"}, "there is no problem 'translation', there are: image_classification"),
        ({"data_set": "mnist"}, "there is no data set 'mnist', there are: breast_cancer"),
        ({"data_options": {"crop": 3}}, "there is no data option 'crop'"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_recipe_with_an_unknown_name_or_an_impossible_value_is_refused(refused, recipe, settings, named, tmp_path):
    recipe(**settings)
    line = refused("train", "mlp", "--no-explanations")
    assert line.startswith("error: mlp: ")
    assert named in line
    assert not (tmp_path / "models").exists()


def test_a_recipe_that_is_wrong_breaks_no_other_command(command, recipe):
    recipe(learning_rat=1e-3)
    assert command("compare", "--models-dir", ".")[0] == 0


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_another_number_of_seeds_goes_on_from_the_same_checkpoint(command, recipe, tmp_path):
    settings = {"network": {"hidden": (16,)}, "epochs": 2}
    recipe(**settings)
    assert command("train", "mlp", "--no-explanations")[0] == 0
    recipe(**settings, num_seeds=2)
    code, out, err = command("train", "mlp", "--no-explanations")
    assert code == 0, err
    assert err.count("epoch ") == 0
    assert "seed 20: accuracy 0." in out
    assert "seed 21: accuracy 0." in out
    seeds = [ref.folder / "weights.safetensors" for ref in find_bundles(tmp_path / "models")]
    assert seeds[0].read_bytes() == seeds[1].read_bytes()


@pytest.fixture
def torchrun(repository, tmp_path):
    """Run a command in two processes, on a few rows."""

    def run(*arguments):
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        return subprocess.run(
            [*launcher, "-m", "tests.support.small_training", *arguments, "--device", "cpu"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.mark.slow
def test_two_processes_write_one_bundle_and_tell_each_thing_once(torchrun, tmp_path):
    done = torchrun("train", "mlp", *FEW, "--tensorboard", "--json")
    assert done.returncode == 0, done.stderr
    (ref,) = find_bundles(tmp_path / "models")
    manifest = open_bundle(ref).manifest
    assert (manifest.name, manifest.version, manifest.training.epochs) == ("mlp", 1, 2)
    assert manifest.training.code_revision
    run_dir = tmp_path / "runs" / "mlp" / "seed-20"
    assert sorted(path.name for path in run_dir.iterdir()) == ["checkpoint.pt", "code_revision.txt", "tensorboard"]
    assert len(list((run_dir / "tensorboard").iterdir())) == 1
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each.get("number") or each["bundle"] for each in told] == [1, 2, "models/mlp/1"]


@pytest.mark.slow
def test_a_batch_that_is_too_small_for_its_processes_is_refused(torchrun):
    done = torchrun("train", "mlp", "--batch-size", "1")
    assert done.returncode != 0
    assert "error: mlp: batch_size must be 1 or more for each of 2 processes, got 1" in done.stderr


@pytest.mark.usefixtures("small")
def test_a_second_training_of_the_same_run_is_refused_and_takes_nothing_away(command, refused, tmp_path):
    assert command("train", "mlp", *FEW)[0] == 0
    run_dir = tmp_path / "runs" / "mlp" / "seed-20"
    kept = (run_dir / "checkpoint.pt").read_bytes()
    with checkpoint.exclusive(run_dir):
        assert "another training is under way in" in refused("train", "mlp", *FEW, "--fresh")
    assert (run_dir / "checkpoint.pt").read_bytes() == kept


@pytest.mark.usefixtures("small")
def test_who_interrupts_the_first_seed_gets_what_there_is_and_no_further_seeds(command, recipe, monkeypatch):
    recipe(network={"hidden": (16,)}, epochs=3, num_seeds=3)

    def interrupt(epoch):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "_tell_epoch", interrupt)
    code, out, err = command("train", "mlp", "--no-explanations")
    assert code == 0, err
    assert out.startswith("interrupted after 1 epochs")
    assert "seed 2" not in out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["numpy_mlp", "--workers", 2], "--loader is for torch networks"), (["mlp", "--jobs", 2], "--jobs is for")],
    ids=str,
)
def test_an_option_that_would_do_nothing_is_refused(refused, arguments, named):
    assert named in refused("train", *arguments)
