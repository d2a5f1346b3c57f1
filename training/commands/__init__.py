"""The commands of the trainer, one file each, found by the file's name; an underscore in it is a dash on the line.

Such a module says what it does in the first line of its docstring, and offers ``add_arguments(parser)`` and
``run(args)``, which returns an exit code where that may be another than 0.
"""

import importlib
import pkgutil
from types import ModuleType


def modules() -> dict[str, ModuleType]:
    """Return the module of each command, by its name on the line, sorted."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    return {name.replace("_", "-"): importlib.import_module(f"{__name__}.{name}") for name in names}
