"""Checks that configs share; each names the field in its ValueError."""

import math
from typing import Any

MAX_SIZE = 65_536


def require_size(name: str, value: Any) -> None:
    """Refuse what is no positive whole number of units, channels, pixels or classes."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_SIZE:
        raise ValueError(f"{name} must be a whole number from 1 to {MAX_SIZE}, got {value!r}")


def require_number(name: str, value: Any, *, low: float, high: float = math.inf) -> None:
    """Refuse what is no finite number with ``low <= value < high``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < high:
        bound = f" and below {high:g}" if math.isfinite(high) else ""
        raise ValueError(f"{name} must be a number of at least {low:g}{bound}, got {value!r}")
