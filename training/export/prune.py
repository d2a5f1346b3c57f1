"""The ``onnx-pruned`` artifact: a network with its least units removed, not only masked.

Zeros in a dense matrix save neither bytes nor time, so whole units go: the rows of a dense layer, or the channels of a
convolution, whose weights are least in sum of magnitudes (Li et al., arXiv:1608.08710), and with them the columns of
the next layer that read them. The mask is that of `torch.nn.utils.prune`.

Shape suffixes: U units of a layer, K those that are kept.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune as masks

from training import architectures
from training.errors import NotExportable
from training.export import onnx
from training.export.verify import onnx_runner

FORMAT = onnx.FORMAT
VARIANT = "pruned"
FILE_NAME = "model.pruned.onnx"

dump, runner = onnx.dump, onnx_runner

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Joint:
    """A layer whose units can be removed, and the layer that reads them.

    Attributes:
        layer: Path of the layer in the network, a `torch.nn.Linear` or `torch.nn.Conv2d`.
        reader: Path of the layer that reads its units, and nothing else does.
    """

    layer: str
    reader: str


def _mlp(config: Config, kept: list[int] | None) -> tuple[tuple[Joint, ...], dict[str, Any]]:
    depth = len(config["hidden"])
    # a dense layer, its activation and its dropout are three places of the body
    layers = [*(f"body.{3 * index}" for index in range(depth)), "head"]
    joints = tuple(Joint(layer=layer, reader=reader) for layer, reader in pairwise(layers))
    return joints, {} if kept is None else {"hidden": kept}


def _cnn(config: Config, kept: list[int] | None) -> tuple[tuple[Joint, ...], dict[str, Any]]:
    del config
    layers = ("conv1", "conv2", "dense", "head")
    joints = tuple(Joint(layer=layer, reader=reader) for layer, reader in pairwise(layers))
    return joints, {} if kept is None else {"channels": kept[:2], "dense": kept[2]}


_JOINTS: dict[str, Callable[[Config, list[int] | None], tuple[tuple[Joint, ...], dict[str, Any]]]] = {
    "cnn": _cnn,
    "mlp": _mlp,
}


def can_prune(architecture: str) -> bool:
    """Tell whether the joints of an architecture are known."""
    return architecture in _JOINTS


def prune(
    architecture: str,
    config: Config,
    network: nn.Module,
    *,
    share: float,
    fine_tune: Callable[[nn.Module], None] | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """Return a smaller network of the same architecture, which lacks the least units of every hidden layer.

    Args:
        architecture: Its registered name.
        config: As the manifest holds it.
        network: The trained one; it is left as it is.
        share: Of the units of each hidden layer, how many are removed; at least one stays.
        fine_tune: Called with the smaller network, to train it on.

    Returns:
        The smaller network, ready for inference, and its config.

    Raises:
        NotExportable: The joints of the architecture are not known.
        ValueError: The share is not between 0 and 1.
    """
    if not can_prune(architecture):
        raise NotExportable(f"no units of {architecture!r} can be removed; of these they can: {', '.join(_JOINTS)}")
    if not 0 < share < 1:
        raise ValueError(f"the share of units to remove must lie between 0 and 1, got {share}")
    joints, _ = _JOINTS[architecture](config, None)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    kept: list[int] = []
    for joint in joints:
        kept_K = _largest_units(network.get_submodule(joint.layer), share)
        kept.append(len(kept_K))
        _remove(state, joint, kept_K)
    _, changes = _JOINTS[architecture](config, kept)
    smaller_config = {**config, **changes}
    smaller = architectures.build(architecture, smaller_config)
    smaller.load_state_dict(state, strict=True)
    if fine_tune is not None:
        fine_tune(smaller)
    return smaller.eval(), smaller_config


def _largest_units(layer: nn.Module, share: float) -> Tensor:
    """Return the indices of the units that stay, rising: int64, shape (K,)."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    probe = nn.Module()
    probe.register_parameter("weight", nn.Parameter(weight.detach().clone()))
    num_removed = min(round(share * len(weight)), len(weight) - 1)
    masks.ln_structured(probe, "weight", amount=num_removed, n=1, dim=0)  # type: ignore[no-untyped-call]
    mask_U = dict(probe.named_buffers())["weight_mask"].flatten(1).amax(dim=1)
    return torch.nonzero(mask_U).flatten()


def _remove(state: dict[str, Tensor], joint: Joint, kept_K: Tensor) -> None:
    """Keep of a layer the given units, and of its reader the columns that read them."""
    weight, bias, reader = f"{joint.layer}.weight", f"{joint.layer}.bias", f"{joint.reader}.weight"
    num_units = len(state[weight])
    state[weight], state[bias] = state[weight][kept_K], state[bias][kept_K]
    columns = state[reader]
    # a channel that is flattened is read by as many columns as it has pixels, which lie together
    grouped = columns.reshape(len(columns), num_units, -1, *columns.shape[2:])
    state[reader] = grouped[:, kept_K].flatten(1, 2).contiguous()
