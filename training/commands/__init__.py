"""The commands of the trainer, one file each, found by the file's name; an underscore in it is a dash on the line.

Such a module says what it does in the first line of its docstring, and offers ``add_arguments(parser)`` and
``run(args)``.
"""

import argparse
import importlib
import pkgutil
from types import ModuleType


def modules() -> dict[str, ModuleType]:
    """Return the module of each command, by its name on the line, sorted."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    return {name.replace("_", "-"): importlib.import_module(f"{__name__}.{name}") for name in names}


def add_all(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add a parser for every command."""
    for name, module in modules().items():
        text = (module.__doc__ or name).splitlines()[0]
        parser = commands.add_parser(name, help=text[0].lower() + text[1:].rstrip("."), description=text)
        module.add_arguments(parser)
        parser.set_defaults(run=module.run)
