"""TorchScript: a program of PyTorch's own language, with its weights.

Such a file runs what it likes as far as that language reaches, files included, and is unpickled when it is opened. No
inspection makes it data. So it is trusted code or nothing: see ``RUNS_CODE`` in :mod:`app.backends`.
"""

import io
import warnings

from app.backends import Device
from app.backends._torch import TorchBackend, choose_device
from app.bundle.loader import Bundle
from app.errors import BackendUnavailable, BundleError

RUNS_CODE = True
DEVICES = ("cpu", "cuda")


def load(bundle: Bundle, *, key: str = "torchscript", threads: int, device: Device = "auto") -> TorchBackend:
    """Load a ``torchscript`` artifact, running what it holds; see :class:`app.backends.BackendModule`."""
    try:
        import torch
    except ImportError as exc:
        raise BackendUnavailable("the torchscript backend needs torch: pip install 'zero-to-one[torch]'") from exc

    torch.set_num_threads(threads)
    chosen = choose_device(device)
    artifact = bundle.artifact(key)
    data = bundle.read(artifact)
    try:
        with warnings.catch_warnings():
            # torch.jit works, and tells at every call that torch.export shall follow it
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            module = torch.jit.load(io.BytesIO(data), map_location=chosen).eval()  # type: ignore[no-untyped-call]
    except Exception as exc:  # torch answers a broken file with RuntimeError, and others
        raise BundleError(f"torch refuses the TorchScript program: {exc}") from exc
    return TorchBackend(module, bundle.manifest, artifact, chosen)
