"""Reads the weights of a registered architecture: safetensors, or a ``.pth`` of which only tensors are unpickled."""

import dataclasses
import io
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from app.bundle.manifest import TensorSpec
from app.tensors import LENGTHS
from training import architectures
from training.errors import PackageRefused
from training.export import onnx, state_dict, tables
from training.export.shapes import examples
from training.export.verify import PROBABILITIES, VALUE, Run, eager_runner, onnx_runner
from training.package.config import Config
from training.package.source import Built, Output, Steps, Told


class WeightsSource:
    """A network that was built here and filled; see :class:`training.package.source.Source`."""

    told = Told()

    def __init__(self, weights: Mapping[str, Tensor], path: Path, config: Config) -> None:
        self.missing: tuple[tuple[str, str, str], ...] = ()
        self.inputs: tuple[TensorSpec, ...] | None = None
        self.outputs: tuple[Output, ...] | None = None
        if config.architecture is None:
            known = ", ".join(architectures.names())
            example = 'architecture = "mlp"\nnetwork = {hidden = [512, 256]}'
            self.missing = (("architecture", example, f"whose weights these are, one of {known}; and its config"),)
            return
        self._name = config.architecture
        try:
            settings = architectures.make_config(self._name, config.network)
            network = architectures.build(self._name, config.network)
        except ValueError as exc:
            raise PackageRefused(str(exc)) from exc
        try:
            network.load_state_dict(weights, strict=True)
        except RuntimeError as exc:
            raise PackageRefused(f"the weights in {path} are not those of this {self._name}: {exc}") from exc
        self._values = dataclasses.asdict(settings)
        self._network = network.eval()
        self._served = architectures.as_served(self._network).eval()
        self.inputs = _inputs_of(self._values, self._name)
        self.outputs = _outputs_of(self._served, self.inputs, self._values)

    def build(self, steps: Steps, inputs: tuple[TensorSpec, ...]) -> tuple[Run, tuple[Built, ...]]:
        """Write the weights and the graph; see :class:`training.package.source.Source`."""
        assert self.outputs is not None
        names = tuple(output.name for output in self.outputs)
        if any(not feed.is_plain for feed in steps.feeds):
            raise PackageRefused(f"a {self._name} scales its inputs by its own config: leave scale, mean and std out")
        float_outputs = [TensorSpec(name=name, dtype="float32", shape=("batch",)) for name in names]
        eager = eager_runner(self._served, names)
        graph = onnx.dump(self._served, inputs, float_outputs)
        weights = state_dict.dump(self._network)
        return eager, (
            Built(format=onnx.FORMAT, path=onnx.FILE_NAME, content=graph, run=onnx_runner(graph)),
            Built(format=state_dict.FORMAT, path=state_dict.FILE_NAME, content=weights, run=eager),
        )

    def architecture(self) -> tuple[str, dict[str, Any]]:
        """Return what rebuilds it; see :class:`training.package.source.Source`."""
        return self._name, self._values


def read(data: bytes, path: Path, config: Config) -> WeightsSource:
    """Read weights, and build the network that they belong to.

    Raises:
        PackageRefused: The file holds something else than named tensors, or those of another network.
    """
    return WeightsSource(_tensors(data, path), path, config)


def _tensors(data: bytes, path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load(data)
        except safetensors.SafetensorError as exc:
            raise PackageRefused(f"{path} is no safetensors file: {exc}") from exc
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old layouts; what they hold is told below
            loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        reason = str(exc).partition("\n")[0]
        raise PackageRefused(
            f"{path} is a pickle of more than tensors, which could run anything and is not opened ({reason}); save the "
            "weights alone: torch.save(model.state_dict(), 'weights.pth')"
        ) from exc
    except Exception as exc:  # a broken archive has many types
        raise PackageRefused(f"{path} cannot be read: {exc}") from exc
    # what training loops save beside it is left out
    found = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()) or not found:
        raise PackageRefused(f"{path} holds no state_dict: names, and a tensor for each")
    return {str(name): value for name, value in found.items()}


def _inputs_of(values: Mapping[str, Any], name: str) -> tuple[TensorSpec, ...]:
    """Return what a network takes, by the fields of its config that the data decide."""
    lengths = TensorSpec(name=LENGTHS, dtype="int64", shape=("batch",))
    if "num_features" in values:
        return (TensorSpec(name=tables.INPUT, dtype="float32", shape=("batch", values["num_features"])),)
    if "vocab_size" in values:
        return TensorSpec(name="tokens", dtype="int64", shape=("batch", "tokens")), lengths
    if "num_channels" in values:
        return TensorSpec(name="sequence", dtype="float32", shape=("batch", "time", values["num_channels"])), lengths
    if {"height", "width"} <= set(values):
        return (TensorSpec(name="image", dtype="float32", shape=("batch", values["height"], values["width"])),)
    raise PackageRefused(f"nothing in the config of {name!r} tells what goes into it")


def _outputs_of(served: nn.Module, inputs: tuple[TensorSpec, ...], values: Mapping[str, Any]) -> tuple[Output, ...]:
    with torch.inference_mode():
        outputs = served(*examples(inputs))
    if len(outputs) == 1:
        names = [VALUE]
    elif "code_size" in values:
        names = ["error", "code", "reconstruction"]
    else:
        names = ["logits", PROBABILITIES]
    return tuple(Output(name=name, dtype="float32") for name in names)
