"""Reads TorchScript and ``.pt2`` files, and puts steps around them."""

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# which operators may run is judged in one place, and that is where they run
from app.backends.torch_export import is_operator
from app.bundle.manifest import TensorSpec
from app.bundle.pt2 import clean
from training.errors import PackageRefused
from training.export import torch_export, torchscript
from training.export.shapes import examples
from training.export.torchscript import quiet_jit
from training.export.verify import Run, eager_runner
from training.package.config import DTYPES, Config
from training.package.source import Built, Feed, Head, Output, Steps, Told

_DYNAMIC = (
    "export it with torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim('batch')},)), with an "
    "example of two rows or more"
)


class TorchSource:
    """A module that was read from a file; see :class:`training.package.source.Source`.

    Args:
        module: In inference mode.
        inputs: As far as they are known.
        form: ``torchscript`` or ``torch_export``.
        config: May name the outputs.
        sha256: Of the file.
    """

    told = Told()
    missing: tuple[tuple[str, str, str], ...] = ()

    def __init__(
        self,
        module: Callable[..., Any],
        inputs: tuple[TensorSpec, ...] | None,
        form: str,
        config: Config,
        sha256: str,
    ) -> None:
        self._module = module
        self.inputs = inputs
        self._form = form
        self._sha256 = sha256
        self.outputs = None if inputs is None else self._run_once(inputs, config.output_names)

    def build(self, steps: Steps, inputs: tuple[TensorSpec, ...]) -> tuple[Run, tuple[Built, ...]]:
        """Put the steps around the module and write both anew; see :class:`training.package.source.Source`."""
        assert self.inputs is not None
        assert self.outputs is not None
        if steps.text is not None:
            raise PackageRefused("the inputs of Hugging Face models are derived in ONNX only: export the model to ONNX")
        order = [spec.name for spec in self.inputs]
        served = Adapted(self._module, steps, order, [output.name for output in self.outputs])
        names = [head.public for head in steps.heads]
        outputs: tuple[TensorSpec, ...] = ()  # neither form names its outputs
        reference = eager_runner(served, tuple(names))
        if self._form == torchscript.FORMAT:
            content = torchscript.dump(served, inputs, outputs)
            path, run = torchscript.FILE_NAME, torchscript.runner(content, [spec.name for spec in inputs], names)
        else:
            content = torch_export.dump(served, inputs, outputs)
            path, run = torch_export.FILE_NAME, torch_export.runner(content, inputs, names)
        return reference, (Built(format=self._form, path=path, content=content, run=run),)

    def architecture(self) -> tuple[str, dict[str, Any]]:
        """Tell form and digest of the file; see :class:`training.package.source.Source`."""
        return "imported", {"format": self._form, "sha256": self._sha256}

    def _run_once(self, inputs: tuple[TensorSpec, ...], names: tuple[str, ...] | None) -> tuple[Output, ...]:
        try:
            with torch.inference_mode(), quiet_jit():
                found = as_named(self._module(*examples(inputs)), names)
        except PackageRefused:
            raise
        except Exception as exc:  # whatever the module raises
            told = ", ".join(f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in inputs)
            raise PackageRefused(f"the model cannot be called with {told}: {exc}") from exc
        dtypes = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in found.items()}
        return tuple(Output(name=name, dtype=dtype if dtype in DTYPES else None) for name, dtype in dtypes.items())


