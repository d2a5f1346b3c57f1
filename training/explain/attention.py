"""What a transformer's tokens look at, and what of it reaches the last layer.

An attention weight tells where a token looks, not what follows from it: read maps beside attributions, never instead.

Shape suffixes: B rows of the batch, A heads, T tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def rollout(weights: Sequence[Tensor], lengths_B: Tensor) -> Tensor:
    """Follow attention through all layers (Abnar and Zuidema, arXiv:2005.00928).

    The heads of a layer are averaged; half of what leaves a layer is what came past it on the residual path; the
    layers are multiplied.

    Args:
        weights: Of each layer, from the input on: float32, shape (B, A, T, T), rows sum to 1 over the real tokens.
        lengths_B: Real tokens of each row, int64.

    Returns:
        float32, shape (B, T, T): how much of each output position (down) is each input token (across). Rows of real
        tokens sum to 1; padding is 0, as a row and as a column.

    Raises:
        ValueError: There is no layer, or the shapes are others.
    """
    if not weights:
        raise ValueError("rollout needs the weights of at least one layer")
    shape = weights[0].shape
    if len(shape) != 4 or shape[2] != shape[3] or any(layer.shape != shape for layer in weights):
        raise ValueError(f"weights must all have the shape (B, heads, T, T), got {[tuple(w.shape) for w in weights]}")
    real_BT = torch.arange(shape[3]) < lengths_B[:, None]
    real_BTT = (real_BT[:, :, None] & real_BT[:, None, :]).float()
    identity_TT = torch.eye(shape[3])
    flow_BTT = identity_TT * real_BTT
    for layer_BATT in weights:
        mixed_BTT = (0.5 * layer_BATT.mean(dim=1) + 0.5 * identity_TT) * real_BTT
        mixed_BTT = mixed_BTT / mixed_BTT.sum(dim=2, keepdim=True).clamp(min=1e-12)
        flow_BTT = mixed_BTT @ flow_BTT
    return flow_BTT


def pooled(flow_BTT: Tensor, lengths_B: Tensor) -> Tensor:
    """Return the share of each token in the mean over all real positions, float32 of shape (B, T)."""
    return flow_BTT.sum(dim=1) / lengths_B[:, None].clamp(min=1)
