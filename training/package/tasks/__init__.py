"""What each task wants to know of a model, one file each, found by the file's name.

Such a module offers ``find(source, config, asked) -> Found | None``: None where something has to be said first, of
which it told ``asked``.
"""

import importlib
from collections.abc import Callable

from training.package.asked import Asked, Found
from training.package.config import Config
from training.package.source import Source


def find(task: str, source: Source, config: Config, asked: Asked) -> Found | None:
    """Return what a task makes of a model; None where something is missing.

    Raises:
        PackageRefused: The model is none for this task, or what was said does not fit it.
    """
    finder: Callable[[Source, Config, Asked], Found | None] = importlib.import_module(f"{__name__}.{task}").find
    return finder(source, config, asked)