class Adapted(nn.Module):
    """A module with steps around it, which takes the inputs of the service and returns its outputs, in their order."""

    def __init__(self, module: Callable[..., Any], steps: Steps, order: Sequence[str], names: Sequence[str]) -> None:
        super().__init__()
        # not eval(), which exported programs refuse: they are in inference mode already
        self.training = False
        self.module = module
        self._feeds = steps.feeds
        self._heads = steps.heads
        self._order = tuple(order)
        self._names = tuple(names)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs that the heads name."""
        values = {feed.private: _fed(value, feed) for feed, value in zip(self._feeds, inputs, strict=True)}
        outputs = as_named(self.module(*(values[name] for name in self._order)), self._names)
        return tuple(_answered(outputs[head.private], head) for head in self._heads)


def as_named(outputs: Any, names: Sequence[str] | None) -> dict[str, Tensor]:
    """Return what a module returns by name: a tensor, several, or a dictionary of them.

    Raises:
        PackageRefused: It returns something else, or another number than are named.
    """
    if isinstance(outputs, dict):
        found = dict(outputs)
    else:
        every = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        own = names or (["output"] if len(every) == 1 else [f"output_{index}" for index in range(len(every))])
        if len(own) != len(every):
            raise PackageRefused(f"{len(own)} outputs are named, and the model has {len(every)}")
        found = dict(zip(own, every, strict=True))
    if not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise PackageRefused("the model returns something else than tensors")
    return found


def read_torchscript(data: bytes, path: Path, config: Config) -> TorchSource:
    """Load a TorchScript file, which runs what it holds.

    Raises:
        PackageRefused: That was not allowed, or torch refuses it.
    """
    if not config.allow_torchscript:
        raise PackageRefused(
            f"{path} is TorchScript, a program that runs when it is opened; say --allow-torchscript where you trust "
            "it as you trust your own code, or export the model to ONNX"
        )
    try:
        with quiet_jit():
            module = torch.jit.load(io.BytesIO(data), map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except Exception as exc:  # torch answers a broken file with RuntimeError, and others
        raise PackageRefused(f"torch refuses {path}: {exc}") from exc
    return TorchSource(module, config.inputs, torchscript.FORMAT, config, hashlib.sha256(data).hexdigest())


def read_exported(data: bytes, path: Path, config: Config) -> TorchSource:
    """Inspect a ``.pt2`` archive, and load what is left of it.

    Raises:
        PackageRefused: It holds something else than operators on tensors, or fixes the batch.
    """
    try:
        archive = clean(data, is_operator=is_operator)
        program = torch.export.load(io.BytesIO(archive))
        module = program.module(check_guards=False)
    except Exception as exc:  # the archive's own error, and whatever torch raises
        raise PackageRefused(f"{path} is refused: {exc}") from exc
    inputs = _signature(program, path)
    return TorchSource(module, inputs, torch_export.FORMAT, config, hashlib.sha256(data).hexdigest())


def _signature(program: torch.export.ExportedProgram, path: Path) -> tuple[TensorSpec, ...]:
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    axes: dict[str, str] = {}
    specs: list[TensorSpec] = []
    for name in program.graph_signature.user_inputs:
        value = values.get(str(name))
        if not isinstance(value, Tensor):
            raise PackageRefused(f"{path} takes {name!r}, which is no tensor")
        shape = [_axis(length, axes) for length in value.shape]
        if not shape or isinstance(shape[0], int):
            raise PackageRefused(f"{path} takes one fixed batch only: the first axis of {name!r} is fixed; {_DYNAMIC}")
        dtype = str(value.dtype).removeprefix("torch.")
        if dtype not in DTYPES:
            raise PackageRefused(f"no task can feed the input {name!r} of {path}, which is {dtype}")
        specs.append(TensorSpec.model_validate({"name": str(name), "dtype": dtype, "shape": ("batch", *shape[1:])}))
    return tuple(specs)


def _axis(length: Any, axes: dict[str, str]) -> int | str:
    if isinstance(length, int):
        return length
    return axes.setdefault(str(length), f"axis_{len(axes)}")


def _fed(value: Tensor, feed: Feed) -> Tensor:
    if feed.scale is not None:
        value = value * feed.scale
    if feed.mean is not None:
        value = value - feed.mean
    if feed.std is not None:
        value = value / feed.std
    if feed.tail is not None:
        value = value.reshape(-1, *feed.tail)
    return value.to(getattr(torch, feed.dtype))


def _answered(value: Tensor, head: Head) -> Tensor:
    if head.step == "softmax":
        return torch.softmax(value, dim=1)
    return value.reshape(-1) if head.step == "flatten" else value
