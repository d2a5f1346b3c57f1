"""What is costly to prepare, kept beside the data for the next run: checked, private and never half-written."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from training.data._source import user_folder

_REPOSITORY = Path(__file__).resolve().parents[2]


def cache_folder() -> Path:
    """Return where prepared data are kept: below ``DATA_DIR``, or below the user's own folder.

    What is prepared may be private letters, so that a ``DATA_DIR`` inside this repository is passed over.
    """
    given = os.environ.get("DATA_DIR")
    if given and not Path(given).resolve().is_relative_to(_REPOSITORY):
        return Path(given) / "cache"
    return user_folder() / "cache"


def key_of(*parts: str, code: tuple[Path, ...] = ()) -> str:
    """Return a key that changes with any of the parts, and with the code that prepares what is kept."""
    digest = hashlib.sha256()
    for part in (*(part.encode() for part in parts), *(path.read_bytes() for path in code)):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def cached(name: str, key: str, prepare: Callable[[], Any], *, folder: Path | None = None) -> Any:
    """Return what ``prepare`` returns, from the cache where it holds it.

    A cache that is damaged, cut off or of another key is prepared anew; where none can be written, because the folder
    is read-only or the disk full, there is none.

    Args:
        name: Of the file; a new key replaces the old file.
        key: Of :func:`key_of`.
        prepare: Returns something that JSON can hold.
        folder: Without it, :func:`cache_folder`.
    """
    path = (folder or cache_folder()) / f"{name}.json"
    body = _read(path, key)
    if body is not None:
        return json.loads(body)
    prepared = prepare()
    with suppress(OSError):
        _write(path, key, json.dumps(prepared, ensure_ascii=True).encode())
    return prepared


def _head(key: str, body: bytes) -> bytes:
    return f"{key} {hashlib.sha256(body).hexdigest()}\n".encode()


def _read(path: Path, key: str) -> bytes | None:
    try:
        head, _, body = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    return body if head + b"\n" == _head(key, body) else None


def _write(path: Path, key: str, body: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # for its owner's eyes only
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_head(key, body) + body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
