"""What is explained: one number for each row, taken from what a network returns.

Shape suffixes: B rows of the batch, C classes.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from app.tensors import Tensors
from training.export.verify import Run

Forward: TypeAlias = Callable[..., Tensor]


def log_odds(network: Forward) -> Forward:
    """Turn a classifier's logits into the log-odds of each class against all others together, in nats.

    A logit alone can rise for every class at once, and then explains none of them; the log-odds of a class rise only
    where its probability does.

    Args:
        network: Returns logits, of shape (B, C).

    Returns:
        A function of the same inputs, which returns log p/(1 - p), of shape (B, C).
    """

    def forward(*inputs: Tensor) -> Tensor:
        logits_BC = network(*inputs)
        own_CC = torch.eye(logits_BC.shape[1], dtype=torch.bool)
        others_BC = logits_BC.unsqueeze(1).masked_fill(own_CC, -torch.inf).logsumexp(dim=2)
        return logits_BC - others_BC

    return forward


def without_gradients(run: Run, input_name: str, output_name: str) -> Forward:
    """Call a model of any format as if it were a torch function; no gradient flows through it.

    Args:
        run: From :mod:`training.export.verify`, such as an ONNX session.
        input_name: Of its one input.
        output_name: Of the output that is explained.
    """

    def forward(inputs: Tensor) -> Tensor:
        tensors: Tensors = {input_name: inputs.detach().numpy()}
        return torch.from_numpy(run(tensors)[output_name])

    return forward


def predicted(network: Forward, *inputs: Tensor) -> Tensor:
    """Return the index of the class that a classifier chooses for each row, int64 of shape (B,)."""
    with torch.no_grad():
        return network(*inputs).argmax(dim=1)
