"""The ``torchscript`` artifact: a traced module, frozen, for runtimes that know nothing newer.

Traced and not scripted: TorchScript's compiler reads neither ``*inputs`` nor the half of Python that the architectures
are written in, while a trace keeps every size that comes from a tensor's shape. What it keeps is not taken on trust:
each trace is held against the module at other numbers of rows and steps.

torch.jit is deprecated in favor of torch.export, and says so; it is silenced here and nowhere else.
"""

import io
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from app.bundle.manifest import TensorSpec
from app.tensors import Tensors
from training.errors import NotExportable
from training.export.shapes import NUM_ROWS, NUM_STEPS, examples, named_axes
from training.export.verify import Run

FORMAT = "torchscript"
FILE_NAME = "model.torchscript"

# against the module itself, on the same machine
_ATOL = 1e-4

# where the source lies that was traced; and a number that torch draws for each file
_TRACES = re.compile(r".*\.debug_pkl|.*/\.data/serialization_id")

# before it a slash in the name of a file, a dot in the name of a class
_NUMBERED = re.compile(rb"[./]___torch_mangle_[0-9]+")


def dump(served: nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bytes:
    """Trace a module as it is served, with a batch and named axes of any length.

    Args:
        served: In inference mode; takes the inputs in order, returns the outputs in order.
        inputs: Their names, dtypes and shapes.
        outputs: Unused: a trace returns what the module returns, without names.

    Returns:
        A TorchScript archive without traces of the machine that wrote it.

    Raises:
        NotExportable: It cannot be traced, or the trace answers otherwise at another number of rows or steps.
    """
    del outputs
    with quiet_jit(), torch.no_grad():
        try:
            traced = torch.jit.trace(served, examples(inputs), check_trace=False)  # type: ignore[no-untyped-call]
            frozen = torch.jit.freeze(traced.eval(), optimize_numerics=False)
        except Exception as exc:  # whatever the module raises, and torch's own
            raise NotExportable(f"the network cannot be traced: {exc}") from exc
        for rows, steps in ((1, 1), (1, NUM_STEPS + 4), (NUM_ROWS + 3, NUM_STEPS - 1)):
            given = examples(inputs, rows=rows, lengths=dict.fromkeys(named_axes(inputs), steps))
            _expect_same(frozen, served, given)
        buffer = io.BytesIO()
        torch.jit.save(frozen, buffer)
    return _without_traces(buffer.getvalue())


def runner(data: bytes, input_names: Sequence[str], output_names: Sequence[str]) -> Run:
    """Return a function that runs a TorchScript archive; only of one that was made here: it is a program."""
    with quiet_jit():
        module = torch.jit.load(io.BytesIO(data), map_location="cpu").eval()  # type: ignore[no-untyped-call]

    def run(inputs: Tensors) -> Tensors:
        with torch.inference_mode():
            outputs = module(*(torch.tensor(inputs[name]) for name in input_names))
        return {name: output.numpy() for name, output in zip(output_names, outputs, strict=True)}

    return run


@contextmanager
def quiet_jit() -> Iterator[None]:
    """Silence the deprecation of torch.jit, and what tracing says of Python values: those are checked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", TracerWarning)
        yield


def _expect_same(traced: nn.Module, served: nn.Module, given: tuple[Tensor, ...]) -> None:
    shapes = [tuple(tensor.shape) for tensor in given]
    try:
        pairs = list(zip(traced(*given), served(*given), strict=True))
    except RuntimeError as exc:
        raise NotExportable(f"the trace of the network fails on inputs of the shapes {shapes}: {exc}") from exc
    for actual, expected in pairs:
        if actual.shape != expected.shape or not torch.allclose(actual, expected, atol=_ATOL, rtol=_ATOL):
            raise NotExportable(f"the trace of the network answers otherwise on inputs of the shapes {shapes}")


def _without_traces(data: bytes) -> bytes:
    """Write the archive again: no source positions, no time of day, no count of what was traced before."""
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        parts = {name: old.read(name) for name in old.namelist() if not _TRACES.fullmatch(name)}
    program = {name for name in parts if name.endswith((".py", "/data.pkl"))}
    # torch numbers the classes of a process; frozen, a module is one class, which needs no number
    numbered = {found[1:] for name in program for found in _NUMBERED.findall(name.encode() + parts[name])}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as new:
        for name, content in parts.items():
            if name in program and len(numbered) == 1:
                name, content = _NUMBERED.sub(b"", name.encode()).decode(), _NUMBERED.sub(b"", content)
            new.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()
