"""Rows of different lengths in one array: which steps are real, and what may be made of them.

Whatever stands beyond a row's length must never change its answer, so each function here looks at real steps only.

Shape suffixes: B rows of the batch, T steps of a series or tokens of a text, D features of a step.
"""

import torch
from torch import Tensor

# Below anything that a network yields, and finite: 0 times it is still 0
_FAR_BELOW = -1e30


def at_least_one(lengths_B: Tensor) -> Tensor:
    """Return lengths where none is 0: a row without steps is taken for one step of padding, rather than for NaN."""
    return lengths_B.clamp(min=1)


def real_steps(num_steps: int, lengths_B: Tensor) -> Tensor:
    """Tell which steps lie within their row's length, bool, shape (B, num_steps)."""
    return torch.arange(num_steps, device=lengths_B.device) < lengths_B.unsqueeze(1)


def reverse(steps_BTD: Tensor, lengths_B: Tensor) -> Tensor:
    """Turn each row around within its own length, and leave its padding where it is; twice gives the row again.

    Turning the whole array would feed the padding first to whatever reads it, and a row's answer would depend on how
    long its batch mates are.
    """
    steps_T = torch.arange(steps_BTD.shape[1], device=lengths_B.device)
    lengths_B1 = lengths_B.unsqueeze(1)
    source_BT = torch.where(steps_T < lengths_B1, lengths_B1 - 1 - steps_T, steps_T)
    return steps_BTD.gather(1, source_BT.unsqueeze(2).expand(-1, -1, steps_BTD.shape[2]))


def mean(steps_BTD: Tensor, real_BT: Tensor, lengths_B: Tensor) -> Tensor:
    """Return the mean of each row's real steps, shape (B, D)."""
    shares_BT = real_BT.to(steps_BTD.dtype) / lengths_B.unsqueeze(1)
    # a product of matrices needs no copy of the steps
    return (shares_BT.unsqueeze(1) @ steps_BTD).squeeze(1)


def largest(steps_BTD: Tensor, real_BT: Tensor) -> Tensor:
    """Return the largest number of each feature among the row's real steps, shape (B, D)."""
    return steps_BTD.masked_fill(~real_BT.unsqueeze(2), _FAR_BELOW).amax(dim=1)


def last(steps_BTD: Tensor, lengths_B: Tensor) -> Tensor:
    """Return each row's last real step, shape (B, D)."""
    index_B11 = (lengths_B - 1).reshape(-1, 1, 1)
    return steps_BTD.gather(1, index_B11.expand(-1, -1, steps_BTD.shape[2])).squeeze(1)
