"""Checkpoints: a training that was killed goes on from its last finished epoch as if nothing had happened.

A checkpoint holds all that the next epoch depends on: the weights, the states of the optimizer, the schedule and the
gradient scaler, the epochs so far with the best weights among them, and where each generator of random numbers stood.
It is read without pickle's freedom to run code.
"""

import dataclasses
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch

from training.batches import Batches, Examples
from training.config import TrainConfig
from training.distributed import Process
from training.epochs import Stopped
from training.errors import CheckpointError
from training.seeding import random_state, restore_random_state

FILE_NAME = "checkpoint.pt"
FORMAT = 1
# settings that decide no weights of a run, so that it goes on where they are others
_NO_PART = ("num_seeds",)
_DIGEST_BYTES = hashlib.sha256().digest_size
_DIGESTED_ROWS = 1000


class Stateful(Protocol):
    """What a checkpoint holds: anything whose state can be had and set."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors, numbers, text and containers of them."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Take up a state."""
        ...


class Checkpoint:
    """The checkpoint of one run.

    Args:
        run_dir: Its folder; made where it is missing.
        parts: What is kept, by name.
        process: Of several, the first one reads and writes.
        config: What the run is decided by, with the rows of ``batches``.
        batches: The training split.
    """

    def __init__(
        self,
        run_dir: Path,
        parts: Mapping[str, Stateful],
        *,
        process: Process,
        config: TrainConfig,
        batches: Batches,
    ) -> None:
        self.path = run_dir / FILE_NAME
        self._parts = parts
        self._process = process
        self._run = describe_run(config, batches) if process.is_first else {}

    def resume(self) -> Stopped | None:
        """Set every part to where the checkpoint holds it, if there is one.

        Returns:
            Why the run ended, or None where it goes on.

        Raises:
            CheckpointError: The checkpoint is damaged, or of another run.
        """
        content = self._process.of_first(self._read)
        if content is None:
            return None
        try:
            for name, part in self._parts.items():
                part.load_state_dict(content["parts"][name])
            restore_random_state(content["random"][self._process.rank])
            stopped: Stopped | None = content["stopped"]
        except (LookupError, ValueError, RuntimeError, TypeError) as exc:
            raise CheckpointError(f"{self.path} does not fit this network: {_first_line(exc)}; remove it") from exc
        return stopped

    def save(self, stopped: Stopped | None) -> None:
        """Write all parts under a temporary name and put them in the place of the former checkpoint.

        Args:
            stopped: Why the run ended, if it did.

        Raises:
            CheckpointError: They cannot be written; the former checkpoint is still there.
        """
        states = self._process.of_all(random_state())
        if not self._process.is_first:
            return
        content = {
            "run": self._run,
            "stopped": stopped,
            "parts": {name: part.state_dict() for name, part in self._parts.items()},
            "random": states,
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self.path, pack(content))
        except OSError as exc:
            raise CheckpointError(
                f"cannot write {self.path}: {exc.strerror or exc}; the former one, if any, is kept"
            ) from exc

    def _read(self) -> dict[str, Any] | None:
        if not self.path.exists():
            return None
        try:
            data = self.path.read_bytes()
        except OSError as exc:
            raise CheckpointError(f"cannot read {self.path}: {exc.strerror}") from exc
        try:
            content = unpack(data)
            run = {name: value for name, value in content["run"].items() if name not in _NO_PART}
        except Exception as exc:  # a damaged file fails in many ways, and a hostile one in others
            raise CheckpointError(
                f"{self.path} is damaged, or no checkpoint of this version: {_first_line(exc)}; remove it to start anew"
            ) from exc
        if differences := [name for name in {**run, **self._run} if run.get(name) != self._run.get(name)]:
            first = differences[0]
            raise CheckpointError(
                f"{self.path} is of another run: {', '.join(differences)} differ ({first} was "
                f"{run.get(first)!r}, is {self._run.get(first)!r}); remove it, or choose another folder"
            )
        return dict(content)


@contextmanager
def exclusive(run_dir: Path) -> Iterator[None]:
    """Hold the folder of a run, made where it is missing, so that no two trainings write one checkpoint in turns.

    Raises:
        CheckpointError: Another training holds it.
        OSError: The folder cannot be made or opened.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(run_dir, os.O_RDONLY)
    try:
        try:
            # it is let go with the process, whatever ends that
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise CheckpointError(
                f"another training is under way in {run_dir}; wait for it, or choose another folder"
            ) from exc
        yield
    finally:
        os.close(descriptor)


def pack(content: Mapping[str, Any]) -> bytes:
    """Return a checkpoint's content as torch writes it, and the SHA-256 of that behind it."""
    data = io.BytesIO()
    torch.save({"format": FORMAT, **content}, data)
    return data.getvalue() + hashlib.sha256(data.getbuffer()).digest()


def unpack(data: bytes) -> dict[str, Any]:
    """Read what :func:`pack` made, onto the CPU.

    Raises:
        ValueError: The data are damaged, or of another format.
        Exception: They are not what torch writes, or more than tensors and plain containers.
    """
    written, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if hashlib.sha256(written).digest() != digest:
        raise ValueError("its digest is another")
    content: dict[str, Any] = torch.load(io.BytesIO(written), map_location="cpu", weights_only=True)
    if content["format"] != FORMAT:
        raise ValueError(f"its format is {content['format']!r}, not {FORMAT}")
    return content


def describe_run(config: TrainConfig, batches: Batches) -> dict[str, Any]:
    """Return all that decides the weights of a run, by name: each setting, the training rows, the processes."""
    deciding = {name: value for name, value in dataclasses.asdict(config).items() if name not in _NO_PART}
    settings = json.loads(json.dumps(deciding, default=str))
    return {**settings, "rows": rows_digest(batches.examples), "processes": batches.world_size}


def rows_digest(examples: Examples) -> str:
    """Return the SHA-256 of all rows as a network takes them, before any augmentation."""
    digest = hashlib.sha256()
    for indices_B in torch.split(torch.arange(len(examples)), _DIGESTED_ROWS):
        batch = examples.batch(indices_B)
        for tensor in (*batch.inputs, batch.targets):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def replace_file(path: Path, content: bytes | memoryview) -> None:
    """Put a file in the place of another; after a crash or a full disk there is the one or the other, whole."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere folders cannot be opened, and names are synced with their files
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
