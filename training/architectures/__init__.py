"""The registry of architectures: every module of this folder is one, found by its file name.

A new file is a new architecture; there is no list to edit. Such a module defines

- ``Config``: a frozen dataclass whose ``__post_init__`` raises ValueError for an impossible value, naming the field;
- ``Network``: a `torch.nn.Module` built from one ``Config``, whose ``forward`` takes raw inputs and returns logits. One
  that returns something else has a method ``as_served()``, which wraps it in a module that returns the outputs of the
  manifest, or returns None where these are logits and probabilities all the same.

Modules whose name starts with an underscore are helpers, not architectures.
"""

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn


class Served(nn.Module):
    """A classifier as it is served: the network, its temperature, and softmax behind it, all in one graph.

    Args:
        network: Returns logits of shape (B, classes).
        temperature: The logits are divided by it; 1 leaves no trace in the graph.
    """

    def __init__(self, network: nn.Module, *, temperature: float = 1.0) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and probabilities, both float32 of shape (B, classes)."""
        logits_BC: Tensor = self.network(*inputs)
        if self.temperature != 1.0:
            logits_BC = logits_BC / self.temperature
        return logits_BC, torch.softmax(logits_BC, dim=-1)


def names() -> list[str]:
    """Return the names of all architectures, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def make_config(name: str, values: Mapping[str, Any]) -> Any:
    """Return the ``Config`` of an architecture, with its defaults where ``values`` says nothing.

    Raises:
        ValueError: There is no such architecture or field, or a value is impossible; the message names it.
    """
    config_class = _module(name).Config
    fields = {field.name for field in dataclasses.fields(config_class)}
    if unknown := sorted(set(values) - fields):
        raise ValueError(
            f"architecture {name!r} has no config field {unknown[0]!r}, it has: {', '.join(sorted(fields))}"
        )
    # JSON knows lists only, frozen configs hold tuples
    frozen = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    try:
        return config_class(**frozen)
    except (TypeError, ValueError) as exc:
        raise ValueError(f"config of architecture {name!r}: {exc}") from exc


def known(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the values that an architecture's ``Config`` has a field for.

    Raises:
        ValueError: There is no such architecture.
    """
    fields = {field.name for field in dataclasses.fields(_module(name).Config)}
    return {key: value for key, value in values.items() if key in fields}


def build(name: str, config: Mapping[str, Any]) -> nn.Module:
    """Build a network with fresh weights.

    Args:
        name: One of :func:`names`; anything else is refused, so no path can lead to other code.
        config: Fields of the architecture's ``Config``, as they stand in a manifest.

    Raises:
        ValueError: There is no such architecture or field, or a value is impossible; the message names it.
    """
    network: nn.Module = _module(name).Network(make_config(name, config))
    return network


def as_served(network: nn.Module, *, temperature: float = 1.0) -> nn.Module:
    """Wrap a network so that a call returns what is served, in the manifest's order: mostly (logits, probabilities).

    Args:
        network: Built by :func:`build`.
        temperature: What the logits of a classifier are divided by; without a meaning where there are none.

    The network is kept, not copied: weights loaded into it later are the weights that are served.
    """
    wrap: Callable[[], nn.Module | None] | None = getattr(network, "as_served", None)
    served = None if wrap is None else wrap()
    return Served(network, temperature=temperature) if served is None else served


def describe(name: str) -> str:
    """Return the first line of an architecture's file: what it is, in one sentence.

    Raises:
        ValueError: There is no such architecture.
    """
    return (_module(name).__doc__ or name).splitlines()[0]


def num_parameters(network: nn.Module) -> int:
    """Count the trainable numbers of a network."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def _module(name: str) -> ModuleType:
    if name not in names():
        raise ValueError(f"there is no architecture {name!r}, there are: {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}")
