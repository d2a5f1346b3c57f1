"""TorchScript: a program of PyTorch's own language, with its weights.

Such a file runs what it likes as far as that language reaches, files included, and is unpickled when it is opened. No
inspection makes it data. So it is trusted code or nothing: see ``RUNS_CODE`` in :mod:`app.backends`.
"""

import io
import warnings

from app.backends import Device
from app.backends._torch import TorchBackend, load_on
from app.bundle.loader import Bundle
from app.errors import BackendUnavailable

RUNS_CODE = True
DEVICES = ("cpu", "cuda")


def load(bundle: Bundle, *, key: str = "torchscript", threads: int, device: Device = "auto") -> TorchBackend:
    """Load a ``torchscript`` artifact, running what it holds; see :class:`app.backends.BackendModule`."""
    try:
        import torch
    except ImportError as exc:
        raise BackendUnavailable("the torchscript backend needs torch: pip install 'zero-to-one[torch]'") from exc

    torch.set_num_threads(threads)
    artifact = bundle.artifact(key)
    data = bundle.read(artifact)

    def load_program(where: torch.device) -> torch.nn.Module:
        with warnings.catch_warnings():
            # torch.jit works, and tells at every call that torch.export shall follow it
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            module: torch.nn.Module = torch.jit.load(  # type: ignore[no-untyped-call]
                io.BytesIO(data), map_location=where
            )
            return module.eval()

    module, chosen = load_on(device, "the TorchScript program", load_program)
    return TorchBackend(module, bundle.manifest, artifact, chosen)
