"""Gets a data set with the package manager that has it: into a folder of its own, and checked before it is moved."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.data._source import Source
from training.errors import DataError, FetchFailed

TIMEOUT_S = 1_800

_UNFINISHED = ".fetch-"


def fetch(source: Source, folder: Path, load: Callable[[Path | None], Any]) -> Path | None:
    """Run the command that gets a data set, and move its checked files into a folder.

    Args:
        source: The data set; it must have a command.
        folder: What receives the files; made where it is missing.
        load: Reads the data set from a folder, or from its usual places, and raises :class:`DataError`.

    Returns:
        The folder; None where the package manager has a place of its own.

    Raises:
        FetchFailed: The tool is missing or failed, or left something else than the data set.
    """
    if not source.fetched:
        _run(source, Path.cwd())
        _check(source, load, None)
        return None
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    # beside its place: a rename across file systems is none
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=folder) as unfinished:
        _run(source, Path(unfinished))
        _check(source, load, Path(unfinished))
        for name in source.fetched:
            os.replace(Path(unfinished) / name, folder / name)
    return folder


def _sweep(folder: Path) -> None:
    """Remove what runs that were killed have left, and nothing that another run may be filling."""
    for unfinished in folder.glob(f"{_UNFINISHED}*"):
        if time.time() - unfinished.stat().st_mtime > 2 * TIMEOUT_S:
            shutil.rmtree(unfinished, ignore_errors=True)


def _check(source: Source, load: Callable[[Path | None], Any], folder: Path | None) -> None:
    try:
        load(folder)
    except DataError as exc:
        raise FetchFailed(f"{source.command[0]} left something else than {source.title}: {exc}") from exc


def _run(source: Source, folder: Path) -> None:
    tool, *arguments = source.command
    if tool == "apt-get" and os.geteuid() != 0:
        raise FetchFailed(f"apt-get must be run as root: sudo {' '.join(source.command)}")
    command = [sys.executable, "-m", "pip"] if tool == "pip" else [shutil.which(tool) or tool]
    try:
        done = subprocess.run(  # noqa: S603 - a command of ours, without a shell
            [*command, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as exc:
        raise FetchFailed(f"{source.title} comes with {tool}, which is not installed here; {source.how}") from exc
    except OSError as exc:
        raise FetchFailed(f"{tool} cannot be run: {exc.strerror or exc}") from exc
    except subprocess.TimeoutExpired as exc:
        raise FetchFailed(f"{tool} was not done after {TIMEOUT_S} s: {' '.join(source.command)}") from exc
    if done.returncode != 0:
        raise FetchFailed(f"'{' '.join(source.command)}' failed with {done.returncode}: {_reason(done.stdout)}")


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = [line for line in lines if line.lower().startswith(("e:", "error", "npm err", "npm error"))]
    return " / ".join((told or lines)[:3]) or "it said nothing"
