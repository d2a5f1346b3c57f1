"""A folder of pictures, with those in the folders below it, by their names."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from app.predict.errors import BadUse
from app.predict.fields import PICTURE_SUFFIXES, Files
from app.predict.rows import Chunk, Row
from app.predict.sources import Reading
from app.tasks import Task


class Folder:
    """The pictures; see :class:`app.predict.sources.Source`. A row's id is its path below the folder."""

    unit = "rows"
    has_ids = True
    keep: tuple[str, ...] = ()

    def __init__(self, path: Path, reading: Reading) -> None:
        if all(field.kind != "picture" for field in reading.fields):
            raise BadUse(f"{path} is a folder, and this model takes no pictures")
        if reading.keep or reading.id_column is not None:
            raise BadUse("a folder of pictures has no columns for --id or --keep")
        self._path = path
        self._reading = reading
        self._files = Files(path, reading.max_row_bytes)
        self.total = sum(1 for _ in names(path))

    def chunks(self, position: Mapping[str, int]) -> Iterator[Chunk]:
        """Yield chunks; see :class:`app.predict.sources.Source`."""
        row = position.get("row", 0)
        found = islice(names(self._path), row, None)
        while some := list(islice(found, self._reading.chunk_rows)):
            stop = row + len(some)
            yield Chunk(first_row=row, num_rows=len(some), end={"row": stop}, done=stop, content=some)
            row = stop

    def rows(self, chunk: Chunk, task: Task) -> list[Row]:
        """Read the files; see :class:`app.predict.sources.Source`."""
        return [Row(self._files.read(name), id=name) for name in chunk.content]

    def close(self) -> None:
        """Do nothing: no file stays open."""


def open_source(path: Path, reading: Reading) -> Folder:
    """Look a folder through; see :func:`app.predict.sources.open_source`."""
    return Folder(path, reading)


def names(folder: Path, below: str = "") -> Iterator[str]:
    """Yield the paths of all pictures below a folder, in the order of their names; hidden ones are passed over.

    Raises:
        BadUse: The folder cannot be read.
    """
    try:
        entries = sorted(
            (entry.name, entry.is_dir()) for entry in os.scandir(folder / below) if not entry.name.startswith(".")
        )
    except OSError as exc:
        raise BadUse(f"{folder / below} cannot be read: {exc.strerror or exc}") from exc
    for name, is_folder in entries:
        path = f"{below}/{name}" if below else name
        if is_folder and not _leads_back(folder / path):
            yield from names(folder, path)
        elif not is_folder and name.lower().endswith(PICTURE_SUFFIXES):
            yield path


def _leads_back(path: Path) -> bool:
    """Tell whether a folder is a link to one that it lies in, which has no end."""
    return path.is_symlink() and path.parent.resolve().is_relative_to(path.resolve())


def identity(path: Path) -> dict[str, Any]:
    """Return the number of pictures, and a digest of their names, sizes and times of change."""
    digest, count = hashlib.sha256(), 0
    for name in names(path):
        count += 1
        try:
            status = (path / name).stat()
            line = f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n"
        except OSError:
            line = f"{name}\0\n"
        digest.update(line.encode(errors="surrogateescape"))
    return {"files": count, "listing_sha256": digest.hexdigest()}
