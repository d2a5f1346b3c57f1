"""Japanese vowels: 640 utterances of /ae/ by nine men, as 12 cepstrum coefficients a frame; whose voice is it?

From the UCI repository (Kudo, Toyama and Shimbo, 1999, https://doi.org/10.24432/C5NS47), under CC BY 4.0; PyPI's
``aeon`` carries a copy. The recordings were made at 10 kHz; a step is a frame of 25.6 ms, 6.4 ms behind the one before.
The test split is the source's own: of the same men on other occasions.
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from training.data import SequenceRows, Sequences
from training.data._source import Source, expect_digest, find, missing, read_bytes
from training.data._strata import stratified
from training.data._ts import parse_ts
from training.errors import DataError

AEON = "1.6.0"
WHEEL = f"aeon-{AEON}-py3-none-any.whl"
TRAIN_FILE, TEST_FILE = "JapaneseVowels_TRAIN.ts", "JapaneseVowels_TEST.ts"
DIGESTS = {
    TRAIN_FILE: "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
    TEST_FILE: "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
}
NUM_VALIDATION = 54
NUM_CHANNELS, MIN_LENGTH, MAX_LENGTH = 12, 7, 29
CLASSES = tuple(f"speaker {number}" for number in range(1, 10))
SOURCE = Source(
    title="Japanese vowels",
    license="CC-BY-4.0",
    splits=(216, NUM_VALIDATION, 370),
    how=(
        "fetch it with 'python -m training data fetch japanese_vowels' (pip), or point DATA_DIR (or --data-dir) to a "
        f"folder that holds {WHEEL}, or {TRAIN_FILE} and {TEST_FILE}"
    ),
    command=("pip", "download", "--no-deps", "--only-binary=:all:", "--dest=.", f"aeon=={AEON}"),
    fetched=(WHEEL,),
)

_IN_WHEEL = "aeon/datasets/data/JapaneseVowels"


def locate(data_dir: Path | None = None) -> Path:
    """Return the folder of the two files, or the wheel that holds them.

    Raises:
        DataMissing: Neither is there.
    """
    path = find(SOURCE, (TRAIN_FILE, WHEEL), data_dir)
    return path if path.name == WHEEL else path.parent


def load(
    data_dir: Path | None = None, *, digests: Mapping[str, str] = DIGESTS, num_validation: int = NUM_VALIDATION
) -> Sequences:
    """Read, check and split the data set.

    Args:
        data_dir: Folder with the two files or with aeon's wheel; without it, ``DATA_DIR`` or the usual folder.
        digests: SHA-256 that the files must have.
        num_validation: How many of the training rows are set aside, of each speaker as many.

    Raises:
        DataError: A file is missing, damaged or not the one expected.
    """
    path = locate(data_dir)
    content = {name: _read(path, name) for name in digests}
    for name, digest in digests.items():
        expect_digest(path / name, content[name], digest)
    rows, test = (_rows(content[name], name) for name in (TRAIN_FILE, TEST_FILE))
    left, taken = stratified(rows.labels, num_validation)
    return Sequences(
        name=SOURCE.title,
        license=SOURCE.license,
        classes=CLASSES,
        files=dict(digests),
        train=rows.take(left),
        validation=rows.take(taken),
        test=test,
        num_channels=NUM_CHANNELS,
        min_length=MIN_LENGTH,
        max_length=MAX_LENGTH,
    )


def _read(path: Path, name: str) -> bytes:
    if path.is_dir():
        if not (path / name).is_file():
            raise missing(SOURCE, name, path)
        return read_bytes(path / name)
    try:
        with zipfile.ZipFile(path) as wheel:
            return wheel.read(f"{_IN_WHEEL}/{name}")
    except (zipfile.BadZipFile, KeyError, EOFError, zlib.error) as exc:
        raise DataError(f"{path} is damaged, cut off or another file: {exc}") from exc
    except OSError as exc:
        raise DataError(f"{path} cannot be read: {exc.strerror or exc}") from exc


def _rows(content: bytes, name: str) -> SequenceRows:
    series, labels = parse_ts(content, name=name, num_channels=NUM_CHANNELS)
    known = {str(number): number - 1 for number in range(1, len(CLASSES) + 1)}
    for number, (each, label) in enumerate(zip(series, labels, strict=True), 1):
        if label not in known or not MIN_LENGTH <= len(each) <= MAX_LENGTH:
            raise DataError(
                f"{name}, series {number}: {len(each)} steps of class {label!r}, expected {MIN_LENGTH} to "
                f"{MAX_LENGTH} of a class from 1 to {len(CLASSES)}"
            )
    return SequenceRows(series=tuple(series), labels=np.array([known[label] for label in labels], np.int64))
