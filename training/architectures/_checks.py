"""Checks that configs share; each names the field in its ValueError."""

import math
from typing import Any

MAX_SIZE = 65_536
# No channel of a series lies beyond it, and its square is still a float32.
_LARGE = 1e18


def require_size(name: str, value: Any) -> None:
    """Refuse what is no positive whole number of units, channels, pixels or classes."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_SIZE:
        raise ValueError(f"{name} must be a whole number from 1 to {MAX_SIZE}, got {value!r}")


def require_number(name: str, value: Any, *, low: float, high: float = math.inf) -> None:
    """Refuse what is no finite number with ``low <= value < high``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value < high:
        bound = f" and below {high:g}" if math.isfinite(high) else ""
        raise ValueError(f"{name} must be a number of at least {low:g}{bound}, got {value!r}")


def require_numbers(name: str, value: Any, count: int, *, low: float = -_LARGE) -> None:
    """Refuse what is no empty list, and no list of ``count`` finite numbers of at least ``low``."""
    if not isinstance(value, tuple) or len(value) not in (0, count):
        raise ValueError(f"{name} must be an empty list or one of {count} numbers, got {value!r}")
    for index, number in enumerate(value):
        require_number(f"{name}[{index}]", number, low=low, high=_LARGE)


def require_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Refuse what is none of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def require_truth(name: str, value: Any) -> None:
    """Refuse what is neither true nor false."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")
