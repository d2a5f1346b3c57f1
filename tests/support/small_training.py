"""The trainer's command line on a few rows, in this process or, as a script, in one of its own."""

import functools
import sys
from pathlib import Path

import numpy as np

from training import bundling, cli, data
from training.data import DataSet, Rows, SequenceRows, Sequences, TextRows, Texts, split
from training.data.fashion_mnist import CLASSES

FIXTURE = Path(__file__).parents[1] / "fixtures" / "fashion_mnist_test_512.npz"
WANTED = ("meeting", "thursday", "patch", "kernel", "review", "build", "report", "minutes")
UNWANTED = ("free", "prize", "money", "click", "offer", "winner", "cheap", "pills")
# the plain forms alone: the others have tests of their own
export = functools.partial(bundling.export, variants=(), explained=False)


def pictures() -> DataSet[Rows]:
    """Return 512 real pictures: 320 to train on, 64 for validation, 128 for the test."""
    with np.load(FIXTURE) as archive:
        rows = Rows(images=archive["images"], labels=archive["labels"].astype(np.int64))
    train, validation = split(rows.take(np.arange(384)), 64)
    return DataSet(
        name="Fashion-MNIST",
        license="MIT",
        classes=CLASSES,
        files={"slice": "0" * 64},
        train=train,
        validation=validation,
        test=rows.take(np.arange(384, 512)),
    )


def sequences() -> Sequences:
    """Return made-up series of two channels, whose class shows in their mean."""
    rng = np.random.default_rng(0)

    def rows(count: int) -> SequenceRows:
        labels_N = np.arange(count, dtype=np.int64) % 3
        series = (rng.normal(label, 1, (rng.integers(3, 8), 2)).astype(np.float32) for label in labels_N)
        return SequenceRows(series=tuple(series), labels=labels_N)

    return Sequences(
        name="Made-up series",
        license="CC0-1.0",
        classes=("a", "b", "c"),
        files={"made-up": "1" * 64},
        train=rows(90),
        validation=rows(30),
        test=rows(45),
        num_channels=2,
        min_length=3,
        max_length=7,
    )


def texts() -> Texts:
    """Return made-up texts, whose class shows in their words."""
    rng = np.random.default_rng(0)

    def rows(count: int) -> TextRows:
        labels_N = np.arange(count, dtype=np.int64) % 2
        words = (rng.choice((WANTED, UNWANTED)[label], rng.integers(2, 12)) for label in labels_N)
        return TextRows(texts=tuple(" ".join(each) for each in words), labels=labels_N)

    return Texts(
        name="Made-up texts",
        license="CC0-1.0",
        classes=("wanted", "unwanted"),
        files={"made-up": "2" * 64},
        train=rows(96),
        validation=rows(32),
        test=rows(40),
    )


SMALL = {"fashion_mnist": pictures, "japanese_vowels": sequences, "spam_assassin": texts}


if __name__ == "__main__":
    data.load = lambda name, folder=None: SMALL[name]()
    sys.exit(cli.main())
