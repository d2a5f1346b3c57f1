"""PyTorch in eager mode: safetensors weights in a registered architecture.

The architecture is looked up by its registered name, never by a module path, so a manifest cannot name code to run.
"""

from typing import TYPE_CHECKING

from app.bundle.loader import Bundle
from app.errors import BackendUnavailable, BundleError
from app.tensors import Tensors

if TYPE_CHECKING:
    from torch import nn


class StateDictBackend:
    """One eager module in inference mode."""

    def __init__(self, module: "nn.Module", input_names: list[str], output_names: list[str]) -> None:
        self._module = module
        self._input_names = input_names
        self._output_names = output_names

    def run(self, inputs: Tensors) -> Tensors:
        """Call the module; see :class:`app.backends.Backend`."""
        import torch

        with torch.inference_mode():
            # a copy where the array is a read-only view of a request's own bytes, which torch would warn of
            arguments = [
                torch.from_numpy(inputs[name] if inputs[name].flags.writeable else inputs[name].copy())
                for name in self._input_names
            ]
            outputs = self._module(*arguments)
        return {name: tensor.numpy() for name, tensor in zip(self._output_names, outputs, strict=True)}

    def close(self) -> None:
        """Drop the module and its weights."""
        del self._module


def load(bundle: Bundle, *, threads: int) -> StateDictBackend:
    """Build the architecture and load the ``state_dict`` artifact; see :class:`app.backends.BackendModule`."""
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
    data = bundle.read(bundle.artifact("state_dict"))
    try:
        network = build(manifest.architecture.name, manifest.architecture.config)
        network.load_state_dict(load_safetensors(data), strict=True)
    except Exception as exc:  # an unknown name, an impossible config, missing or misshapen weights, a broken file
        raise BundleError(f"the weights do not fit architecture {manifest.architecture.name!r}: {exc}") from exc
    return StateDictBackend(
        as_served(network, temperature=manifest.temperature).eval(),
        [spec.name for spec in manifest.inputs],
        [spec.name for spec in manifest.outputs],
    )
