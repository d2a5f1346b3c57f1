import json

import pytest

from app.bundle.loader import find_bundles
from training import architectures, cli
from training.commands import _all, train

MODELS = ("numpy_mlp", "numpy_regression", "rnn")


@pytest.fixture(autouse=True)
def _few_models(monkeypatch, repository, no_data):
    """Two that train in a moment on data that come with scikit-learn, and one whose data are not here."""
    monkeypatch.setattr(train, "recipe_names", lambda: list(MODELS))
    monkeypatch.setenv("PYTHONPATH", str(repository))


@pytest.mark.no_cover  # others cover the same lines, and tracing doubles its time
@pytest.mark.slow
def test_one_that_fails_is_named_with_its_log_and_the_others_are_written(command, tmp_path):
    code, out, err = command("train", "all", "--epochs", 4, "--no-explanations", "--jobs", 2)
    assert code == 2
    assert err == "error: not trained: rnn; see runs/rnn/log.txt\n"
    assert [ref.name for ref in find_bundles(tmp_path / "models")] == ["numpy_mlp", "numpy_regression"]
    lines = out.splitlines()
    assert "2 of 3 models trained in" in lines[-1]
    assert {line.split(":")[0] for line in lines[:-1]} == set(MODELS)
    assert any(line.startswith("numpy_mlp: wrote models/numpy_mlp/1 (") for line in lines)
    log = (tmp_path / "runs" / "rnn" / "log.txt").read_text()
    assert log.startswith("error: Japanese vowels is not in ")
    assert "Traceback" not in log
    # what changes a recipe reaches each of them
    history = json.loads((tmp_path / "models" / "numpy_mlp" / "1" / "report" / "history.json").read_text())
    assert len(history) == 4
    assert not (tmp_path / "models" / "numpy_mlp" / "1" / "report" / "explain").exists()


@pytest.mark.no_cover  # others cover the same lines, and tracing doubles its time
@pytest.mark.slow
def test_json_is_a_line_for_each_model_and_nothing_else(command):
    code, out, _ = command("train", "all", "--epochs", 2, "--no-explanations", "--json")
    assert code == 2
    told = {each["model"]: each for each in map(json.loads, out.splitlines())}
    assert {name: each["exit_code"] for name, each in told.items()} == {
        "numpy_mlp": 0,
        "numpy_regression": 0,
        "rnn": 2,
    }
    assert told["rnn"]["log"] == "runs/rnn/log.txt"


def test_every_option_of_train_reaches_the_trainings_or_is_told_not_to():
    parser = cli._parser()
    parsed = parser.parse_args(["train", "all"])
    of_all = {"model", "version", "jobs", "run"}
    assert set(vars(parsed)) == {*_all.VALUED, *_all.FLAGS, *of_all}
    given = ["--seed", "3", "--learning-rate", "0.5", "--data-dir", "some where", "--fresh", "--no-explanations"]
    again = parser.parse_args(["train", "mlp", *_all._options(parser.parse_args(["train", "all", *given]))])
    assert vars(again) == vars(parser.parse_args(["train", "mlp", *given]))


def test_the_longest_begin_first():
    assert set(_all._LONGEST_FIRST) <= set(architectures.names())


def test_a_version_is_of_one_bundle(refused):
    assert "--version is of one bundle" in refused("train", "all", "--version", 3)


def test_several_processes_do_not_train_all_of_them_each(refused, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "several processes train one network together" in refused("train", "all")
