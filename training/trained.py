"""A network that has been trained, by whichever trainer, ready to be exported."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from app.bundle.manifest import TensorSpec
from app.tensors import Tensors
from training import architectures
from training.epochs import Epoch
from training.export import onnx, state_dict, verify
from training.numpy_network import fitting

Specs = Sequence[TensorSpec]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A finished training.

    Attributes:
        name: Of the bundle.
        architecture: A registered name.
        network_config: Its whole config, as the manifest holds it.
        network: Holds its best weights.
        history: All finished epochs.
        best_epoch: The number of the one whose weights were kept.
        stopped: Why training ended.
        validation: Scores of the best epoch, as metrics of the manifest.
        seed: Of the training.
        batch_size: Rows of each step.
        optimizer: Everything of the config that moved the weights.
        duration_s: How long it took.
        code_revision: Of the code that trained it, taken at the start: a repository may move on meanwhile.
        libraries: Versions of what had a part in the numbers.
        weights: The network as safetensors.
        reference: What runs the trainer's own network, where that is not the torch one.
        graph: Writes the ONNX graph, where torch's exporter does not.
        further_metrics: What the trainer has measured besides.
        further_reports: JSON documents of the report, by name.
    """

    name: str
    architecture: str
    network_config: dict[str, Any]
    network: nn.Module
    history: tuple[Epoch | fitting.Epoch, ...]
    best_epoch: int
    stopped: str
    validation: dict[str, float]
    seed: int
    batch_size: int
    optimizer: dict[str, Any]
    duration_s: float
    code_revision: str
    libraries: dict[str, str]
    weights: bytes
    reference: Callable[[Tensors], Tensors] | None = None
    graph: Callable[[Specs, Specs], bytes] | None = None
    further_metrics: dict[str, float] = field(default_factory=dict)
    further_reports: dict[str, object] = field(default_factory=dict)

    def served(self, *, temperature: float | None = None) -> nn.Module:
        """Return the network as it is served, from the weights as they are shipped, in the memory layout of serving."""
        network = architectures.build(self.architecture, self.network_config)
        loaded = state_dict.load(network, self.weights)
        return architectures.as_served(loaded, temperature=1.0 if temperature is None else temperature).eval()

    def run(self, served: nn.Module, outputs: Specs) -> verify.Run:
        """Return what runs the trainer's own network, which every artifact is held against."""
        return self.reference or verify.eager_runner(served, tuple(spec.name for spec in outputs))

    def onnx(self, served: nn.Module, inputs: Specs, outputs: Specs) -> bytes:
        """Return the ONNX graph, checked."""
        return onnx.dump(served, inputs, outputs) if self.graph is None else self.graph(inputs, outputs)
