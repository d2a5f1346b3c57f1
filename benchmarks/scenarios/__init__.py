"""What is measured beside the side-by-side, one file each, found by its name.

A module offers ``measure(setting: Setting) -> Finding``; one whose name starts with ``_`` is shared by others.
"""

import importlib
import pkgutil
from typing import Protocol, cast

from benchmarks.findings import Finding, Setting


class _Scenario(Protocol):
    def measure(self, setting: Setting) -> Finding: ...


def names() -> tuple[str, ...]:
    """Return the names of all scenarios: the files of this folder."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")))


def measure(name: str, setting: Setting) -> Finding:
    """Measure one scenario."""
    return cast(_Scenario, importlib.import_module(f"{__name__}.{name}")).measure(setting)
