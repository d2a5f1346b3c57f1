"""Saliency and integrated gradients, for any function that is differentiable in its input.

Shape suffixes: B rows of the batch, C classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from captum.attr import IntegratedGradients, Saliency
from torch import Tensor

from training.explain.scores import Forward

NUM_STEPS = 64
# rows times steps of one call; more of them fall out of the caches and are no faster
MAX_CALL_ROWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """How much each number of the input has added to the output, and whether that adds up.

    Attributes:
        values: float32, of the shape of the inputs; in the unit of the output.
        change_B: What there is to explain: the output at the inputs minus the output at the baseline.
    """

    values: Tensor
    change_B: Tensor

    @property
    def missing_B(self) -> Tensor:
        """What the sum of the attributions lacks of the change, shape (B,)."""
        return self.change_B - self.values.flatten(1).sum(dim=1)

    @property
    def incompleteness(self) -> float:
        """The mean size of what is missing, as a share of the mean size of the change; 0 is complete."""
        return float(self.missing_B.abs().mean() / self.change_B.abs().mean().clamp(min=1e-12))


def saliency(forward: Forward, inputs: Tensor, targets_B: Tensor | None) -> Tensor:
    """Return how steeply the output rises with each number of the input (Simonyan et al., arXiv:1312.6034).

    Args:
        forward: Returns outputs of shape (B, C), or (B,) where there is no target to choose.
        inputs: float32, shape (B, ...).
        targets_B: The output that is explained for each row, int64; None where there is only one.

    Returns:
        The gradient's absolute value, of the shape of ``inputs``.
    """
    method = Saliency(forward)
    parts = [
        method.attribute(_leaf(inputs[rows]), target=_of(targets_B, rows))
        for rows in _chunks(len(inputs), MAX_CALL_ROWS)
    ]
    return torch.cat(parts).detach()


def integrated_gradients(
    forward: Forward,
    inputs: Tensor,
    targets_B: Tensor | None,
    *,
    baseline: Tensor | float = 0.0,
    extra: tuple[Tensor, ...] = (),
    num_steps: int = NUM_STEPS,
) -> Attribution:
    """Share what the output gains between a baseline and the inputs out among the inputs (arXiv:1703.01365).

    The gradient is integrated along the straight line from the baseline to the input, by Gauss-Legendre quadrature.

    Args:
        forward: Called with ``inputs`` and ``extra``; returns outputs of shape (B, C), or (B,).
        inputs: float32, shape (B, ...).
        targets_B: The output that is explained for each row, int64; None where there is only one.
        baseline: The input that says nothing: a number for all of it, or a tensor of the shape of one row, (1, ...).
        extra: Further arguments with a first axis of B, which nothing is attributed to, such as lengths.
        num_steps: Points on the line; more of them miss less.

    Returns:
        Attributions that sum to the change of the output, but for what the quadrature misses.
    """
    method = IntegratedGradients(forward)
    values, changes = [], []
    for rows in _chunks(len(inputs), max(1, MAX_CALL_ROWS // num_steps)):
        part, further = inputs[rows], tuple(tensor[rows] for tensor in extra)
        target = _of(targets_B, rows)
        values.append(
            method.attribute(
                _leaf(part),
                baselines=baseline,
                target=target,
                additional_forward_args=further or None,
                n_steps=num_steps,
            ).detach()
        )
        changes.append(_change(forward, part, torch.zeros_like(part) + baseline, further, target))
    return Attribution(values=torch.cat(values).float(), change_B=torch.cat(changes))


def chosen(outputs: Tensor, targets_B: Tensor | None) -> Tensor:
    """Return the output that is explained, shape (B,): that of its target in each row, or the only one."""
    return outputs if targets_B is None else outputs.gather(1, targets_B[:, None])[:, 0]


def _change(
    forward: Forward, inputs: Tensor, baseline: Tensor, extra: tuple[Tensor, ...], targets_B: Tensor | None
) -> Tensor:
    with torch.no_grad():
        return chosen(forward(inputs, *extra), targets_B) - chosen(forward(baseline, *extra), targets_B)


def _leaf(inputs: Tensor) -> Tensor:
    # captum warns of tensors that it has to ask for gradients itself
    return inputs.detach().clone().requires_grad_(True)


def _of(targets_B: Tensor | None, rows: slice) -> Tensor | None:
    return None if targets_B is None else targets_B[rows]


def _chunks(num_rows: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, num_rows, size))
