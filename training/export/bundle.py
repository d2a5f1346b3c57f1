"""Writes a bundle's folder, whole or not at all.

Everything goes into a hidden folder beside the target, is flushed to the disk, and is renamed in one step. One writer
at a time holds the model's folder locked, so a hidden folder found there belongs to a run that died, and is removed.
"""

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from app.bundle.files import sync_folder
from app.bundle.loader import MANIFEST_FILE
from app.bundle.manifest import FileRef, Manifest, is_version
from training.errors import VersionExists

_TEMPORARY = ".tmp-"

# writes a signature into the folder that it is called with
Seal: TypeAlias = Callable[[Path], object]


def next_version(models_dir: Path, name: str) -> int:
    """Return the version after the highest that a model has, or 1."""
    folder = models_dir / name
    taken = [int(path.name) for path in folder.iterdir() if is_version(path.name)] if folder.is_dir() else []
    return max(taken, default=0) + 1


def expect_free(models_dir: Path, name: str, version: int) -> None:
    """Refuse a version that is there already.

    Raises:
        VersionExists: It is; versions are immutable.
    """
    folder = models_dir / name / str(version)
    if folder.exists():
        raise VersionExists(
            f"{folder} is there already, and versions are immutable; the next free one is "
            f"{next_version(models_dir, name)}"
        )


def file_ref(path: str, data: bytes) -> FileRef:
    """Describe a file of a bundle."""
    return FileRef(path=path, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def write_bundle(
    models_dir: Path,
    manifest: Manifest,
    files: Mapping[str, bytes],
    *,
    seal: Seal | None = None,
) -> Path:
    """Write ``<models_dir>/<name>/<version>``.

    Args:
        models_dir: Created where it is missing.
        manifest: Names the bundle, and describes its artifacts and golden rows.
        files: Content by path inside the bundle; besides what the manifest describes, also reports.
        seal: Called with the folder once all is written and nobody has seen it, to add a signature; None for none.

    Returns:
        The bundle's folder.

    Raises:
        ValueError: The manifest describes a file that is not given, or other bytes.
        VersionExists: That version is there already.
        OSError: The disk is full, or the folder may not be written.
    """
    own_golden = (artifact.golden for artifact in manifest.artifacts if artifact.golden is not None)
    for described in (*manifest.artifacts, manifest.golden, *own_golden):
        data = files.get(described.path)
        given = None if data is None else file_ref(described.path, data)
        if given is None or (given.sha256, given.size_bytes) != (described.sha256, described.size_bytes):
            raise ValueError(f"the manifest describes {described.path}, but that is not the file to be written")
    content = {**files, MANIFEST_FILE: (manifest.model_dump_json(indent=2) + "\n").encode()}
    with _locked(models_dir / manifest.name) as folder:
        target = folder / str(manifest.version)
        expect_free(models_dir, manifest.name, manifest.version)
        for stale in folder.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(stale)
        hidden = folder / f"{_TEMPORARY}{manifest.version}-{secrets.token_hex(8)}"
        temporary = hidden / target.name  # named as it will be: a signature tells it
        try:
            for path, data in content.items():
                _write(temporary / PurePosixPath(path), data)
            if seal is not None:
                seal(temporary)
            _sync_tree(temporary)
            temporary.rename(target)
        except OSError as exc:
            # a full disk names no file
            raise OSError(exc.errno, f"{exc.strerror or exc}; nothing of the bundle is left", str(target)) from exc
        finally:
            shutil.rmtree(hidden, ignore_errors=True)
        sync_folder(folder)
    return target


@contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """Hold a model's folder for one writer; it is removed again where nothing came of it."""
    descriptor = _open_locked(folder)
    try:
        yield folder
    finally:
        with suppress(OSError):  # not empty, as it should be
            folder.rmdir()
        os.close(descriptor)


def _open_locked(folder: Path) -> int:
    """Lock the folder that bears the name once the lock is held: the one waited for may have been removed."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                return descriptor
        os.close(descriptor)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
    sync_folder(folder)
