"""PyTorch's exported programs, ``.pt2``: a graph of operators, with weights as raw bytes.

`torch.export.load` would run what such an archive may carry, so it is given only what :mod:`app.bundle.pt2` has read,
understood and written anew.
"""

import io
import re

from app.backends import Device
from app.backends._torch import TorchBackend, load_on
from app.bundle.loader import Bundle
from app.bundle.pt2 import clean
from app.errors import BackendUnavailable, BundleError

_OPERATOR = re.compile(r"torch\.ops\.aten\.([a-z_][a-z0-9_]{0,127})\.([A-Za-z][A-Za-z0-9_]{0,127})")
# what torch.export leaves of its own insides; other names with an underscore are nobody's interface
_PRIVATE = frozenset(
    [
        "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "_assert_scalar", "_assert_tensor_metadata", "_embedding_bag",
        "_log_softmax", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
        "_scaled_dot_product_flash_attention_for_cpu", "_softmax", "_to_copy", "_trilinear", "_unsafe_index",
        "_unsafe_view", "_weight_norm_interface",
    ]
)  # fmt: skip
# strings that choose a way of computing; others are names of files
_CHOICES = frozenset(
    [
        "UPLO", "approximate", "driver", "equation", "indexing", "mode", "norm", "ord", "padding", "padding_mode",
        "reduce", "rounding_mode", "side",
    ]
)  # fmt: skip


DEVICES = ("cpu", "cuda")


def load(bundle: Bundle, *, key: str = "torch_export", threads: int, device: Device = "auto") -> TorchBackend:
    """Inspect a ``torch_export`` artifact and load what it is made of; see :class:`app.backends.BackendModule`."""
    try:
        import torch
        from torch.export.passes import move_to_device_pass
    except ImportError as exc:
        raise BackendUnavailable("the torch_export backend needs torch: pip install 'zero-to-one[torch]'") from exc

    torch.set_num_threads(threads)
    artifact = bundle.artifact(key)
    archive = clean(bundle.read(artifact), is_operator=is_operator)

    def load_program(where: torch.device) -> torch.nn.Module:
        try:
            program = torch.export.load(io.BytesIO(archive))
        except Exception as exc:  # torch raises what it likes, a bare Exception and AssertionError among them
            raise BundleError(f"torch refuses the exported program: {exc}") from exc
        if where.type != "cpu":  # weights, constants, and the devices that its operators name
            program = move_to_device_pass(program, where)
        return program.module(check_guards=False)

    module, chosen = load_on(device, "the exported program", load_program)
    return TorchBackend(module, bundle.manifest, artifact, chosen)


def is_operator(target: str) -> bool:
    """Tell whether a node's target is an operator of ATen on tensors that neither reads nor writes files."""
    import torch

    found = _OPERATOR.fullmatch(target)
    if found is None or (found[1].startswith("_") and found[1] not in _PRIVATE):
        return False
    overload = getattr(getattr(torch.ops.aten, found[1], None), found[2], None)
    if not isinstance(overload, torch._ops.OpOverload):
        return False
    schema = overload._schema
    types = [str(part.type) for part in (*schema.arguments, *schema.returns)]
    return any("Tensor" in name for name in types) and all(
        argument.name in _CHOICES for argument in schema.arguments if "str" in str(argument.type)
    )
