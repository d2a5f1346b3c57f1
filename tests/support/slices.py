"""A small slice of each data set, so that every recipe can be trained for real in seconds.

As a script it is the trainer's own command line, on the slices: ``python -m tests.support.slices train mlp``.
"""

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from training import cli, data
from training.data import SPLIT_SEED, DataSet, Pictures, Rows, SequenceRows, Sequences, TextRows, Texts
from training.data import fashion_mnist as clothes
from training.data import japanese_vowels as vowels
from training.data import split as split_off
from training.data._strata import stratified

FIXTURES = Path(__file__).parents[1] / "fixtures"
# the tables are small, and come with scikit-learn
WHOLE = ("breast_cancer", "diabetes")

HAM = "meeting kernel patch review thanks build branch compile library thursday module merge driver socket"
SPAM = "free winner prize money credit offer guarantee click cheap bonus mortgage lottery income urgent"
BOTH = "the a and to of in we you it is for with this that on be have not are will"


def pictures() -> Pictures:
    """Return 320 pictures of clothes to train on, 64 for validation, 128 for the test."""
    with np.load(FIXTURES / "fashion_mnist_test_512.npz") as archive:
        rows = Rows(images=archive["images"], labels=archive["labels"].astype(np.int64))
    train, validation = split_off(rows.take(np.arange(384)), 64)
    return DataSet(
        **_facts("fashion_mnist"),
        classes=clothes.CLASSES,
        train=train,
        validation=validation,
        test=rows.take(np.arange(384, 512)),
    )


def series_rows() -> SequenceRows:
    """Return the ninety series of the fixture, ten of each speaker."""
    with np.load(FIXTURES / "japanese_vowels_test_90.npz") as archive:
        padded_NTK, lengths_N, labels_N = archive["series"], archive["lengths"], archive["labels"]
    series = tuple(each_TK[:length] for each_TK, length in zip(padded_NTK, lengths_N, strict=True))
    return SequenceRows(series=series, labels=labels_N.astype(np.int64))


def series() -> Sequences:
    """Return 54 series to train on, 18 for validation, 18 for the test; of each speaker as many."""
    rows = series_rows()
    left, tested = stratified(rows.labels, 18)
    rest, test = rows.take(left), rows.take(tested)
    trained, validated = stratified(rest.labels, 18)
    return Sequences(
        **_facts("japanese_vowels"),
        classes=vowels.CLASSES,
        train=rest.take(trained),
        validation=rest.take(validated),
        test=test,
        num_channels=vowels.NUM_CHANNELS,
        min_length=vowels.MIN_LENGTH,
        max_length=vowels.MAX_LENGTH,
    )


def texts() -> Texts:
    """Return 240 texts to train on, 60 for validation, 60 for the test: drawn from two vocabularies, by nobody."""
    rng = np.random.default_rng(SPLIT_SEED)
    labels_N = rng.permutation(np.arange(360) % 2)
    rows = TextRows(texts=tuple(_text(rng, label) for label in labels_N), labels=labels_N.astype(np.int64))
    train, validation, test = (rows.take(part_N) for part_N in np.split(np.arange(360), [240, 300]))
    return Texts(
        **_facts("spam_assassin"), classes=("ham", "spam"), train=train, validation=validation, test=test
    )  # fmt: skip


def _text(rng: np.random.Generator, label: int) -> str:
    """Draw a text of 5 to 60 words: half of them tell nothing, and of the others one in six misleads."""
    own, other = (SPAM.split(), HAM.split()) if label else (HAM.split(), SPAM.split())
    words = [
        str(rng.choice(BOTH.split() if rng.random() < 0.5 else other if rng.random() < 1 / 6 else own))
        for _ in range(rng.integers(5, 61))
    ]
    return " ".join(words).capitalize() + rng.choice([".", "!", "?"])


def _facts(name: str) -> dict[str, Any]:
    return {"name": data.source(name).title, "license": data.source(name).license, "files": {"slice": "0" * 64}}


_SLICES: dict[str, Callable[[], DataSet[Any]]] = {
    "fashion_mnist": pictures,
    "japanese_vowels": series,
    "spam_assassin": texts,
}
_load_whole = data.load


@cache
def load(name: str, data_dir: Path | None = None) -> DataSet[Any]:
    """Return the slice of a data set; in the place of :func:`training.data.load`."""
    if name in WHOLE or name not in data.names():
        return _load_whole(name)
    if name not in _SLICES:
        raise NotImplementedError(f"there is no slice of {name} yet; add one here, so that its recipes are tested")
    return _SLICES[name]()


if __name__ == "__main__":
    data.load = load
    sys.exit(cli.main())
