"""What each named number of a table's row has added to the answer, and how much a model leans on each column.

Integrated gradients are in :mod:`training.explain.gradients`; here is what needs no gradients, for any artifact.

Shape suffixes: B rows of the batch, F features, R repeats.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import ShapleyValueSampling
from torch import Tensor

from app.tensors import Array
from training.explain.scores import Forward

NUM_ORDERS = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """What a score loses when one column is shuffled.

    Attributes:
        mean_F: Mean over the repeats, float64 of shape (F,).
        std_F: Standard deviation over the repeats.
    """

    mean_F: Array
    std_F: Array


def shapley_values(
    forward: Forward,
    inputs_BF: Tensor,
    targets_B: Tensor | None,
    *,
    baseline_1F: Tensor,
    seed: int,
    num_orders: int = NUM_ORDERS,
) -> Tensor:
    """Add the features one by one to a baseline, in random orders, and average what each adds when it comes.

    Strumbelj and Kononenko, "An efficient explanation of individual classifications using game theory", 2010; with
    more orders it nears the Shapley values. In every order the sum is complete, whatever their number.

    Args:
        forward: Returns outputs of shape (B, C), or (B,); need not be differentiable.
        inputs_BF: float32, shape (B, F).
        targets_B: The output that is explained for each row, int64; None where there is only one.
        baseline_1F: What stands for a feature that is not known, float32 of shape (1, F).
        seed: Of the orders.
        num_orders: How many.

    Returns:
        float32, shape (B, F), in the unit of the output.
    """
    # captum draws from torch's global generator, whose state is put back
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        values: Tensor = ShapleyValueSampling(forward).attribute(
            inputs_BF, baselines=baseline_1F, target=targets_B, n_samples=num_orders
        )
    return values.float()


def permutation_importance(
    score: Callable[[Array], float], inputs_BF: Array, *, seed: int, num_repeats: int = 10
) -> Importance:
    """Shuffle one column at a time among the rows, and see what the score loses (Breiman, 2001).

    Columns that tell the same stand in for each other: each may look unimportant, though together they are not.

    Args:
        score: Of rows, the higher the better, such as an accuracy.
        inputs_BF: Any float dtype, shape (B, F).
        seed: Of the shuffles.
        num_repeats: Shuffles of each column.
    """
    rng = np.random.default_rng(seed)
    whole = score(inputs_BF)
    losses_RF = np.empty((num_repeats, inputs_BF.shape[1]))
    for repeat in range(num_repeats):
        for feature in range(inputs_BF.shape[1]):
            shuffled_BF = inputs_BF.copy()
            shuffled_BF[:, feature] = rng.permutation(inputs_BF[:, feature])
            losses_RF[repeat, feature] = whole - score(shuffled_BF)
    return Importance(mean_F=losses_RF.mean(axis=0), std_F=losses_RF.std(axis=0))
