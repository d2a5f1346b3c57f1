"""The ``state_dict`` artifact: the network's weights as safetensors, which hold numbers and no code."""

import safetensors.torch
from torch import nn

FORMAT = "state_dict"
FILE_NAME = "weights.safetensors"


def dump(network: nn.Module) -> bytes:
    """Serialize the weights of a network, under the names that its architecture gives them."""
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in network.state_dict().items()})


def load(network: nn.Module, data: bytes) -> nn.Module:
    """Fill a network of the same architecture, and return it ready for inference.

    Raises:
        RuntimeError: The weights are those of another architecture or config.
    """
    network.load_state_dict(safetensors.torch.load(data), strict=True)
    return network.eval()
