"""The names that the Open Inference Protocol has for types, and NumPy's."""

from typing import Final

import numpy as np

# of the protocol; a model of ours has only those that `app.bundle.manifest.DType` knows
DTYPES: Final[dict[str, "np.dtype[np.generic]"]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
# known, and of no dtype of NumPy's
BYTES, BF16 = "BYTES", "BF16"
KNOWN: Final = frozenset((*DTYPES, BYTES, BF16))
_NAMES: Final = {dtype.name: name for name, dtype in DTYPES.items()}


def datatype_of(dtype: str) -> str:
    """Return the protocol's name of a dtype of the manifest: ``FP32`` for ``float32``."""
    return _NAMES[dtype]
