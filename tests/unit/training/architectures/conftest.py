"""Networks of padded rows, small ones, and rows for them.

Shape suffixes: B rows of the batch, T steps or tokens, C channels.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from app.bundle.manifest import TensorSpec
from app.tensors import Tensors
from training import architectures
from training.export import onnx as onnx_export
from training.export.verify import Run, eager_runner, onnx_runner

NUM_CHANNELS, VOCAB_SIZE, MAX_LENGTH = 3, 50, 24
OUTPUTS = ("logits", "probabilities")
SERIES = {"num_channels": NUM_CHANNELS, "hidden": 8, "num_classes": 4}
MOVED = {"input_mean": (0.5, -2.0, 1.0), "input_std": (2.0, 0.5, 1.0)}
RECURRENT = {"vocab_size": VOCAB_SIZE, "embedding": 8, "hidden": 8}
ATTENTIVE = {"vocab_size": VOCAB_SIZE, "max_tokens": MAX_LENGTH, "width": 16, "heads": 2, "mlp_width": 24}

CONFIGS = {
    "rnn": ("rnn", {**SERIES, **MOVED}),
    "rnn, two layers, max": ("rnn", {**SERIES, "layers": 2, "pooling": "max"}),
    "rnn, mean": ("rnn", {**SERIES, "pooling": "mean"}),
    "rnn, forward only, last": ("rnn", {**SERIES, "bidirectional": False, "pooling": "last"}),
    "lstm": ("lstm", RECURRENT),
    "lstm, two layers, attention": ("lstm", {**RECURRENT, "layers": 2, "pooling": "attention"}),
    "lstm, forward only": ("lstm", {**RECURRENT, "bidirectional": False}),
    "transformer": ("transformer", ATTENTIVE),
    "transformer, first": ("transformer", {**ATTENTIVE, "layers": 1, "pooling": "first"}),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network of padded rows with fresh weights, and its ONNX form where it is asked for."""

    name: str
    config: dict[str, Any]
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def takes_series(self) -> bool:
        return self.name == "rnn"

    @property
    def input_name(self) -> str:
        return "sequence" if self.takes_series else "tokens"

    @property
    def num_classes(self) -> int:
        return self.config.get("num_classes", 2)

    @property
    def inputs(self) -> tuple[TensorSpec, TensorSpec]:
        lengths = TensorSpec(name="lengths", dtype="int64", shape=("batch",))
        if self.takes_series:
            return TensorSpec(name="sequence", dtype="float32", shape=("batch", "time", NUM_CHANNELS)), lengths
        return TensorSpec(name="tokens", dtype="int64", shape=("batch", "time")), lengths

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        shape = ("batch", self.num_classes)
        return tuple(TensorSpec(name=name, dtype="float32", shape=shape) for name in OUTPUTS)

    def build(self, **changes: object) -> nn.Module:
        torch.manual_seed(0)
        return architectures.build(self.name, {**self.config, **changes})

    def served(self) -> nn.Module:
        return architectures.as_served(self.build()).eval()

    def export(self) -> bytes:
        return onnx_export.dump(self.served(), self.inputs, self.outputs)

    @property
    def exported(self) -> bytes:
        """Its ONNX form, made once."""
        return self._once("bytes", self.export)

    def runner(self, kind: str) -> Run:
        if kind == "eager":
            return self._once(kind, lambda: eager_runner(self.served(), OUTPUTS))
        return self._once(kind, lambda: onnx_runner(self.exported))

    def _once(self, key: str, make: Callable[[], Any]) -> Any:
        if key not in self.made:
            self.made[key] = make()
        return self.made[key]

    def rows(self, lengths: list[int], *, seed: int = 0) -> Tensors:
        """Draw rows, padded with zeros to the longest; the first ones do not depend on how many follow."""
        lengths_B = np.array(lengths, np.int64)
        steps = np.zeros((len(lengths), max(lengths), NUM_CHANNELS), np.float32)
        tokens = np.zeros((len(lengths), max(lengths)), np.int64)
        for row, length in enumerate(lengths):
            random = np.random.default_rng([seed, row])
            steps[row, :length] = random.normal(size=(length, NUM_CHANNELS))
            tokens[row, :length] = random.integers(1, VOCAB_SIZE, length)
        return {self.input_name: steps if self.takes_series else tokens, "lengths": lengths_B}


@pytest.fixture(scope="session", params=CONFIGS)
def case(request: pytest.FixtureRequest) -> Case:
    name, config = CONFIGS[request.param]
    return Case(name=name, config=config)


@pytest.fixture(scope="session")
def make_case() -> Callable[[str], Case]:
    def make(name: str) -> Case:
        return Case(name=CONFIGS[name][0], config=CONFIGS[name][1])

    return make
