"""PyTorch in eager mode: safetensors weights in a registered architecture.

The architecture is looked up by its registered name, never by a module path, so a manifest cannot name code to run.
"""

from app.backends import Device
from app.backends._torch import TorchBackend, load_on
from app.bundle.loader import Bundle
from app.errors import BackendUnavailable, BundleError

DEVICES = ("cpu", "cuda")


def load(bundle: Bundle, *, key: str = "state_dict", threads: int, device: Device = "auto") -> TorchBackend:
    """Build the architecture and load a ``state_dict`` artifact; see :class:`app.backends.BackendModule`."""
    try:
        import torch
        from safetensors.torch import load as load_safetensors

        from training.architectures import as_served, build
    except ImportError as exc:
        raise BackendUnavailable(
            "the state_dict backend needs torch and safetensors: pip install 'zero-to-one[torch]'"
        ) from exc

    torch.set_num_threads(threads)
    manifest = bundle.manifest
    artifact = bundle.artifact(key)
    data = bundle.read(artifact)

    def load_network(where: torch.device) -> torch.nn.Module:
        try:
            network = build(manifest.architecture.name, manifest.architecture.config)
            network.load_state_dict(load_safetensors(data), strict=True)
        except Exception as exc:  # an unknown name, an impossible config, missing or misshapen weights, a broken file
            raise BundleError(f"the weights do not fit architecture {manifest.architecture.name!r}: {exc}") from exc
        return as_served(network, temperature=manifest.temperature).eval().to(where)

    served, chosen = load_on(device, "the network", load_network)
    return TorchBackend(served, manifest, artifact, chosen)
