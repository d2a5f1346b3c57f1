"""What was measured of a bundle on one machine, and what is served otherwise there because of it.

It lies beside the folder of the version, never in it: ``models/<name>/<version>.tuning.json``, or below
``ZTO_STATE_DIR`` where the models cannot be written to. It holds for the artifact, the processor and the runtime that
it was measured with, and for no others: whoever reads it compares, and goes by the manifest where they differ.
"""

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from app import cpus, machine
from app.bundle.loader import Bundle, BundleRef
from app.bundle.manifest import NAME_PATTERN, Batching
from app.bundle.parts import Part, Sha256
from app.errors import BundleError

_RUNTIMES = {
    "onnx": ("onnxruntime", "onnxruntime-gpu"),
    "state_dict": ("torch",),
    "torch_export": ("torch",),
    "torchscript": ("torch",),
}


class Environment(Part):
    """Where it was measured.

    Attributes:
        processor: Its name.
        cores: Of the machine, as far as its control groups pay for them; not those that the process was pinned to.
        runtime: Versions of what computes, by package.
        device: Where it computed.
    """

    processor: str
    cores: Annotated[int, Field(gt=0)]
    runtime: dict[str, str]
    device: Literal["cpu", "cuda"]


class Choice(Part):
    """One way of serving a model.

    Attributes:
        backend: Key of the artifact.
        threads: Of the runtime inside one call.
        batching: What one call may hold.
        run_on: Where batches run; ``auto`` leaves it to the warm-up.
    """

    backend: str
    threads: Annotated[int, Field(ge=1, le=1024)]
    batching: Batching
    run_on: Literal["auto", "loop", "thread"] = "auto"


class Measured(Part):
    """One candidate, and why it was taken or not.

    Attributes:
        step: What was asked when it was measured: ``artifact``, ``threads``, ``max_rows``, ...
        choice: The candidate.
        rows_per_s: In each round.
        median_rows_per_s: Of these; None where it was not run.
        batch_ms: Of a full batch, the fastest of some.
        verdict: In words.
    """

    step: str
    choice: Choice
    rows_per_s: tuple[float, ...] = ()
    median_rows_per_s: float | None = None
    batch_ms: float | None = None
    verdict: str


class Tuning(Part):
    """The override, with its evidence.

    Attributes:
        sha256: Digest of the artifact that was measured.
        choice: How to serve it here.
        measured_at: Date and time, ISO 8601.
        clients: Requests that were in flight.
        max_batch_ms: Longest full batch that was allowed.
        gain: Rows a second with the choice, over those with the manifest's settings, in the last rounds.
        candidates: All that was measured.
    """

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    version: Annotated[int, Field(gt=0)]
    sha256: Sha256
    choice: Choice
    environment: Environment
    measured_at: str
    clients: Annotated[int, Field(gt=0)]
    max_batch_ms: Annotated[float, Field(gt=0)]
    gain: Annotated[float, Field(gt=0)]
    candidates: tuple[Measured, ...]


def path_of(ref: BundleRef, state_dir: Path | None = None) -> Path:
    """Return where the tuning of a version lies: beside its folder, or below the folder of states where one is set."""
    folder = ref.folder.parent if state_dir is None else state_dir / ref.name
    return folder / f"{ref.version}.tuning.json"


def runtime_of(key: str) -> dict[str, str]:
    """Return the versions of the packages that run the artifact of a key."""
    packages = _RUNTIMES.get(key.partition("-")[0], ())
    return machine.versions(*packages)


def runtime_is_installed(key: str) -> bool:
    """Tell whether the artifact of a key has its runtime here; a format that needs none has."""
    return key.partition("-")[0] not in _RUNTIMES or bool(runtime_of(key))


def read_tuning(bundle: Bundle, state_dir: Path | None = None) -> Tuning | None:
    """Return the tuning of a bundle that holds here; None where there is none.

    Where a folder of states is set, it is looked into first, and then beside the bundle.

    Raises:
        BundleError: There is one, and it is damaged, or was measured of something else; the message says how to mend
            it. It is never a reason not to serve the bundle.
    """
    manifest = bundle.manifest
    ref = BundleRef(name=manifest.name, version=manifest.version, folder=bundle.folder)
    for path in (path_of(ref, state_dir), path_of(ref)):
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise BundleError(f"{path.name} cannot be read: {exc.strerror or exc}") from exc
        try:
            tuning = Tuning.model_validate_json(text)
        except ValidationError as exc:
            fault = exc.errors()[0]
            where = ".".join(str(part) for part in fault["loc"]) or "document"
            raise BundleError(f"{path.name} is not valid: {where}: {fault['msg']}; {_again(manifest.name)}") from exc
        if stale := _stale_because(tuning, bundle):
            raise BundleError(f"{path.name} was measured {stale}; {_again(manifest.name)}")
        return tuning
    return None


def write_tuning(tuning: Tuning, path: Path) -> None:
    """Write it whole or not at all: under another name first, which is then renamed.

    Raises:
        BundleError: The folder cannot be written to.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".tmp-{path.name}-", mode="w", encoding="utf-8", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(tuning.model_dump_json(indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # whoever serves may be somebody else
        temporary.replace(path)
    except OSError as exc:
        raise BundleError(
            f"{path} cannot be written: {exc.strerror or exc}; set ZTO_STATE_DIR to a folder that can"
        ) from exc
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink()


def _stale_because(tuning: Tuning, bundle: Bundle) -> str | None:
    manifest, measured = bundle.manifest, tuning.environment
    artifact = manifest.artifact(tuning.choice.backend)
    if (tuning.name, tuning.version) != (manifest.name, manifest.version):
        return f"of {tuning.name}/{tuning.version}"
    if artifact is None or artifact.sha256 != tuning.sha256:
        return f"of another {tuning.choice.backend} artifact than the bundle has"
    if tuning.choice.batching.max_elements is not None and manifest.batching.max_elements is None:
        return "with a bound on elements, which this model has not"
    here = (machine.processor(), cpus.num_cores_of_machine(), runtime_of(tuning.choice.backend))
    for what, there, now in zip(
        ("the processor", "a number of cores of", "the runtime"),
        (measured.processor, measured.cores, measured.runtime),
        here,
        strict=True,
    ):
        if there != now:
            return f"with {what} {_words(there)}, and here is {_words(now)}"
    return None


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number}" for name, number in value.items()) or "none"
    return str(value)


def _again(name: str) -> str:
    return f"measure again with: python -m app tune {name}"
