"""Where a data set comes from: its facts, the places where it may lie, and the digests that its files must have."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from training.errors import DataError, DataMissing


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The facts of a data set that are known without having it; every data module has one as ``SOURCE``.

    Attributes:
        title: As people write the data set's name.
        license: SPDX expression.
        splits: Rows for training, validation and test.
        how: How to get it, in words that can follow a semicolon.
        command: What gets it: the tool, then its arguments, run in the folder that is to receive the files; empty where
            no package manager of its own has to be asked.
        fetched: The files, by their name, that the command leaves in that folder; empty where it installs them in a
            place of its own.
    """

    title: str
    license: str
    splits: tuple[int, int, int]
    how: str
    command: tuple[str, ...] = ()
    fetched: tuple[str, ...] = field(default=())


def user_folder() -> Path:
    """Return the folder of this project's files below the user's own, which need not exist yet.

    Raises:
        DataError: The user has no home folder.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zero-to-one"
    except RuntimeError as exc:
        raise DataError("there is no home folder to look for data in; point DATA_DIR to one that is there") from exc


def data_folder() -> Path:
    """Return the folder where fetched files go: the environment's ``DATA_DIR``, or one below the user's own."""
    given = os.environ.get("DATA_DIR")
    return Path(given) if given else user_folder() / "data"


def find(source: Source, names: tuple[str, ...], data_dir: Path | None, *also: Path) -> Path:
    """Return the first file or folder of these names.

    Args:
        source: The data set, for the error.
        names: Relative paths; any of them will do.
        data_dir: Where to look, and nowhere else; without it the usual folder, and then those of ``also``.
        also: Other places.

    Raises:
        DataMissing: There is none; the message says where it was looked for, and how to get the data set.
    """
    folders = (data_dir,) if data_dir else (data_folder(), *also)
    for folder in folders:
        for name in names:
            if (folder / name).exists():
                return folder / name
    raise missing(source, names[0], *folders)


def missing(source: Source, name: str, *folders: Path) -> DataMissing:
    """Return the error for a file that is not there."""
    places = " or ".join(str(folder) for folder in folders)
    return DataMissing(f"{source.title} is not in {places}: {name} is missing; {source.how}")


def expect_digest(where: object, content: bytes, expected: str) -> None:
    """Check the content of a file, uncompressed.

    Raises:
        DataError: It has another SHA-256; both are named.
    """
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise DataError(
            f"{where} is damaged or another file: its {len(content)} uncompressed bytes have SHA-256 {actual}, "
            f"expected {expected}"
        )


def read_bytes(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as exc:
        raise DataError(f"{path} cannot be read: {exc.strerror or exc}") from exc


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the SHA-256 of each file's content."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
