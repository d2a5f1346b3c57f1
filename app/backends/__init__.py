"""The runtimes, one file each, found by their file's name and imported only when chosen.

A backend module offers ``load(bundle, *, threads) -> Backend`` and consumes the artifact whose format is the module's
own name. Its runtime is imported inside ``load``, so that what is not chosen is not needed.
"""

import importlib
import pkgutil
from typing import Protocol, cast

from app.bundle.loader import Bundle
from app.errors import BackendUnavailable, BundleError
from app.tensors import Tensors


class Backend(Protocol):
    """A loaded model. Calls come one at a time, from whichever thread."""

    def run(self, inputs: Tensors) -> Tensors:
        """Return the outputs of the manifest for B rows of its inputs, in the same order.

        The arrays passed in are not kept and not written to; those returned are the caller's.

        Raises:
            Exception: Whatever the runtime raises; the batcher translates it once.
        """
        ...

    def close(self) -> None:
        """Give back what the runtime holds. No call follows."""
        ...


class BackendModule(Protocol):
    """What a file of this folder offers."""

    def load(self, bundle: Bundle, *, threads: int) -> Backend:
        """Load the artifact of this backend's format.

        Raises:
            BundleError: The bundle has no such artifact, or the runtime refuses it.
            BackendUnavailable: The runtime is not installed; the message names the extra that brings it.
        """
        ...


def names() -> tuple[str, ...]:
    """Return the names of all backends: the files of this folder."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def load(name: str, bundle: Bundle, *, threads: int) -> tuple[str, Backend]:
    """Load a bundle with the named backend, or with ``auto``.

    ``auto`` goes through the artifacts in the manifest's order and takes the first whose runtime is installed.

    Returns:
        The name of the backend that was taken, and the backend.

    Raises:
        BundleError: No backend of that name, or it cannot load the bundle.
    """
    if name != "auto":
        return name, _module(name).load(bundle, threads=threads)
    missing: list[str] = []
    for artifact in bundle.manifest.artifacts:
        if artifact.format in names():
            try:
                return artifact.format, _module(artifact.format).load(bundle, threads=threads)
            except BackendUnavailable as exc:
                missing.append(str(exc))
    have = ", ".join(artifact.format for artifact in bundle.manifest.artifacts)
    raise BundleError("; ".join(missing) or f"no backend serves the artifacts of this bundle: {have}")


def _module(name: str) -> BackendModule:
    if name not in names():
        raise BundleError(f"no backend named {name!r}; there are: {', '.join(names())}")
    return cast(BackendModule, importlib.import_module(f"{__name__}.{name}"))
