"""The runtimes, one file each, found by their file's name and imported only when chosen.

A backend module offers ``load(bundle, *, key, threads) -> Backend`` and consumes the artifacts whose format is the
module's own name, in every variant: ``onnx`` and ``onnx-int8``. Its runtime is imported inside ``load``, so that what
is not chosen is not needed. A module that says ``RUNS_CODE = True`` reads files that are programs; it is loaded only
where the operator allows it by name. A module that says ``DEVICES = ("cpu", "cuda")`` takes ``device=`` too; the others
run on the CPU.
"""

import importlib
import pkgutil
from collections.abc import Collection
from typing import Literal, Protocol, TypeAlias, cast

from app.bundle.loader import Bundle
from app.errors import BackendUnavailable, BundleError
from app.tensors import Tensors

Device: TypeAlias = Literal["auto", "cpu", "cuda"]


class Backend(Protocol):
    """A loaded model. Calls come one at a time, from whichever thread; :func:`device_of` tells where it computes."""

    def run(self, inputs: Tensors) -> Tensors:
        """Return the outputs of the manifest for B rows of its inputs, in the same order.

        The arrays passed in are not kept and not written to; those returned are the caller's.

        Raises:
            Exception: Whatever the runtime raises; the batcher translates it once.
        """
        ...

    def settle(self, row: Tensors) -> None:
        """Run one row, and give back the memory that larger batches took; called now and then."""
        ...

    def close(self) -> None:
        """Give back what the runtime holds. No call follows."""
        ...


class BackendModule(Protocol):
    """What a file of this folder offers."""

    def load(self, bundle: Bundle, *, key: str, threads: int) -> Backend:
        """Load the artifact of a key, which is of this backend's format.

        Raises:
            BundleError: The bundle has no such artifact, or the runtime refuses it.
            BackendUnavailable: The runtime is not installed; the message names the extra that brings it.
        """
        ...


class _DeviceModule(Protocol):
    def load(self, bundle: Bundle, *, key: str, threads: int, device: Device) -> Backend: ...


def names() -> tuple[str, ...]:
    """Return the names of all backends: the files of this folder, but for those that begin with an underscore."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")))


def device_of(backend: Backend) -> Literal["cpu", "cuda"]:
    """Tell where a backend computes."""
    return "cuda" if getattr(backend, "device", "cpu") == "cuda" else "cpu"


def load(
    key: str, bundle: Bundle, *, threads: int, allowed: Collection[str] = (), device: Device = "auto"
) -> tuple[str, Backend]:
    """Load an artifact of a bundle by its key, or with ``auto``.

    ``auto`` goes through the artifacts in the manifest's order and takes the first whose runtime is installed.

    Args:
        key: Of an artifact: a backend's name, with or without a variant, as ``onnx`` and ``onnx-int8``.
        bundle: Holds the artifact.
        threads: Of the runtime inside one call.
        allowed: The backends that may load files which are programs.
        device: ``auto`` takes the GPU where the runtime has one; ``cuda`` takes it, or fails.

    Returns:
        The key of the artifact that was taken, and its backend.

    Raises:
        BundleNotSigned: A signature is asked for, and the files are not those that were signed.
        BundleError: No backend of that name, or it cannot load the bundle.
        BackendUnavailable: Its runtime is not installed, or has no GPU when asked for one; or it may not load programs.
    """
    bundle.expect_as_signed()  # before any runtime reads of it
    if key != "auto":
        return key, _load(key, bundle, threads, allowed, device)
    missing: list[str] = []
    for artifact in bundle.manifest.artifacts:
        if artifact.format in names():
            try:
                return artifact.key, _load(artifact.key, bundle, threads, allowed, device)
            except BackendUnavailable as exc:
                missing.append(str(exc))
    have = ", ".join(artifact.key for artifact in bundle.manifest.artifacts)
    raise BundleError("; ".join(missing) or f"no backend serves the artifacts of this bundle: {have}")


def _load(key: str, bundle: Bundle, threads: int, allowed: Collection[str], device: Device) -> Backend:
    name = key.partition("-")[0]
    module = _module(name)
    if getattr(module, "RUNS_CODE", False) and name not in allowed:
        raise BackendUnavailable(
            f"a {name} artifact is a program, and is not loaded unless ZTO_ALLOW_{name.upper()}=1 says that whoever "
            "made this bundle is trusted to run code here"
        )
    if "cuda" in getattr(module, "DEVICES", ("cpu",)):
        return cast(_DeviceModule, module).load(bundle, key=key, threads=threads, device=device)
    if device == "cuda":
        raise BackendUnavailable(f"the {name} backend computes on the CPU: set ZTO_DEVICE=auto or cpu")
    return module.load(bundle, key=key, threads=threads)


def _module(name: str) -> BackendModule:
    if name not in names():
        raise BundleError(f"no backend named {name!r}; there are: {', '.join(names())}")
    return cast(BackendModule, importlib.import_module(f"{__name__}.{name}"))
