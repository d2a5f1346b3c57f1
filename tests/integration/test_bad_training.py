"""What the trainer's command line answers to data and configs that are not right: one line that names the fault."""

import dataclasses
import gzip
import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import slices
from training import cli, config, data
from training.data import SequenceRows, Sequences
from training.data.breast_cancer import DIGESTS as TABLE_DIGESTS
from training.data.fashion_mnist import DIGESTS as PICTURE_DIGESTS
from training.data.japanese_vowels import DIGESTS as SERIES_DIGESTS
from training.data.japanese_vowels import TEST_FILE, TRAIN_FILE
from training.data.spam_assassin import ARCHIVE
from training.data.spam_assassin import DIGESTS as MAIL_DIGESTS


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that is to fail, and return the one line that it says."""
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def other_pictures(folder: Path) -> None:
    for name in PICTURE_DIGESTS:
        (folder / f"{name}.gz").write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\0"))


def swapped_series(folder: Path) -> None:
    for name, other in ((TRAIN_FILE, "test"), (TEST_FILE, "train")):
        (folder / name).write_text(f"# the rows of {other}\n@data\n")


def other_mails(folder: Path) -> None:
    with tarfile.open(folder / ARCHIVE, "w:gz") as archive:
        member = tarfile.TarInfo("package/data/spam-1/0001.txt")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"Hello"))


def other_table(folder: Path) -> None:
    for name in TABLE_DIGESTS:
        (folder / name).write_text("1,2\n")


@pytest.mark.parametrize(
    ("model", "write", "digests"),
    [
        ("cnn", other_pictures, PICTURE_DIGESTS),
        ("autoencoder", other_pictures, PICTURE_DIGESTS),
        ("rnn", swapped_series, SERIES_DIGESTS),
        ("transformer", other_mails, MAIL_DIGESTS),
        ("numpy_mlp", other_table, TABLE_DIGESTS),
    ],
)
def test_a_swapped_file_is_named_with_both_digests(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    model: str,
    write: Callable[[Path], None],
    digests: Mapping[str, str],
) -> None:
    (tmp_path / "data").mkdir()
    write(tmp_path / "data")
    told = complaint(capsys, "train", model, "--data-dir", tmp_path / "data", "--models-dir", tmp_path / "models")
    assert str(tmp_path / "data") in told
    assert "is damaged or another file" in told
    assert "have SHA-256 " in told
    assert f"expected {next(iter(digests.values()))}" in told
    assert not (tmp_path / "models").exists()


def test_a_truncated_file_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in PICTURE_DIGESTS:
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(bytes(10_000))[:-9])
    told = complaint(capsys, "train", "mlp", "--data-dir", tmp_path)
    assert str(tmp_path / next(iter(PICTURE_DIGESTS))) in told


@pytest.mark.parametrize(
    ("model", "changes", "named"),
    [
        ("mlp", {"optimizer": "adamm"}, "there is no optimizer 'adamm', there are: sgd, momentum"),
        ("mlp", {"schedule": "triangle"}, "there is no schedule 'triangle'"),
        ("mlp", {"dropout": 0.3}, "'dropout'"),
        ("mlp", {"weight_decay": -1}, "weight_decay must be at least 0"),
        ("mlp", {"architecture": "gnn"}, "there is no architecture 'gnn', there are: autoencoder, cnn"),
        ("mlp", {"network": {"widths": 3}}, "has no config field 'widths'"),
        ("mlp", {"network": {"hidden": (0,)}}, "hidden[0] must be a whole number"),
        ("mlp", {"network": {"num_classes": 7}}, "num_classes of the network follows from the data"),
        ("mlp", {"data_set": "cifar"}, "there is no data set 'cifar', there are: breast_cancer"),
        ("mlp", {"data_set": "diabetes"}, "image_classification takes Rows, and Diabetes"),
        ("mlp", {"problem": "translation"}, "there is no problem 'translation'"),
        ("mlp", {"problem": "text_classification"}, "text_classification takes TextRows, and Fashion-MNIST has Rows"),
        ("mlp", {"data_options": {"crop": 20}}, "there is no data option 'crop'; there are: none"),
        (
            "rnn",
            {"data_options": {"max_length": 8}},
            "steps, expected 7 to 8; leave it out, or change the data options",
        ),
        ("rnn", {"data_options": {"min_length": 40}}, "min_length"),
        ("lstm", {"data_options": {"max_tokens": 10**6}}, "max_tokens"),
        ("autoencoder", {"network": {"code_size": 7}}, "code_size of the network follows from the data"),
        ("numpy_mlp", {"network": {"activation": "swish"}}, "activation must be one of"),
        ("numpy_mlp", {"data_set": "fashion_mnist"}, "takes a table, Fashion-MNIST is none"),
    ],
    ids=str,
)
def test_a_fault_of_a_recipe_is_named_before_any_training(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    model: str,
    changes: dict[str, Any],
    named: str,
) -> None:
    monkeypatch.setattr(data, "load", slices.load)
    recipes = config._RECIPES if model in config._RECIPES else config._NUMPY_RECIPES
    monkeypatch.setitem(recipes, model, {**recipes[model], **changes})
    told = complaint(
        capsys, "train", model, "--models-dir", tmp_path / "models", "--runs-dir", tmp_path / "runs"
    )  # fmt: skip
    assert named in told
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("length", [0, 1, 30])
def test_a_series_of_no_steps_or_out_of_bounds_is_named_by_its_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, length: int
) -> None:
    whole = slices.series()
    series = (*whole.train.series[:4], np.zeros((length, 12), np.float32), *whole.train.series[5:])
    damaged: Sequences = dataclasses.replace(whole, train=SequenceRows(series=series, labels=whole.train.labels))
    monkeypatch.setattr(data, "load", lambda name, folder: damaged)
    told = complaint(capsys, "train", "rnn", "--models-dir", tmp_path / "models", "--runs-dir", tmp_path / "runs")
    assert f"Japanese vowels, train split, series 5: {length} steps, expected 7 to 29" in told
    assert not (tmp_path / "models").exists()
