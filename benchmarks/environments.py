"""Each peer in a virtual environment of its own, made on first use from the versions in its ``requirements.txt``."""

import hashlib
import re
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.pictures import REPOSITORY

PEERS_DIR = REPOSITORY / "benchmarks" / "peers"
FOLDER = REPOSITORY / "build" / "bench"
INSTALL_TIMEOUT_S = 900.0
_STAMP = "made-from"


class NotInstalled(RuntimeError):
    """An environment that cannot be made here; the message says why."""


def names() -> tuple[str, ...]:
    """Return the peers that have an environment of their own."""
    return tuple(sorted(path.parent.name for path in PEERS_DIR.glob("*/requirements.txt")))


def requirements(peer: str) -> dict[str, str]:
    """Return the version of every package of a peer's environment, by name."""
    lines = (PEERS_DIR / peer / "requirements.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def interpreter(peer: str) -> Path:
    """Return the interpreter of a peer's environment, which is there or is not."""
    return FOLDER / peer / "bin" / "python"


def is_made(peer: str) -> bool:
    """Return whether the environment is there, of this Python and of these versions."""
    try:
        return (FOLDER / peer / _STAMP).read_text() == _fingerprint(peer)
    except FileNotFoundError:
        return False


def make(peer: str) -> Path:
    """Make a peer's environment unless it is there, and return its interpreter.

    Raises:
        NotInstalled: pip says no, or takes too long; the message ends with its last words.
    """
    if is_made(peer):
        return interpreter(peer)
    folder = FOLDER / peer
    venv.create(folder, clear=True, with_pip=True, symlinks=True)
    command = [
        str(interpreter(peer)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input",
        "--requirement", str(PEERS_DIR / peer / "requirements.txt"),
    ]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.CalledProcessError as exc:
        raise NotInstalled(last_words(exc.stderr, "pip")) from exc
    except subprocess.TimeoutExpired as exc:
        raise NotInstalled(f"pip was not done after {INSTALL_TIMEOUT_S:.0f} s") from exc
    (folder / _STAMP).write_text(_fingerprint(peer))
    return interpreter(peer)


def _fingerprint(peer: str) -> str:
    """Return what an environment is made from; a change makes it anew."""
    text = sys.version + (PEERS_DIR / peer / "requirements.txt").read_text()
    return hashlib.sha256(text.encode()).hexdigest()


def last_words(stderr: str, program: str) -> str:
    """Return a program's error without the addresses and paths of this machine."""
    lines = [line for line in stderr.splitlines() if re.match("ERROR:|E: ", line)] or stderr.splitlines()
    if not lines:
        return f"{program} failed"
    return re.sub(r"(?:https?|file)://\S+|/\S+/", "...", re.sub("^(?:ERROR|E): ", "", lines[-1]))
