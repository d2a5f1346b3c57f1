"""The options of a problem, which a config holds by name."""

from collections.abc import Mapping
from typing import Any


def expect_options(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options given, with the defaults of the others.

    Raises:
        ValueError: There is no such option, or its value is not of its default's type; the message names it.
    """
    if unknown := sorted(set(given) - set(defaults)):
        have = ", ".join(sorted(defaults)) or "none"
        raise ValueError(f"there is no data option {unknown[0]!r}; there are: {have}")
    for name, value in given.items():
        if type(value) is not type(defaults[name]):
            expected = type(defaults[name]).__name__
            raise ValueError(f"the data option {name!r} must be of type {expected}, got {value!r}")
    return {**defaults, **given}


def expect_positive(options: Mapping[str, Any], *names: str) -> None:
    """Refuse what is not above 0.

    Raises:
        ValueError: One is not; the message names it.
    """
    for name in names:
        if not options[name] > 0:
            raise ValueError(f"the data option {name!r} must be above 0, got {options[name]!r}")
