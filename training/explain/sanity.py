"""The model randomization test: an explanation of a network has to change with its weights.

Adebayo et al., "Sanity checks for saliency maps", arXiv:1810.03292: some methods draw the edges of the picture and
look convincing for a network with random weights too. Here the layers of a trained network get fresh weights, from
the output to the input, and each time the explanations are compared with those of the trained one.

Shape suffixes: B rows of the batch, N numbers of one row's attribution.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from app.tensors import Array

Attribute: TypeAlias = Callable[[nn.Module], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Similarity:
    """How alike the explanations of two networks are, on average over the rows.

    Attributes:
        signed: Spearman's rank correlation of the attributions; 1 is the same order, 0 is none.
        size: The same of their absolute values, which tell what matters, be it for or against.
    """

    signed: float
    size: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Randomization:
    """What became of the explanations as the weights were lost.

    Attributes:
        cascade: For each layer, from the output on, the similarity when it and all layers behind it are fresh.
    """

    cascade: dict[str, Similarity]

    @property
    def whole(self) -> Similarity:
        """The similarity when every layer is fresh."""
        return list(self.cascade.values())[-1]


def randomization_test(
    network: nn.Module, fresh: nn.Module, attribute: Attribute, *, where: Tensor | None = None
) -> Randomization:
    """Give a network fresh weights, layer by layer, and compare its explanations with those of the trained one.

    Args:
        network: Trained; left as it is.
        fresh: The same architecture with weights that were never trained. Buffers, such as the scale of the inputs,
            are not taken from it: they are measured, not learned.
        attribute: Explains a network, always on the same rows for the same targets; returns shape (B, ...).
        where: Compare only the numbers where this is true, of the shape of the attributions. A method that multiplies
            by the input is 0 wherever the input is, with any weights, and that would pass for agreement.

    Returns:
        The similarities, by the name of the layer.
    """
    state, random_state = network.state_dict(), fresh.state_dict()
    trained = attribute(network)
    mixed = copy.deepcopy(network).eval()
    cascade: dict[str, Similarity] = {}
    for layer, names in reversed(layers(network).items()):
        state = {**state, **{name: random_state[name] for name in names}}
        mixed.load_state_dict(state)
        cascade[layer] = similarity(trained, attribute(mixed), where=where)
    return Randomization(cascade=cascade)


def layers(network: nn.Module) -> dict[str, list[str]]:
    """Return the names of the parameters of each layer, in the order in which the network defines them.

    A block counts as one layer, as does a parameter that lies in none.
    """
    found: dict[str, list[str]] = {}
    for name, _ in network.named_parameters():
        # as a name, "blocks.0" is whole; what is behind it are the parts of a block
        found.setdefault(".".join(name.split(".")[:-1][:2]) or name, []).append(name)
    return found


def similarity(one: Tensor, other: Tensor, *, where: Tensor | None = None) -> Similarity:
    """Compare attributions row by row, both of shape (B, ...)."""
    mask = torch.ones_like(one, dtype=torch.bool) if where is None else where
    rows = [
        (one_N[mask_N].double().numpy(), other_N[mask_N].double().numpy())
        for one_N, other_N, mask_N in zip(one.flatten(1), other.flatten(1), mask.flatten(1), strict=True)
    ]
    return Similarity(
        signed=float(np.mean([_rank_correlation(a_N, b_N) for a_N, b_N in rows])),
        size=float(np.mean([_rank_correlation(abs(a_N), abs(b_N)) for a_N, b_N in rows])),
    )


def _rank_correlation(one_N: Array, other_N: Array) -> float:
    # an attribution that is the same everywhere orders nothing
    if len(one_N) < 2 or np.ptp(one_N) == 0 or np.ptp(other_N) == 0:
        return 0.0
    return float(stats.spearmanr(one_N, other_N).statistic)
