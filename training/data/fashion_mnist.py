"""Fashion-MNIST: 70,000 grey pictures of clothing, 28x28, ten classes (Xiao, Rasul and Vollgraf, arXiv:1708.07747)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from training.data import DataSet, Pictures, Rows, split
from training.data._idx import parse_idx, read_maybe_gzipped
from training.data._source import Source, expect_digest, find, missing
from training.errors import DataError

DEFAULT_DIR = Path("/usr/share/datasets/fashion-mnist")
NUM_VALIDATION = 5_000
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"

# Of the uncompressed content: distributions of the data set compress it differently.
DIGESTS = {
    TRAIN_IMAGES: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    TRAIN_LABELS: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    TEST_IMAGES: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    TEST_LABELS: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}

SOURCE = Source(
    title="Fashion-MNIST",
    license="MIT",
    splits=(60_000 - NUM_VALIDATION, NUM_VALIDATION, 10_000),
    how=(
        "install it with 'apt-get install dataset-fashion-mnist', or point DATA_DIR (or --data-dir) to a folder that "
        f"holds {', '.join(f'{each}.gz' for each in DIGESTS)} (or the same uncompressed)"
    ),
    command=("apt-get", "install", "--yes", "--no-install-recommends", "dataset-fashion-mnist"),
)


def locate(data_dir: Path | None = None) -> Path:
    """Return the folder that holds the first of the files.

    Raises:
        DataMissing: None does.
    """
    return find(SOURCE, (f"{TRAIN_IMAGES}.gz", TRAIN_IMAGES), data_dir, DEFAULT_DIR).parent


def load(
    data_dir: Path | None = None, *, digests: Mapping[str, str] = DIGESTS, num_validation: int = NUM_VALIDATION
) -> Pictures:
    """Read, check and split the data set.

    Args:
        data_dir: Folder with the four IDX files, plain or gzip; without it ``DATA_DIR`` or the usual folder, and then
            the place where Debian's package ``dataset-fashion-mnist`` puts them.
        digests: SHA-256 that the uncompressed files must have.
        num_validation: How many of the training rows are set aside for validation.

    Raises:
        DataError: A file is missing, damaged or not the one expected.
    """
    folder = locate(data_dir)
    content = {name: _read(folder, name, digests[name]) for name in digests}
    train, validation = split(_rows(content, TRAIN_IMAGES, TRAIN_LABELS), num_validation)
    return DataSet(
        name=SOURCE.title,
        license=SOURCE.license,
        classes=CLASSES,
        files=dict(digests),
        train=train,
        validation=validation,
        test=_rows(content, TEST_IMAGES, TEST_LABELS),
    )


def _read(folder: Path, name: str, digest: str) -> bytes:
    path = next((p for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)
    if path is None:
        raise missing(SOURCE, f"{name}.gz", folder)
    content = read_maybe_gzipped(path)
    expect_digest(path, content, digest)
    return content


def _rows(content: Mapping[str, bytes], images_name: str, labels_name: str) -> Rows:
    images = parse_idx(content[images_name], name=images_name, rank=3)
    labels = parse_idx(content[labels_name], name=labels_name, rank=1).astype(np.int64)
    if len(images) != len(labels):
        raise DataError(f"{images_name} holds {len(images)} images, but {labels_name} {len(labels)} labels")
    if labels.size and labels.max() >= len(CLASSES):
        raise DataError(f"{labels_name} holds the label {labels.max()}, expected 0 to {len(CLASSES) - 1}")
    return Rows(images=images, labels=labels)
