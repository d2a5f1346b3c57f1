"""What the backends on PyTorch share: arrays in, a module's tensors, arrays out."""

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from app.backends import Device
from app.bundle.manifest import Artifact, Manifest, TensorSpec
from app.errors import BackendUnavailable, BundleError
from app.tensors import Array, Tensors

if TYPE_CHECKING:
    import torch
    from torch import nn

Module = TypeVar("Module")

logger = logging.getLogger("app.backends")


class TorchBackend:
    """A module that takes the inputs of the manifest in their order, and returns its outputs in theirs.

    Args:
        module: In inference mode; eager, traced or exported.
        manifest: Names the tensors.
        artifact: Tells which axes the module fixes; shorter inputs are padded with zeros, as ``lengths`` masks them.
        device: Where the module is; what goes in is copied there, and what comes out back.

    Attributes:
        device: The kind of it.
    """

    def __init__(
        self,
        module: "nn.Module | Callable[..., Any]",
        manifest: Manifest,
        artifact: Artifact,
        device: "torch.device",
    ) -> None:
        self.device: Literal["cpu", "cuda"] = "cuda" if device.type == "cuda" else "cpu"
        self._torch_device = device
        self._module = module
        self._inputs = manifest.inputs
        self._output_names = [spec.name for spec in manifest.outputs]
        self._fixed_axes = artifact.fixed_axes

    def run(self, inputs: Tensors) -> Tensors:
        """Call the module; see :class:`app.backends.Backend`."""
        import torch

        arrays = [padded(inputs[spec.name], spec, self._fixed_axes) for spec in self._inputs]
        with torch.inference_mode():
            # a copy where the array is a read-only view of a request's own bytes, which torch would warn of
            arguments = [torch.from_numpy(array if array.flags.writeable else array.copy()) for array in arrays]
            if self.device != "cpu":
                arguments = [tensor.to(self._torch_device) for tensor in arguments]
            outputs = self._module(*arguments)
        return {name: tensor.numpy(force=True) for name, tensor in zip(self._output_names, outputs, strict=True)}

    def settle(self, row: Tensors) -> None:
        """Do nothing: torch keeps no arena for tensors of the CPU; see :class:`app.backends.Backend`."""

    def close(self) -> None:
        """Drop the module and its weights."""
        del self._module


def choose_device(wanted: Device) -> "torch.device":
    """Return the device for a module; ``auto`` takes the GPU where this torch can use one.

    A GPU multiplies in full float32 then: TF32 keeps 10 bits of each factor, and the golden rows would tell.

    Raises:
        BackendUnavailable: ``cuda`` is asked for, and there is none.
    """
    import torch

    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        built = f"is built for CUDA {torch.version.cuda}, and finds no GPU" if torch.version.cuda else "has no CUDA"
        raise BackendUnavailable(
            f"ZTO_DEVICE=cuda: the installed torch {torch.__version__} {built}; install a build with CUDA "
            "(https://pytorch.org/get-started/locally/) and a driver for the GPU, or set ZTO_DEVICE=auto or cpu"
        )
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda", torch.cuda.current_device())


def load_on(wanted: Device, what: str, load: "Callable[[torch.device], Module]") -> "tuple[Module, torch.device]":
    """Load a module where it is to compute; under ``auto`` on the CPU where the GPU does not take it.

    Args:
        wanted: Device of the settings.
        what: The artifact in words, for errors and the log.
        load: Returns the module on a device, made anew by each call; raises :class:`BundleError` where the artifact
            itself is at fault, which no other device mends.

    Raises:
        BundleError: As ``load`` raises it, and whatever else it raises on the CPU.
        BackendUnavailable: ``cuda`` is asked for, and there is none, or it does not take the module.
    """
    import torch

    chosen = choose_device(wanted)
    if chosen.type != "cpu":
        try:
            return load(chosen), chosen
        except BundleError:
            raise
        except Exception as exc:  # its memory is full, somebody has it alone, or this torch has no kernels for it
            if wanted == "cuda":
                raise BackendUnavailable(f"ZTO_DEVICE=cuda: torch cannot use the GPU for {what}: {exc}") from exc
            logger.warning("%s goes to the CPU, since torch cannot use the GPU for it: %s", what, exc)
        chosen = torch.device("cpu")
    try:
        return load(chosen), chosen
    except BundleError:
        raise
    except Exception as exc:  # torch raises what it likes, a bare Exception and AssertionError among them
        raise BundleError(f"torch refuses {what}: {exc}") from exc


def padded(array: Array, spec: TensorSpec, fixed_axes: Mapping[str, int]) -> Array:
    """Return an array with its fixed axes at their lengths, zeros behind what is there.

    Raises:
        ValueError: It is longer than the artifact takes.
    """
    missing = [
        fixed_axes[axis] - length if isinstance(axis, str) and axis in fixed_axes else 0
        for axis, length in zip(spec.shape, array.shape, strict=True)
    ]
    if not any(missing):
        return array
    if min(missing) < 0:
        raise ValueError(
            f"{spec.name!r} has the shape {array.shape}, and this artifact takes no more than {fixed_axes}"
        )
    return np.pad(array, [(0, more) for more in missing])
