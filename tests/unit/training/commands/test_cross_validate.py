import dataclasses

import numpy as np
import pytest

from tests.support.small_training import pictures, sequences, texts
from training import data, loop
from training.commands.cross_validate import joined
from training.numpy_network import fitting


def test_a_torch_recipe_never_sees_the_test_split(command, monkeypatch):
    rows = dataclasses.replace(pictures(), test=None)
    monkeypatch.setattr(data, "load", lambda name, folder: rows)
    code, out, err = command("cross-validate", "mlp", "--folds", 3, "--epochs", 2)
    assert code == 0, err
    *lines, last = out.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["fold 1", "fold 2", "fold 3"]
    assert all("on 128 rows, after 2 epochs" in line for line in lines)
    assert last.startswith("mlp: accuracy 0.")
    assert " +- 0." in last
    assert last.endswith("over 3 folds")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("model", ["rnn", "lstm"])
def test_series_and_texts_are_cross_validated_too(told, model):
    found = told("cross-validate", model, "--folds", 2, "--epochs", 3)
    assert (found["model"], found["score"]) == (model, "accuracy")
    reached = found["contenders"][model]
    assert len(reached["scores"]) == 2
    assert reached["mean"] == pytest.approx(np.mean(reached["scores"]))
    assert reached["std"] == pytest.approx(np.std(reached["scores"]))


def test_a_table_is_measured_beside_its_simple_model(told):
    found = told("cross-validate", "numpy_mlp", "--folds", 3)
    assert set(found["contenders"]) == {"network", "logistic_regression"}
    assert all(len(each["scores"]) == 3 and each["mean"] > 0.9 for each in found["contenders"].values())


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["gnn"], "gnn"),
        (["mlp", "--folds", "1"], "--folds: must be a whole number of at least 2"),
        (["mlp", "--folds", "400"], "cannot make 400 folds of 384 rows"),
        (["mlp", "--learning-rate", "-1"], "learning_rate must be above 0"),
        (["numpy_mlp", "--precision", "bf16"], "there is no setting 'precision' of numpy_mlp"),
    ],
    ids=str,
)
def test_what_cannot_be_is_named(refused, arguments, named):
    assert named in refused("cross-validate", *arguments)


@pytest.mark.parametrize("make", [pictures, sequences, texts])
def test_rows_of_any_kind_are_put_behind_each_other(make):
    rows = make()
    every = joined(rows.train, rows.validation)
    assert type(every) is type(rows.train)
    assert len(every) == len(rows.train) + len(rows.validation)
    (last,) = every.take(np.array([len(every) - 1])).labels
    assert last == rows.validation.labels[-1]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("model", "epochs_from"), [("mlp", loop), ("numpy_mlp", fitting)])
def test_a_fold_that_is_interrupted_is_no_score(command, monkeypatch, model, epochs_from):
    plain = epochs_from.Epoch

    def interrupt_third(**fields):
        if fields["number"] == 3:
            raise KeyboardInterrupt
        return plain(**fields)

    monkeypatch.setattr(epochs_from, "Epoch", interrupt_third)
    code, out, err = command("cross-validate", model, "--folds", 2, "--epochs", 4)
    assert (code, out) == (130, "")
    assert err == "error: interrupted in fold 1, so there is no score of all\n"
