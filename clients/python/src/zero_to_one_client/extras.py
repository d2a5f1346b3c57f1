"""What is optional: NumPy and Pillow. Nothing here imports them for a caller who gives neither arrays nor pictures."""

import importlib
import sys
from types import ModuleType
from typing import Any, TypeGuard

from zero_to_one_client.errors import MissingExtra


def is_array(value: object) -> bool:
    """Tell whether a value is an array of NumPy; where NumPy was never imported, none is."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def is_numpy(value: object) -> TypeGuard[Any]:
    """Tell whether a value is an array or a scalar of NumPy, which JSON knows nothing of."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic))


def is_picture(value: object) -> TypeGuard[Any]:
    """Tell whether a value is a picture of Pillow."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(value, pillow.Image)


def numpy(what: str) -> ModuleType:
    """Return NumPy.

    Args:
        what: Needs it, for the message.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        return importlib.import_module("numpy")
    except ImportError as exc:
        raise MissingExtra(what, "numpy") from exc
