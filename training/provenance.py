"""Where a bundle comes from: the revision of the code, and the libraries that ran it."""

import platform
import shutil
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("torch", "numpy", "onnx", "onnxscript", "onnxruntime", "safetensors")

# The code that decides what a bundle holds, relative to the repository.
_CODE = ("training", "app/bundle", "app/preprocess", "app/tensors.py")


def libraries(names: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Return the versions of Python and of every library that had a part in the numbers."""
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def code_revision(root: Path | None = None) -> str:
    """Return git's revision of the training code, with ``-dirty`` where it has changes that are not committed.

    Args:
        root: The folder that holds the packages; without it, the one that this file was imported from.

    Returns:
        ``unknown`` where git is missing or does not track the code.
    """
    root = root or Path(__file__).resolve().parent.parent
    git = shutil.which("git")
    if git is None or _git(git, root, "ls-files", "--error-unmatch", "training/__init__.py") is None:
        return "unknown"
    revision = _git(git, root, "rev-parse", "HEAD")
    if revision is None:
        return "unknown"
    changes = _git(git, root, "status", "--porcelain", "--", *(path for path in _CODE if (root / path).exists()))
    return f"{revision}-dirty" if changes else revision


def _git(git: str, root: Path, *arguments: str) -> str | None:
    done = subprocess.run([git, "-C", str(root), *arguments], capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() if done.returncode == 0 else None
